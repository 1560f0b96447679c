"""Deletes old logs and history while the fleet runs, so that no cron job is needed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable

from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError
from ccproxy.log_rotation import prune
from ccproxy.store.history import prune_turns
from ccproxy.store.wall_clock import WallClock, describe_jump
from ccproxy.supervisor.journal import Journal

PERIOD = 3600.0
"""Seconds between two runs: an archive is deleted at most an hour late."""


class Retention:
    """Deletes old files at startup and then every hour."""

    def __init__(
        self,
        fleet: Fleet,
        journal: Journal,
        *,
        clock: WallClock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._logs = fleet.logs
        self._state = fleet.state
        self._journal = journal
        self._clock = clock or WallClock(fleet.state)
        self._sleep = sleep

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await asyncio.to_thread(self.clean)
            await self._sleep(PERIOD)

    def clean(self) -> None:
        """Delete old logs and history."""
        if jump := self._clock.jump():
            self._journal("cleanup.skipped", level="warning", reason=describe_jump(jump))
            return
        for clean in (self._clean_logs, self._clean_history, self._clean_recordings):
            try:
                clean()
            except (OSError, CcproxyError, sqlite3.Error) as error:
                self._journal("cleanup.failed", level="error", reason=str(error))

    def _clean_logs(self) -> None:
        removed = prune(self._logs)
        if removed:
            size = sum(one.size for one in removed)
            self._journal("logs.removed", archives=len(removed), bytes=size)

    def _clean_recordings(self) -> None:
        # Loads msgspec, which the supervisor does not otherwise need.
        from ccproxy.store.recordings import prune_recordings

        if recordings := prune_recordings(self._state):
            self._journal("recordings.removed", recordings=recordings)

    def _clean_history(self) -> None:
        if turns := prune_turns(self._state):
            self._journal("history.removed", turns=turns)
