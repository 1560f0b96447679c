"""
What the supervisor stands on: its lock, its control socket and its record, all of them files.

Somebody may remove them while the fleet runs (`rm -rf state`, `git clean -fdx`). They are looked
at every second and made anew, so that the next command finds this supervisor and starts no
second one. Where a second one has the lock already, the first ends and leaves the workers to it.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable

from ccproxy import __version__
from ccproxy.config.fleet import Fleet
from ccproxy.files import write_atomically
from ccproxy.supervisor.journal import Journal
from ccproxy.supervisor.processes.identity import identify
from ccproxy.supervisor.sockets.unix_server import Server
from ccproxy.supervisor.state.lock import Lock
from ccproxy.supervisor.state.records import read_supervisor

PERIOD = 1.0
"""Seconds between two looks; `client.RECOVERY` is longer."""


class FileGuard:
    """Keeps the supervisor's files in place; calls *lost* when another one has taken over."""

    def __init__(
        self,
        fleet: Fleet,
        server: Server,
        *,
        lock: Lock | None,
        journal: Journal,
        lost: Callable[[], None],
        renew_workers: Callable[[], None] = lambda: None,
    ) -> None:
        self._fleet = fleet
        self._server = server
        self._lock = lock
        self._journal = journal
        self._lost = lost
        self._renew_workers = renew_workers
        self._is_lost = False
        self._told = ""

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Go on until cancelled, or until another supervisor has taken over."""
        while self.holds():
            await self.renew()
            await sleep(PERIOD)

    def holds(self) -> bool:
        """Say whether the fleet is still ours; a lock that was removed is taken again."""
        if self._is_lost or self._lock is None:
            return not self._is_lost
        try:
            self._is_lost = not self._lock.renew()
        except OSError as error:
            # Nobody else can have taken a lock that cannot be made.
            self._complain("lock.lost", error)
        if self._is_lost:
            self._journal("supervisor.superseded", level="warning", pid=os.getpid())
            self._lost()
        return not self._is_lost

    async def renew(self) -> None:
        """Make anew what was removed of the socket and the record."""
        try:
            if await self._server.renew():
                self._journal("socket.renewed", level="warning", path=str(self._server.path))
        except OSError as error:
            self._complain("socket.lost", error)
        if not self._is_recorded:
            self.write_record()
        self._renew_workers()

    def write_record(self) -> None:
        """Write down who we are; what a full disk does not take is tried again."""
        me = identify(os.getpid())
        if me is None:
            return
        record = {
            "pid": me.pid,
            "start_time": me.start,
            "boot_id": me.boot,
            "control": os.fspath(self._server.path),
            "since": time.time(),
            "version": __version__,
        }
        try:
            write_atomically(self._fleet.pids / "supervisor.pid", json.dumps(record) + "\n")
        except OSError as error:
            self._complain("record.lost", error)

    def remove_record(self) -> None:
        """Remove what is written down about us, and nothing about another."""
        if self._is_recorded:
            (self._fleet.pids / "supervisor.pid").unlink(missing_ok=True)

    def _complain(self, event: str, error: OSError) -> None:
        if (text := f"{event} {error.strerror}") != self._told:  # not every second the same
            self._told = text
            self._journal(event, level="error", reason=str(error))

    @property
    def _is_recorded(self) -> bool:
        record = read_supervisor(self._fleet.pids)
        return record is not None and record.get("pid") == os.getpid()
