"""
A fleet in its own folder, driven through the command line: real processes, real signals.

    async with FleetHome(tmp_path) as home:
        home.write(kimi={"PROVIDER_BASE_URL": provider.url})
        await home.ccproxy("start")
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from tests.ports import free_port

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
PATIENCE = 60.0
"""Seconds to wait for a condition before a test fails; the machine may be busy."""


async def eventually(look: Callable[[], T | Awaitable[T]], *, within: float = PATIENCE) -> T:
    """
    Poll until the result is true, and return it.

    Raises:
        TimeoutError: If it does not become true in time; it contains the last result.
    """
    late = time.monotonic() + within
    while True:
        observed = look()
        if isinstance(observed, Awaitable):
            observed = await observed
        if observed:
            return observed
        if time.monotonic() > late:
            raise TimeoutError(f"still {observed!r} after {within:.0f} s")
        await asyncio.sleep(0.02)


def pause(pid: int) -> None:
    """Stop a process with SIGSTOP, and wait until the kernel has stopped it."""
    os.kill(pid, signal.SIGSTOP)
    process = psutil.Process(pid)
    late = time.monotonic() + PATIENCE
    while process.status() != psutil.STATUS_STOPPED:
        if time.monotonic() > late:
            raise TimeoutError(f"process {pid} is {process.status()} after SIGSTOP")
        time.sleep(0.001)


@dataclass(frozen=True, slots=True)
class Done:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


class FleetHome:
    """
    A fleet's home below *folder*, driven by the ccproxy in *package*.

    On exit it stops the fleet. Processes that are still running are killed and fail the test.
    """

    def __init__(self, folder: Path, *, package: Path = ROOT) -> None:
        self.path = folder
        self.ports: dict[str, int] = {}
        self.environ = {
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(package),
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
        }

    def write(self, **entries: dict[str, str]) -> None:
        """Write the table and an env file for each label; a label keeps its port."""
        new = [label for label in entries if label not in self.ports]
        self.ports |= {label: free_port() for label in new}
        (self.path / "envs").mkdir(exist_ok=True)
        lines = []
        for label, settings in entries.items():
            text = "".join(f"{name}={value}\n" for name, value in settings.items())
            file = self.path / f"envs/{label}.env"
            file.write_text(text)
            file.chmod(0o600)
            lines.append(f'  "{self.ports[label]}:envs/{label}.env:{label}",\n')
        (self.path / "ccproxy.toml").write_text("proxies = [\n" + "".join(lines) + "]\n")

    def url(self, label: str) -> str:
        """Return the URL of the proxy *label*."""
        return f"http://127.0.0.1:{self.ports[label]}"

    async def ccproxy(self, *words: str, **environ: str) -> Done:
        """Run a command and return its result."""
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ccproxy", *words),
            cwd=self.path,
            env={**self.environ, **environ},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(child.communicate(), 150)
        assert child.returncode is not None
        return Done(child.returncode, out.decode(), err.decode())

    async def status(self) -> dict[str, Any]:
        """Return the output of `status --json`."""
        done = await self.ccproxy("status", "--json")
        content: dict[str, Any] = json.loads(done.out)
        return content

    async def proxy(self, label: str) -> dict[str, Any]:
        """Return the row of one proxy."""
        rows = (await self.status())["proxies"]
        return next(row for row in rows if row["label"] == label)

    async def worker_pid(self, label: str) -> int:
        """Return the pid of a proxy with one process."""
        (pid,) = (await self.proxy(label))["pids"]
        return int(pid)

    async def supervisor_pid(self) -> int:
        """Return the pid of the supervisor."""
        return int((await self.status())["supervisor"]["pid"])

    def processes(self) -> list[psutil.Process]:
        """Return the processes of this fleet, whose command lines contain the home's path."""
        result = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                ours = any(str(self.path) in term for term in words)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    result.append(process)
        return result

    async def __aenter__(self) -> FleetHome:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if not self.processes():
            return
        await self.ccproxy("stop", "--now")
        try:
            await eventually(lambda: not self.processes(), within=5)
        finally:
            for process in self.processes():
                process.send_signal(signal.SIGKILL)
