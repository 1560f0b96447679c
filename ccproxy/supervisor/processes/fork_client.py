"""
Has workers forked by a process that has loaded what they need; `worker/fork_server.py` is that.

It is begun when an order is likely to start workers, while the settings are examined, and ended
soon after its last use: its memory is the workers' alone then, and the next order gets one that
has loaded the code of its own day. Whatever goes wrong ends it, is told in the log, and leaves the
supervisor to spawn its workers.

What it forks are our children: we have asked the kernel for all orphans below us. So a worker's
end and exit code reach us as those of a spawned one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ccproxy.supervisor.journal import Journal

_ROOM = " " * 4096
"""Where a worker writes its command line; paths may be long."""
_LONGEST_ANSWER = 64
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long it may take, in seconds."""

    load: float = 10.0
    """Until it can fork."""
    answer: float = 2.0
    """Until it has forked; the supervisor does nothing else meanwhile."""
    linger: float = 5.0
    """From its last use to its end."""


@dataclass(frozen=True, slots=True)
class Forked:
    """A worker that was forked."""

    pid: int

    def wait(self) -> int | None:
        """Wait for its end; return its exit code as subprocess does, None if it is not told."""
        try:
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            return None
        return os.waitstatus_to_exitcode(status)


@dataclass(slots=True)
class _Server:
    process: subprocess.Popen[bytes]
    channel: socket.socket
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether it has loaded, or never will."""
    ready: bool = False


class ForkServer:
    """The fork server, when there is one; an empty *command* means never."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        home: Path,
        environment: Mapping[str, str],
        journal: Journal,
        limits: Limits,
    ) -> None:
        self._command = command
        self._home = home
        self._environment = environment
        self._journal = journal
        self._limits = limits
        self._server: _Server | None = None
        self._end_at: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Begin one in place of the last."""
        self.end()
        if not self._command or sys.platform != "linux":
            return
        try:
            ours, process = self._spawn()
        except OSError as error:
            self._tell(error.strerror or str(error))
            return
        ours.settimeout(self._limits.answer)
        server = self._server = _Server(process, ours)
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, self._hear, server)
        self._end_at = loop.call_later(self._limits.load, self._fail, "not loaded in time")
        if not _takes_in_orphans():
            self._fail("the system leaves us no orphans")

    async def loaded(self) -> None:
        """Wait until it can fork; returns at once if there is none."""
        if self._server is not None:
            await self._server.settled.wait()

    def fork(self, arguments: Sequence[str], fds: Sequence[int]) -> Forked | None:
        """
        Start a worker; None if there is nobody to fork it.

        Raises:
            OSError: If it failed. Maybe there is a worker all the same: it ends when it finds
                nobody at its readiness pipe.

        """
        server = self._server
        if server is None or not server.ready:
            return None
        try:
            socket.send_fds(server.channel, [json.dumps(arguments).encode()], fds)
            forked = Forked(int(server.channel.recv(_LONGEST_ANSWER)))
        except (OSError, ValueError) as error:
            self._fail(str(error))
            raise OSError("the fork server has failed") from error
        self._linger()
        return forked

    def end(self) -> None:
        """End it, if there is one."""
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
                [*self._command, str(theirs.fileno()), _ROOM],
                cwd=self._home,
                env=self._environment,
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

    def _hear(self, server: _Server) -> None:
        """It is ready, or it has ended."""
        with contextlib.suppress(OSError):
            if server.channel.recv(_LONGEST_ANSWER) == b"ready":
                server.ready = True
                server.settled.set()
                self._linger()
                return
        self._fail("it has ended")

    def _linger(self) -> None:
        if self._end_at is not None:
            self._end_at.cancel()
        loop = asyncio.get_running_loop()
        self._end_at = loop.call_later(self._limits.linger, self.end)

    def _fail(self, reason: str) -> None:
        self.end()
        self._tell(reason)

    def _tell(self, reason: str) -> None:
        self._journal("forkserver.lost", level="warning", reason=f"{reason}; workers are spawned")


def _takes_in_orphans() -> bool:
    """Ask the kernel for the orphans below us; return whether it knows of such a thing."""
    try:
        import ctypes  # costs 10 ms, and most supervisors are only asked how things are

        refused = ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return False
    return not refused
