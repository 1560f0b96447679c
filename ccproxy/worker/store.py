"""
The keys' state on disk: a restart, also a kill -9, forgets no rest, no refusal and no count.

Theory of operation: one small SQLite file per entry. Keys stand in it under salted names from
which no key can be read. `Keeper` writes what changed a moment after it changed, in a thread, so
that no request waits for a disk; a full disk costs the memory of rests, never a request. A file
that cannot be read is set aside with a warning, and an empty one is begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from structlog.typing import FilteringBoundLogger

from ccproxy.pipeline.keys import KeyPool
from ccproxy.pipeline.tokens import Calibration

SAVE_AFTER = 0.2
"""Seconds in which changes are gathered; so much is lost at most."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS keys (id TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT;
"""
_SIDE_FILES = ("-wal", "-shm", "-journal")

Rows = Mapping[str, dict[str, Any]]


class Store:
    """
    One SQLite file. Its methods block; they may be called from any thread, one at a time.

    Raises:
        sqlite3.Error, OSError: By every method, if the disk does not do its part.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    @property
    def salt(self) -> bytes:
        """What the names of keys are salted with, made when the file was begun."""
        (salt,) = self._db.execute("SELECT value FROM meta WHERE name = 'salt'").fetchone()
        return bytes(salt)

    def load(self) -> dict[str, dict[str, Any]]:
        """Return the rows as they were saved; ValueError if they are something else."""
        rows = {name: json.loads(state) for name, state in self._db.execute("SELECT * FROM keys")}
        if not all(isinstance(state, dict) for state in rows.values()):
            raise ValueError("not the state of keys")
        return rows

    def save(self, rows: Rows) -> None:
        """Write *rows*; others stay as they are, for a key may come back."""
        encoded = [(name, json.dumps(state)) for name, state in rows.items()]
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO keys VALUES (?, ?)", encoded)

    def load_value(self, name: str) -> Any:  # noqa: ANN401 - JSON of any form
        """Return one value besides the keys, None if there is none."""
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def save_value(self, name: str, value: object) -> None:
        """Keep one value besides the keys."""
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, _blob(value)))

    def set_aside(self) -> Path:
        """Move the file out of the way and begin an empty one; return where it lies now."""
        with contextlib.suppress(sqlite3.Error, AttributeError):
            self._db.close()
        aside = self._path.with_name(f"{self._path.name}.damaged-{int(time.time())}")
        self._path.replace(aside)
        for ending in _SIDE_FILES:
            self._path.with_name(self._path.name + ending).unlink(missing_ok=True)
        self._open()
        return aside

    def prepare(self) -> None:
        """Make the tables, or see that they are whole; ValueError if the rows are not ours."""
        db = self._db
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        (verdict,) = db.execute("PRAGMA quick_check").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        db.executescript(_SCHEMA)
        with db:
            salt = secrets.token_bytes(16)
            db.execute("INSERT OR IGNORE INTO meta VALUES ('salt', ?)", (salt,))
        self.load()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _open(self) -> None:
        # Nobody else may read it, whatever the umask; a link is not followed to somebody's file.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(self._path, flags, 0o600))
        self._db = sqlite3.connect(self._path, timeout=5.0, check_same_thread=False)


def open_store(path: Path, *, log: FilteringBoundLogger) -> Store | None:
    """Open the file at *path*, set aside what is damaged; None if the disk does not allow it."""
    store = None
    try:
        store = Store(path)
        try:
            store.prepare()
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            aside = store.set_aside()
            log.warning("store.set_aside", file=str(path), now=str(aside), reason=str(error))
            store.prepare()
    except (sqlite3.Error, OSError) as error:
        log.warning("store.unusable", file=str(path), reason=str(error))
        return None
    return store


def _blob(value: object) -> bytes:
    return json.dumps(value).encode()


class Keeper:
    """Keeps a pool, and what was learnt about tokens, in a store."""

    def __init__(
        self,
        pool: KeyPool,
        calibration: Calibration,
        store: Store,
        *,
        log: FilteringBoundLogger,
        save_after: float = SAVE_AFTER,
    ) -> None:
        self._pool = pool
        self._calibration = calibration
        self._store = store
        self._log = log
        self._save_after = save_after
        self._salt = store.salt
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._saved: Rows = {}
        self._is_failing = False

    def restore(self) -> None:
        """Tell the pool what was kept, and listen to it from now on."""
        rows = self._store.load()
        try:
            self._pool.restore(rows, self._salt)
            self._calibration.restore(self._store.load_value("calibration") or {})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            aside = self._store.set_aside()
            self._store.prepare()
            self._salt = self._store.salt
            self._log.warning("store.set_aside", now=str(aside), reason=repr(error))
        self._pool.on_change = self._note

    async def close(self) -> None:
        """Save what is not saved yet, and close the file."""
        self._pool.on_change = lambda: None
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await self._task
        await self._save()
        self._store.close()

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
        rows = self._pool.export(self._salt)
        changed = {name: row for name, row in rows.items() if self._saved.get(name) != row}
        try:
            await asyncio.to_thread(self._write, changed, self._calibration.export())
        except (sqlite3.Error, OSError) as error:
            if not self._is_failing:
                self._log.warning("store.unwritable", reason=str(error))
            self._is_failing = True
        else:
            self._saved = rows
            self._is_failing = False

    def _write(self, rows: Rows, calibration: Mapping[str, object]) -> None:
        self._store.save(rows)
        self._store.save_value("calibration", calibration)
