"""The sign-ins of a gateway, for all workers of a fleet: `state/sign_ins.sqlite3`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ccproxy.errors import Problem
from ccproxy.store.database import Schema, open_database

_SCHEMA = Schema(
    version=3,
    tables="""
    CREATE TABLE records (name TEXT PRIMARY KEY, data BLOB NOT NULL, expires REAL NOT NULL)
    WITHOUT ROWID;
    CREATE INDEX records_expires ON records (expires);
    """,
    upgrades={
        1: "ALTER TABLE sessions ADD COLUMN since REAL NOT NULL DEFAULT 0",
        2: """
        DROP TABLE devices;
        DROP TABLE sessions;
        CREATE TABLE records (name TEXT PRIMARY KEY, data BLOB NOT NULL, expires REAL NOT NULL)
        WITHOUT ROWID;
        CREATE INDEX records_expires ON records (expires);
        """,
    },
)


class SignInRecords:
    """Records in a file; each method is one statement, so workers need no other lock."""

    def __init__(self, folder: Path, *, clock: Callable[[], float]) -> None:
        """
        Open the file in *folder*.

        Raises:
            CcproxyError, OSError, sqlite3.Error: The same as `open_database`.
        """
        self._connection = open_database(folder / "sign_ins.sqlite3", _SCHEMA).connection
        self._clock = clock

    async def read(self, name: str) -> bytes | None:
        """Return the record *name*, or None; raises Problem like `replace`."""
        with _as_problem():
            row = self._connection.execute(
                "SELECT data FROM records WHERE name = ?", (name,)
            ).fetchone()
        return None if row is None else row["data"]

    async def replace(
        self, name: str, old: bytes | None, new: bytes | None, *, seconds: float
    ) -> bool:
        """
        Store *new* for *seconds* if the record is still *old*; None means no record.

        Raises:
            Problem: If the disk is full, or the file is damaged or locked for too long.
        """
        now = self._clock()
        if old is None:
            statement = "INSERT OR IGNORE INTO records (data, expires, name) VALUES (?, ?, ?)"
            values: tuple[object, ...] = (new, now + seconds, name)
        elif new is None:
            statement, values = "DELETE FROM records WHERE name = ? AND data = ?", (name, old)
        else:
            statement = "UPDATE records SET data = ?, expires = ? WHERE name = ? AND data = ?"
            values = (new, now + seconds, name, old)
        with _as_problem():
            if old is None:
                self._connection.execute("DELETE FROM records WHERE expires <= ?", (now,))
            return self._connection.execute(statement, values).rowcount == 1

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


@contextmanager
def _as_problem() -> Iterator[None]:
    """Convert SQLite's errors into one for the client, whose request may be repeated."""
    try:
        yield
    except sqlite3.Error as error:
        text = f"the gateway cannot use its sign-ins: {error}"
        raise Problem("api_error", text, status=503, should_retry=True) from error
