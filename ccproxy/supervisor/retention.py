"""Throws old logs and old history away while the fleet runs, so that nobody needs cron for it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable

from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError
from ccproxy.logs import prune
from ccproxy.store.history import prune_turns
from ccproxy.supervisor.journal import Journal
from ccproxy.supervisor.state.wall_clock import WallClock, leap_text

PERIOD = 3600.0
"""Seconds between two rounds: an archive goes at most an hour after its time."""

DAY = 86400.0
"""Seconds that a clock which was moved is mistrusted: its owner may put it right."""


class Retention:
    """Goes round at once and then every hour."""

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
        """Go on until cancelled."""
        while True:
            await self._sleep(await asyncio.to_thread(self.clean))

    def clean(self) -> float:
        """Remove what is old; return the seconds until the next round."""
        leap = self._clock.leap()
        self._clock.note()
        if leap:
            self._journal("cleanup.skipped", level="warning", reason=leap_text(leap))
            return DAY
        for clean in (self._clean_logs, self._clean_history):
            try:
                clean()
            except (OSError, CcproxyError, sqlite3.Error) as error:
                self._journal("cleanup.failed", level="error", reason=str(error))
        return PERIOD

    def _clean_logs(self) -> None:
        removed = prune(self._logs)
        if removed:
            size = sum(one.size for one in removed)
            self._journal("logs.removed", archives=len(removed), bytes=size)

    def _clean_history(self) -> None:
        if turns := prune_turns(self._state):
            self._journal("history.forgotten", turns=turns)
