"""
Restores the supervisor's lock, control socket and record when they are removed.

Users remove them while the fleet runs (`rm -rf state`, `git clean -fdx`). They are checked every
second and recreated, so that the next command finds this supervisor and does not start a second
one. If another supervisor has taken the lock in the meantime, this one exits and leaves the workers
to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime

from ccproxy.config.fleet import Fleet
from ccproxy.files import write_atomically
from ccproxy.supervisor.journal import Journal
from ccproxy.supervisor.processes.identity import identify
from ccproxy.supervisor.sockets.unix_server import UnixServer
from ccproxy.supervisor.state.lock import Lock, is_same_file
from ccproxy.supervisor.state.records import SUPERVISOR_FILE, SupervisorRecord, read_supervisor

PERIOD = 1.0
"""Seconds between two checks; `client.RECOVERY` is longer."""


class FileGuard:
    """Keeps the supervisor's files in place; calls *on_superseded* if another has taken over."""

    def __init__(
        self,
        fleet: Fleet,
        server: UnixServer,
        *,
        lock: Lock | None,
        journal: Journal,
        on_superseded: Callable[[], None],
        restore_more: Callable[[], None] = lambda: None,
    ) -> None:
        self.removed = ""
        """A message for the user, with the time, if `state/` was removed; otherwise empty."""
        self._fleet = fleet
        self._server = server
        self._lock = lock
        self._journal = journal
        self._on_superseded = on_superseded
        self._restore_more = restore_more
        self._is_superseded = False
        self._last_complaint = ""
        self._folder: os.stat_result | None = None

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Check until cancelled, or until another supervisor has taken over."""
        while self.holds():
            self.restore()
            await sleep(PERIOD)

    def holds(self) -> bool:
        """Return True if this process is still the supervisor; reacquire a removed lock."""
        if self._is_superseded or self._lock is None:
            return not self._is_superseded
        try:
            self._is_superseded = not self._lock.renew()
        except OSError as error:
            # No other process can have taken a lock whose file cannot be created.
            self._complain("lock.failed", error)
        if self._is_superseded:
            self._journal("supervisor.superseded", level="warning", pid=os.getpid())
            self._on_superseded()
        return not self._is_superseded

    def restore(self) -> None:
        """Recreate the socket and the records of the supervisor and the workers if removed."""
        try:
            if self._server.restore():
                self._journal("socket.restored", level="warning", path=str(self._server.path))
        except OSError as error:
            self._complain("socket.failed", error)
        if not self._has_record:
            self.write_record()
        self._check_state_folder()
        self._restore_more()

    def write_record(self) -> None:
        """Write the supervisor's pid record; after a failure, the next check retries."""
        me = identify(os.getpid())
        if me is None:
            return
        record = SupervisorRecord(
            pid=me.pid,
            start_time=me.start,
            boot_id=me.boot,
            control=os.fspath(self._server.path),
            home=os.fspath(self._fleet.home),
        )
        try:
            text = json.dumps(asdict(record)) + "\n"
            write_atomically(self._fleet.pids / SUPERVISOR_FILE, text)
        except OSError as error:
            self._complain("record.failed", error)

    def remove_record(self) -> None:
        """Remove the record, unless it belongs to another supervisor."""
        if self._has_record:
            with contextlib.suppress(OSError):  # the folder has become read-only
                (self._fleet.pids / SUPERVISOR_FILE).unlink(missing_ok=True)

    def _check_state_folder(self) -> None:
        """Record that `state/` was replaced, because the workers' data in it is lost."""
        try:
            status = self._fleet.state.lstat()
        except OSError:
            return
        if self._folder is not None and not is_same_file(self._fleet.state, self._folder):
            at = datetime.now().strftime("%H:%M")
            self.removed = (
                f"state/ was removed at {at} and created again: disabled keys, cooldowns and "
                "statistics may be lost; fix: ccproxy restart"
            )
            self._journal("state.removed", level="warning", path=str(self._fleet.state))
        self._folder = status

    def _complain(self, event: str, error: OSError) -> None:
        if (text := f"{event} {error.strerror}") != self._last_complaint:  # not every second
            self._last_complaint = text
            self._journal(event, level="error", reason=str(error))

    @property
    def _has_record(self) -> bool:
        record = read_supervisor(self._fleet.pids)
        return record is not None and record.pid == os.getpid()
