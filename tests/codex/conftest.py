"""The real Codex CLI, started by `ccproxy run` on a fleet for the scripted provider."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import FleetHome
from tests.installed_client import OFFLINE, installed_client

INSTALLED = "*/node_modules/@openai/codex-*/vendor/*/bin/codex"
TIMEOUT = 90.0
"""Seconds; a session takes two or three on an idle machine."""


@dataclass(frozen=True)
class CodexSession:
    """The report of one Codex run (`exec --json`)."""

    code: int
    events: list[dict[str, Any]]
    errors: str

    @property
    def items(self) -> list[dict[str, Any]]:
        """The completed items except warnings, in order."""
        done = [each["item"] for each in self.events if each["type"] == "item.completed"]
        return [item for item in done if item["type"] != "error"]

    @property
    def messages(self) -> list[str]:
        """The texts of the errors."""
        return [each["message"] for each in self.events if each["type"] == "error"]

    @property
    def text(self) -> str:
        """The final answer."""
        return str(self.items[-1]["text"])


class Codex:
    """Codex with its own home and working folder."""

    def __init__(self, binary: Path, home: FleetHome, folder: Path) -> None:
        self.home = home
        self.cwd = folder / "work"
        self.user_home = folder / "codex"
        self.config = self.user_home / ".codex/config.toml"
        self.cwd.mkdir(parents=True)
        self.config.parent.mkdir(parents=True)
        self._binary = binary

    async def run(self, label: str, prompt: str, *arguments: str) -> CodexSession:
        """Run `ccproxy run LABEL -- codex exec` on *prompt*."""
        table = str(self.home.path / "ccproxy.toml")
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ccproxy", "--config", table, "run", label, "--"),
            *(str(self._binary), "exec", "--json", "--skip-git-repo-check"),
            *("--dangerously-bypass-approvals-and-sandbox", *arguments, prompt),
            cwd=self.cwd,
            env={
                "HOME": str(self.user_home),
                "PATH": os.environ["PATH"],
                "PYTHONPATH": ":".join(sys.path),
                "LANG": "C.UTF-8",
                **OFFLINE,
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, errors = await asyncio.wait_for(child.communicate(), TIMEOUT)
        finally:
            if child.returncode is None:
                child.kill()
        assert child.returncode is not None
        lines = [line for line in out.decode().splitlines() if line.startswith("{")]
        events = [json.loads(line) for line in lines]
        return CodexSession(child.returncode, events, errors.decode())


@pytest.fixture(scope="session")
def codex_binary(request) -> Path:
    """$CCPROXY_CODEX, or the binary that `make test-codex` has installed."""
    return installed_client(request, "codex", "Codex CLI", INSTALLED, ".codex-cli")


@pytest.fixture
async def codex(codex_binary, tmp_path) -> AsyncIterator[Codex]:
    folder = tmp_path / "fleet"
    folder.mkdir()
    async with FleetHome(folder) as home:
        yield Codex(codex_binary, home, tmp_path)
