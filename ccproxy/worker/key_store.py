"""
Keeps the state of the keys on disk, so that it survives a restart and a kill -9.

Changes are written a moment after they happen, in a thread, so that no request waits for the disk.
If the disk is full, cooldowns are lost at a restart, but no request fails. The store also keeps
facts learned about the provider: how it counts tokens, and which fields it refuses.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from structlog.typing import FilteringBoundLogger

from ccproxy.convert.common.refused_features import LearnedRefusals
from ccproxy.convert.common.token_estimate import Calibration
from ccproxy.errors import CcproxyError
from ccproxy.keys.pool import KeyPool
from ccproxy.store.key_database import CALIBRATION, REFUSALS, SESSIONS, KeyStore, Rows

SAVE_AFTER = 0.2
"""Seconds for which changes are collected before a save; a crash loses only those changes."""
CHECK_SECONDS = 2.0
"""Interval between checks that the file still exists."""
SAVE_TIMEOUT = 3.0
"""Seconds that a command waits for a save; shorter than its time limit for the worker's reply."""
LESSONS_MAX_AGE = 7 * 86400.0
"""Seconds after which a field that the provider refused is sent again."""

MAX_DRIFT = 0.5
"""Seconds by which the end of a cooldown may shift because the wall and monotonic clocks drift."""

_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, slots=True)
class PersistentState:
    """The state that survives a restart."""

    pool: KeyPool
    calibration: Calibration
    learned: LearnedRefusals
    server: str = ""
    """The provider's base URL; refusals by another server are not restored."""
    keeps_refusals: bool = True
    """False for a proxy without a table: each start may use different settings and servers."""


def open_keeper(
    path: Path, state: PersistentState, *, log: FilteringBoundLogger
) -> KeyStateKeeper | None:
    """Open the file at *path* and restore its content; return None if that fails."""
    store = None
    try:
        store = KeyStore(path)
        keeper = KeyStateKeeper(state, store, log=log)
        keeper.restore()
    except (sqlite3.Error, OSError, CcproxyError) as error:
        if store is not None:
            store.close()
        log.warning("store.unusable", file=str(path), reason=str(error))
        return None
    if store.set_aside is not None:
        log.warning("store.set_aside", file=str(path), now=str(store.set_aside))
    return keeper


