"""A real SearXNG server, which `make searxng` installs; the tests are skipped if it is missing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.fleet import ROOT, eventually
from tests.ports import free_port
from tests.search_engine import SearchEngine

PYTHON = ROOT / ".searxng/bin/python"
START_SECONDS = 120.0
"""The start takes four seconds on an idle machine."""
SETTINGS = """\
use_default_settings:
  engines:
    keep_only: []
server:
  secret_key: 0123456789abcdef0123456789abcdef
  bind_address: 127.0.0.1
  port: {port}
  limiter: false
outgoing:
  request_timeout: 60
search:
  formats: {formats}
plugins: {{}}
engines:
  - {{name: local, shortcut: lo, search_url: "{engine}/?q={{query}}", disabled: false, {shape}}}
  - {{name: dead, shortcut: de, search_url: "http://127.0.0.1:9/?q={{query}}", {shape}}}
"""
SHAPE = (
    "engine: json_engine, categories: general, enable_http: true, results_query: results, "
    "url_query: url, title_query: title, content_query: content"
)

Server = Callable[..., AbstractAsyncContextManager[str]]
"""Starts a server with these answer formats; returns its address."""


@pytest.fixture
def searxng(tmp_path: Path, engine: SearchEngine) -> Server:
    """Start SearXNG, with the scripted search engine as its engine `local`."""
    if not PYTHON.exists():
        pytest.skip("SearXNG is not installed; run: make searxng")

    @asynccontextmanager
    async def run(formats: str = "[html, json]") -> AsyncIterator[str]:
        port = free_port()
        settings = tmp_path / "settings.yml"
        settings.write_text(
            SETTINGS.format(port=port, formats=formats, engine=engine.url, shape=SHAPE)
        )
        environ = {**os.environ, "SEARXNG_SETTINGS_PATH": str(settings), "TMPDIR": str(tmp_path)}
        with (tmp_path / "log").open("wb") as log:
            server = subprocess.Popen(
                [PYTHON, "-m", "searx.webapp"], env=environ, stdout=log, stderr=log
            )
        url = f"http://127.0.0.1:{port}"
        try:
            async with aiohttp.ClientSession() as client:
                await eventually(lambda: _answers(client, url), within=START_SECONDS)
            yield url
        finally:
            server.kill()
            server.wait()

    return run


async def _answers(client: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with client.get(f"{url}/healthz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


@pytest.fixture
async def engine() -> AsyncIterator[SearchEngine]:
    """The scripted search engine."""
    async with SearchEngine() as running:
        yield running
