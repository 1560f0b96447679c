"""One scripted provider and one worker per preset, which all cases share."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest_asyncio

from tests.cases.case import PLAIN
from tests.fleet import ROOT
from tests.ports import free_port
from tests.provider import Provider

KEY = "sk-upstream-case-1"


class Workers:
    """Workers by preset, started on first use."""

    def __init__(self, folder: Path, upstream: str) -> None:
        self._folder = folder
        self._upstream = upstream
        self._urls: dict[str, str] = {}
        self._running: list[asyncio.subprocess.Process] = []

    async def url(self, preset: str) -> str:
        """Return the address of the worker for *preset*."""
        if preset not in self._urls:
            self._urls[preset] = await self._start(preset)
        return self._urls[preset]

    async def _start(self, preset: str) -> str:
        port = free_port()
        file = self._folder / f"{preset}.env"
        file.write_text(self._settings(preset))
        file.chmod(0o600)
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "ccproxy.worker", "--home", str(self._folder)]
        command += ["--label", preset, "--env-file", str(file), "--port", str(port)]
        command += ["--nonce", "00", "--ready-fd", str(writing)]
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(self._folder)}
        child = await asyncio.create_subprocess_exec(*command, env=environ, pass_fds=[writing])
        self._running.append(child)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            ready = json.loads(await asyncio.to_thread(pipe.readline))
        assert ready["ready"], ready
        return f"http://127.0.0.1:{port}"

    def _settings(self, preset: str) -> str:
        lines = [f"PROVIDER={preset}"] if preset != PLAIN else []
        lines += [f"PROVIDER_BASE_URL={self._upstream}", f"PROVIDER_API_KEY={KEY}"]
        return "\n".join([*lines, "PASS_MODELS=*", "MAX_RETRIES=0", ""])

    async def stop(self) -> None:
        """Stop all workers."""
        for child in self._running:
            child.kill()
        for child in self._running:
            await child.wait()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def upstream() -> AsyncIterator[Provider]:
    """The provider of every worker; each case has its own script."""
    async with Provider() as provider:
        yield provider


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def workers(upstream, tmp_path_factory) -> AsyncIterator[Workers]:
    """The workers in front of `upstream`."""
    workers = Workers(tmp_path_factory.mktemp("cases"), upstream.url)
    try:
        yield workers
    finally:
        await workers.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """A client for all cases."""
    async with aiohttp.ClientSession() as session:
        yield session
