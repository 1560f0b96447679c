"""
The keys' state on disk: a restart, also a kill -9, forgets no rest, no refusal and no count.

Theory of operation: `Keeper` writes what changed a moment after it changed, in a thread, so that
no request waits for a disk; a full disk costs the memory of rests, never a request. Besides the
keys it keeps what was learnt about a provider: how it counts tokens and which fields it refuses.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from structlog.typing import FilteringBoundLogger

from ccproxy.convert.common.token_estimate import Calibration
from ccproxy.convert.direct.learning import Lessons
from ccproxy.errors import CcproxyError
from ccproxy.keys.pool import KeyPool
from ccproxy.store.key_database import KeyStore, Rows

SAVE_AFTER = 0.2
"""Seconds in which changes are gathered; so much is lost at most."""
LESSONS_LAST = 7 * 86400.0
"""Seconds after which a provider is asked anew whether it takes what it once refused."""

NOISE = 0.5
"""Seconds by which the end of a rest may wander between wall and monotonic clock."""

_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept over restarts."""

    pool: KeyPool
    calibration: Calibration
    lessons: Lessons


def keys_path(home: Path, label: str) -> Path:
    """Return where the keys of *label* are kept; labels differ by more than their case."""
    return home / "state" / f"{label.lower()}.keys.sqlite"


def open_keeper(path: Path, kept: Kept, *, log: FilteringBoundLogger) -> Keeper | None:
    """Open the file at *path* and restore what is in it; None if the disk does not allow it."""
    try:
        store = KeyStore(path)
        keeper = Keeper(kept, store, log=log)
        keeper.restore()
    except (sqlite3.Error, OSError, CcproxyError) as error:
        log.warning("store.unusable", file=str(path), reason=str(error))
        return None
    if store.set_aside is not None:
        log.warning("store.set_aside", file=str(path), now=str(store.set_aside))
    return keeper


class Keeper:
    """Keeps a pool, and what was learnt about the provider, in a store."""

    def __init__(
        self,
        kept: Kept,
        store: KeyStore,
        *,
        log: FilteringBoundLogger,
        save_after: float = SAVE_AFTER,
    ) -> None:
        self._kept = kept
        self._store = store
        self._log = log
        self._save_after = save_after
        self._salt = store.salt
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._saved: Rows = {}
        self._saved_values: dict[str, object] = {}
        self._trouble = ""
        """Why the last attempt to save failed."""

    def restore(self) -> None:
        """Tell the pool what was kept, and listen to it from now on."""
        pool = self._kept.pool
        for name, row in self._store.load().items():
            try:
                pool.restore({name: row}, self._salt)
            except _UNREADABLE as error:
                self._log.warning("store.row_unreadable", row=name, reason=repr(error))
        try:
            self._kept.calibration.restore(self._store.load_value("calibration") or {})
            learnt = self._store.load_value("lessons") or {"at": 0.0}
            if time.time() - float(learnt["at"]) < LESSONS_LAST:
                self._kept.lessons.restore(learnt["learnt"])
        except _UNREADABLE as error:
            self._log.warning("store.row_unreadable", row="learnt", reason=repr(error))
        self._saved = pool.export(self._salt)
        self._saved_values = self._values()
        pool.on_change = self._note

    async def close(self) -> None:
        """Save what is not saved yet, and close the file."""
        self._kept.pool.on_change = lambda: None
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await self._task
        await self._save()
        self._store.close()

    async def save_now(self) -> str:
        """Save what is not saved yet; return why that failed, empty if it did not."""
        while self._task is not None and not self._task.done():
            await asyncio.wait({self._task})
        self._task = asyncio.get_running_loop().create_task(self._save())
        await self._task
        return self._trouble

    def _note(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._save_after, self._begin)

    def _begin(self) -> None:
        if self._task is not None and not self._task.done():
            # The disk is slow: what comes meanwhile is saved together afterwards.
            self._timer = asyncio.get_running_loop().call_later(self._save_after, self._begin)
            return
        self._timer = None
        self._task = asyncio.get_running_loop().create_task(self._save())

    async def _save(self) -> None:
        values = self._values()
        rows = {
            name: _steady(row, self._saved.get(name))
            for name, row in self._kept.pool.export(self._salt).items()
        }
        if not self._kept.pool.is_writer:
            rows = {}  # should it fall to us, everything is written anew
        changed = {name: row for name, row in rows.items() if row != self._saved.get(name)}
        new = {name: value for name, value in values.items() if value != self._saved_values[name]}
        if not changed and not new:
            self._saved, self._trouble = rows, ""
            return
        try:
            await asyncio.to_thread(self._write, changed, self._saved, new)
        except (sqlite3.Error, OSError) as error:
            if not self._trouble:
                self._log.warning("store.unwritable", reason=str(error))
            self._trouble = str(error)
        else:
            self._saved, self._saved_values, self._trouble = rows, values, ""

    def _write(self, rows: Rows, before: Rows, values: Mapping[str, object]) -> None:
        if rows:
            self._store.merge(rows, before)
        for name, value in values.items():
            stamped = {"at": time.time(), "learnt": value} if name == "lessons" else value
            self._store.save_value(name, stamped)

    def _values(self) -> dict[str, object]:
        return {
            "calibration": self._kept.calibration.export(),
            "lessons": self._kept.lessons.export(),
        }


def _steady(row: dict[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return *row* with the rests of *before* if they are the same but for the clocks' noise."""
    if before is None or len(row["cooldowns"]) != len(before["cooldowns"]):
        return row
    pairs = zip(row["cooldowns"], before["cooldowns"], strict=True)
    if all(_is_same(rest, kept) for rest, kept in pairs):
        return {**row, "cooldowns": before["cooldowns"]}
    return row


def _is_same(rest: Mapping[str, Any], kept: Mapping[str, Any]) -> bool:
    return abs(rest["until"] - kept["until"]) < NOISE and {**rest, "until": 0} == {
        **kept,
        "until": 0,
    }