class KeyStateKeeper:
    """Keeps a pool, and the facts learned about its provider, in a store."""

    def __init__(
        self,
        state: PersistentState,
        store: KeyStore,
        *,
        log: FilteringBoundLogger,
        save_after: float = SAVE_AFTER,
    ) -> None:
        self._state = state
        self._store = store
        self._log = log
        self._save_after = save_after
        self._salt = store.salt
        self._timer: asyncio.TimerHandle | None = None
        self._check: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._saved: Rows = {}
        self._sessions: tuple[int, object] = (-1, None)
        """The version of the pool's sessions, and their exported form."""
        self._saved_values: dict[str, object] = {}
        self._error = ""
        """Why the last save failed; empty if it succeeded."""

    def restore(self) -> None:
        """Restore the pool, and start following its changes."""
        pool = self._state.pool
        parts: dict[str, Callable[[], None]] = {
            name: partial(pool.restore, {name: row}, self._salt)
            for name, row in self._store.load().items()
        }
        parts[CALIBRATION] = self._restore_calibration
        parts[REFUSALS] = self._restore_refusals
        parts[SESSIONS] = self._restore_sessions
        for name, restore in parts.items():
            try:
                restore()
            except _UNREADABLE as error:
                self._log.warning("store.row_unreadable", row=name, reason=repr(error))
        self._saved = pool.export(self._salt)
        self._saved_values = self._values()
        pool.on_change = self._schedule
        with suppress(RuntimeError):  # without an event loop there is no periodic check
            self._check_later()

    def _restore_calibration(self) -> None:
        self._state.calibration.restore(self._store.load_value(CALIBRATION) or {})

    def _restore_refusals(self) -> None:
        refusals = self._store.load_value(REFUSALS)
        if not refusals or not self._state.keeps_refusals:
            return
        is_recent = time.time() - float(refusals["at"]) < LESSONS_MAX_AGE
        if is_recent and refusals.get("server", "") == self._state.server:
            self._state.learned.restore(refusals["learnt"])

    def _restore_sessions(self) -> None:
        """Restore the key of each session: the provider may still cache the session's prompts."""
        if (rows := self._store.load_value(SESSIONS)) is not None:
            self._state.pool.restore_sessions(rows, self._salt)

    def _check_later(self) -> None:
        """Check regularly that the file exists; a restart without it would enable disabled keys."""
        loop = asyncio.get_running_loop()
        self._check = loop.call_later(CHECK_SECONDS, self._save_if_removed)

    def _save_if_removed(self) -> None:
        if not self._store.is_in_place():
            self._schedule()
        self._check_later()

    async def close(self) -> None:
        """Save pending changes and close the file."""
        self._state.pool.on_change = lambda: None
        if self._check is not None:
            self._check.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await self._task
        await self._save()
        self._store.close()

    async def save_now(self, *, limit: float = SAVE_TIMEOUT) -> str:
        """Save pending changes; return why they were not saved within *limit* seconds, or ''."""
        running = self._task
        self._task = asyncio.get_running_loop().create_task(self._save_after_task(running))
        done, _ = await asyncio.wait({self._task}, timeout=limit)
        return self._error if done else "the file is busy: another program has locked it"

    async def _save_after_task(self, running: asyncio.Task[None] | None) -> None:
        if running is not None:
            await running
        await self._save()

    def _schedule(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._save_after, self._begin)

    def _begin(self) -> None:
        if self._task is not None and not self._task.done():
            # The disk is slow: later changes are saved together after this save.
            self._timer = asyncio.get_running_loop().call_later(self._save_after, self._begin)
            return
        self._timer = None
        self._task = asyncio.get_running_loop().create_task(self._save())

    async def _save(self) -> None:
        await self._recreate_if_removed()
        values = self._values()
        rows = {
            name: _steady(row, self._saved.get(name))
            for name, row in self._state.pool.export(self._salt).items()
        }
        if not self._state.pool.is_writer:
            rows = {}  # if this process becomes the owner, every row is written
        changed = {name: row for name, row in rows.items() if row != self._saved.get(name)}
        new = {
            name: value for name, value in values.items() if value != self._saved_values.get(name)
        }
        if not changed and not new:
            self._saved, self._error = rows, ""
            return
        try:
            await asyncio.to_thread(self._write, changed, self._saved, new)
        except (sqlite3.Error, OSError) as error:
            if not self._error:
                self._log.warning("store.unwritable", reason=str(error))
            self._error = str(error)
        else:
            self._saved, self._saved_values, self._error = rows, values, ""

    async def _recreate_if_removed(self) -> None:
        """Recreate the file if it was removed; the next save then writes everything."""
        try:
            is_new = await asyncio.to_thread(self._store.recreate_if_removed)
        except (sqlite3.Error, OSError, CcproxyError) as error:
            self._error = str(error)
            return
        if is_new:
            self._log.warning("store.recreated")
            self._saved, self._saved_values = {}, {}

    def _write(self, rows: Rows, before: Rows, values: Mapping[str, object]) -> None:
        if rows:
            self._store.merge(rows, before)
        stamp = {"at": time.time(), "server": self._state.server}
        for name, value in values.items():
            stored = {**stamp, "learnt": value} if name == REFUSALS else value
            self._store.save_value(name, stored)

    def _values(self) -> dict[str, object]:
        values: dict[str, object] = {CALIBRATION: self._state.calibration.export()}
        if self._state.keeps_refusals:
            values[REFUSALS] = self._state.learned.export()
        if self._state.pool.keeps_sessions and self._state.pool.is_writer:
            values[SESSIONS] = self._exported_sessions()
        return values

    def _exported_sessions(self) -> object:
        version = self._state.pool.sessions_version
        if version != self._sessions[0]:
            self._sessions = (version, self._state.pool.export_sessions(self._salt))
        return self._sessions[1]


def _steady(row: dict[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return *row* with the cooldowns of *before* if they differ only by clock drift."""
    if before is None or len(row["cooldowns"]) != len(before["cooldowns"]):
        return row
    pairs = zip(row["cooldowns"], before["cooldowns"], strict=True)
    if all(_is_same(new, old) for new, old in pairs):
        return {**row, "cooldowns": before["cooldowns"]}
    return row


def _is_same(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    drift = abs(new["until"] - old["until"])
    return drift < MAX_DRIFT and {**new, "until": 0} == {**old, "until": 0}
