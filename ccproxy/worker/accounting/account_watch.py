"""
Reads the keys' accounts periodically, and warns when little is left.

A report is read after the first requests and then once per interval, only while requests are sent,
and by only one process of an entry; the pool shares it with the others and keeps it across
restarts. A failure changes only the displayed text, because many keys have permission only to send
requests to models.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
from structlog.typing import FilteringBoundLogger

from ccproxy.config.worker_config import WorkerConfig
from ccproxy.keys.account_report import AccountReport, AccountUnknown, PlanWindow
from ccproxy.keys.pool import KeyPool
from ccproxy.text import mask_key
from ccproxy.worker.upstream.account_client import AccountClient

POLL_SECONDS = 5.0
"""Interval between checks for the first requests."""


class AccountWatch:
    """Keeps the reports of one worker's keys up to date."""

    def __init__(self, config: WorkerConfig, *, pool: KeyPool, log: FilteringBoundLogger) -> None:
        self._pool = pool
        self._log = log
        self._client = AccountClient(config)
        self._interval = config.accounts.interval
        self._keys = {
            f"k{number}": (key, endpoint)
            for number, key in enumerate(dict.fromkeys(config.api_keys), start=1)
            if (endpoint := self._client.endpoint(key)) is not None
        }
        self._warned: set[tuple[str, str, float | None]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start watching; must be called inside the event loop."""
        if self._keys:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        uses = self._uses()
        while True:
            await asyncio.sleep(min(POLL_SECONDS, self._interval))
            if self._pool.is_writer and (now_used := self._uses()) != uses:
                uses = now_used
                await self.read()
                await asyncio.sleep(self._interval)

    async def read(self) -> None:
        """Read the account of every key."""
        for key_id, (key, endpoint) in self._keys.items():
            try:
                report = await self._client.ask(endpoint, key)
            except AccountUnknown as error:
                self._note_failure(key_id, mask_key(key), str(error))
                continue
            self._pool.note_account(key_id, report)
            for window in report.low():
                self._warn(key_id, mask_key(key), window)

    def _note_failure(self, key_id: str, tail: str, reason: str) -> None:
        """Keep the last good report, and add the reason why there is no newer one."""
        old = next((key.account for key in self._pool.snapshot() if key.id == key_id), None)
        if old is None or not old.failure:
            self._log.info("account.unknown", key=tail, id=key_id, reason=reason)
        report = msgspec.structs.replace(old or AccountReport(), failure=reason)
        self._pool.note_account(key_id, report)

    def _warn(self, key_id: str, tail: str, window: PlanWindow) -> None:
        mark = (key_id, window.name, window.resets_at)
        if mark in self._warned:
            return
        # The new mark replaces the mark for the window's previous period.
        self._warned = {one for one in self._warned if one[:2] != mark[:2]} | {mark}
        self._log.warning(
            "account.low",
            key=tail,
            id=key_id,
            window=window.name,
            percent=round(100 * window.used),
            resets_at=window.resets_at,
        )

    def _uses(self) -> int:
        return sum(key.used_today + key.in_flight for key in self._pool.snapshot())
