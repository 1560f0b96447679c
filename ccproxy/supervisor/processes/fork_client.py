"""
Starts workers by forking a process that has loaded their code (`worker/fork_server.py`).

The fork server is started when a command is likely to start workers, while the configuration is
being checked, and stopped soon after its last use. From then on only the workers use its memory,
and the next command gets a server with the current code. Any failure ends the server and is
logged; the supervisor then spawns its workers.

Forked workers become children of the supervisor, which is a child subreaper, so it receives
their exit codes as it does for spawned workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ccproxy.supervisor.journal import Journal
from ccproxy.supervisor.processes.identity import start_of

_PADDING = " " * 4096
"""An argument that reserves space for a worker's command line, which has long paths."""
_MAX_REPLY = 64
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkLimits:
    """Time limits of the fork server, in seconds."""

    load: float = 10.0
    """From its start until it can fork."""
    answer: float = 2.0
    """Until it has forked, during which the supervisor is blocked."""
    linger: float = 5.0
    """From its last use until it is stopped."""


@dataclass(frozen=True, slots=True)
class ForkedProcess:
    """A worker process, started by the fork server or by the supervisor itself."""

    pid: int

    def wait(self) -> int | None:
        """Wait for it to exit; return its exit code as subprocess does, or None if unknown."""
        try:
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            return None
        return os.waitstatus_to_exitcode(status)

    def reap_orphans(self) -> bool:
        """
        Reap the children in its group that it has left to this process, a subreaper.

        Return True if none remains, False if some have not exited yet. Call it after `wait`.
        """
        try:
            while start_of(self.pid) is None:  # otherwise another process has its pid
                if os.waitpid(-self.pid, os.WNOHANG) == (0, 0):
                    return False
        except ChildProcessError:
            return True
        return True


@dataclass(slots=True)
class _Server:
    process: subprocess.Popen[bytes]
    channel: socket.socket
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it has loaded or failed to load."""
    is_ready: bool = False


class ForkServer:
    """The fork server, if one is running; with an empty *command*, none is ever started."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        home: Path,
        environment: Callable[[], Mapping[str, str]],
        journal: Journal,
        limits: ForkLimits,
    ) -> None:
        self._command = command
        self._home = home
        self._environment = environment
        self._journal = journal
        self._limits = limits
        self._server: _Server | None = None
        self._end_at: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Start a server, replacing the current one."""
        self.end()
        if not self._command or sys.platform != "linux":
            return
        try:
            channel, process = self._spawn()
        except OSError as error:
            self._report(error.strerror or str(error))
            return
        channel.settimeout(self._limits.answer)
        server = self._server = _Server(process, channel)
        loop = asyncio.get_running_loop()
        loop.add_reader(channel, self._read_ready, server)
        self._end_at = loop.call_later(self._limits.load, self._fail, "not loaded in time")
        if not _become_subreaper():
            self._fail("the system has no child subreapers")

    async def loaded(self) -> None:
        """Wait until the server can fork; return at once if there is none."""
        if self._server is not None:
            await self._server.settled.wait()

    def fork(self, arguments: Sequence[str], fds: Sequence[int]) -> ForkedProcess | None:
        """
        Start a worker; return None if there is no server.

        Raises:
            OSError: If forking fails. A worker may exist nevertheless; it exits when it finds its
                readiness pipe closed.
        """
        server = self._server
        if server is None or not server.is_ready:
            return None
        try:
            socket.send_fds(server.channel, [json.dumps(arguments).encode()], fds)
            process = ForkedProcess(int(server.channel.recv(_MAX_REPLY)))
        except (OSError, ValueError) as error:
            self._fail(str(error))
            raise OSError("the fork server has failed") from error
        self._linger()
        return process

    def end(self) -> None:
        """Stop the server, if there is one."""
        if self._end_at is not None:
            self._end_at.cancel()
        server, self._server = self._server, None
        if server is None:
            return
        asyncio.get_running_loop().remove_reader(server.channel)
        server.channel.close()
        server.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(1.0)
        server.settled.set()

    def _spawn(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            return ours, subprocess.Popen(  # noqa: S603 - our own program
                [*self._command, str(theirs.fileno()), _PADDING],
                cwd=self._home,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                umask=0o077,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()

    def _read_ready(self, server: _Server) -> None:
        with contextlib.suppress(OSError):
            if server.channel.recv(_MAX_REPLY) == b"ready":
                server.is_ready = True
                server.settled.set()
                self._linger()
                return
        self._fail("it has exited")

    def _linger(self) -> None:
        if self._end_at is not None:
            self._end_at.cancel()
        loop = asyncio.get_running_loop()
        self._end_at = loop.call_later(self._limits.linger, self.end)

    def _fail(self, reason: str) -> None:
        self.end()
        self._report(reason)

    def _report(self, reason: str) -> None:
        text = f"{reason}; workers are spawned instead"
        self._journal("forkserver.failed", level="warning", reason=text)


def _become_subreaper() -> bool:
    """Make orphaned descendants our children; return whether the system supports it."""
    try:
        import ctypes  # takes 10 ms to import, and most supervisors never fork

        failed = ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return False
    return not failed
