"""
Run the real Claude Code once, without a terminal and without a network.

Its home is new, and its environment allows only loopback: a request to any other address goes to a
closed port.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.installed_client import OFFLINE

ENVIRONMENT = {
    **OFFLINE,
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
}
TIMEOUT = 90.0
"""Seconds; a session takes one or two on an idle machine."""


@dataclass(frozen=True)
class Session:
    """The report of one Claude Code run (`--output-format stream-json`)."""

    code: int
    events: list[dict[str, Any]]
    errors: str

    @cached_property
    def result(self) -> dict[str, Any]:
        """The result event, or an empty one."""
        results = [event for event in self.events if event.get("type") == "result"]
        return results[-1] if results else {}

    @property
    def text(self) -> str:
        """The final answer."""
        return str(self.result.get("result"))

    @cached_property
    def _blocks(self) -> list[dict[str, Any]]:
        messages = [
            event["message"] for event in self.events if isinstance(event.get("message"), dict)
        ]
        contents = [message["content"] for message in messages]
        return [block for content in contents if isinstance(content, list) for block in content]

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The tool calls that Claude Code recognised, in order."""
        return [block for block in self._blocks if block["type"] == "tool_use"]

    @property
    def tool_results(self) -> dict[str, str]:
        """The text of each call's result, by the call's id."""
        return {
            block["tool_use_id"]: json.dumps(block["content"])
            for block in self._blocks
            if block["type"] == "tool_result"
        }

    def expect(self, text: str) -> None:
        """Assert that the session succeeded and ended with *text*."""
        story = f"exit {self.code}, result {self.result}, stderr {self.errors[-400:]}"
        assert self.code == 0, story
        assert self.result.get("is_error") is False, story
        assert self.text == text, story


@dataclass(frozen=True)
class Claude:
    """Claude Code with its own home and working folder."""

    binary: Path
    folder: Path
    environ: Mapping[str, str]

    @property
    def cwd(self) -> Path:
        """Its working folder."""
        return self.folder / "work"

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of the process."""
        self.cwd.mkdir(exist_ok=True)
        return {
            "HOME": str(self.folder),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "SHELL": "/bin/bash",
            "IS_SANDBOX": "1",  # the tests may run as root
            "CLAUDE_CODE_MAX_RETRIES": "2",
            **ENVIRONMENT,
            **self.environ,
            **more,
        }

    async def run(self, prompt: str, *arguments: str, **environ: str) -> Session:
        """Run a session with *prompt*; *environ* is added to its environment."""
        command = [str(self.binary), *self.arguments(prompt, *arguments)]
        return await play(command, self.cwd, self.environment(**environ))

    @staticmethod
    def arguments(prompt: str, *more: str) -> list[str]:
        """Return the arguments of the program."""
        fixed = ["-p", "--output-format", "stream-json", "--verbose"]
        return [*fixed, "--dangerously-skip-permissions", *more, "--", prompt]


async def play(command: list[str], cwd: Path, environ: Mapping[str, str]) -> Session:
    """Run *command*, which is Claude Code or starts it, and return its report."""
    async with started(command, cwd, environ) as child:
        out, errors = await asyncio.wait_for(child.communicate(), TIMEOUT)
    assert child.returncode is not None
    lines = [line for line in out.decode().splitlines() if line.startswith("{")]
    return Session(child.returncode, [json.loads(line) for line in lines], errors.decode())


@contextlib.asynccontextmanager
async def started(command: list[str], cwd: Path, environ: Mapping[str, str]):
    """Start *command* in its own session, which is killed when the block ends."""
    child = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=dict(environ),
        limit=2**26,
        start_new_session=True,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()
