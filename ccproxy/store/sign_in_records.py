"""The sign-ins of a gateway, for all workers of a fleet: `state/sign_ins.sqlite3`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
        """Return the record *name*, or None."""
        row = self._connection.execute(
            "SELECT data FROM records WHERE name = ?", (name,)
        ).fetchone()
        return None if row is None else row["data"]

    async def replace(
        self, name: str, old: bytes | None, new: bytes | None, *, seconds: float
    ) -> bool:
        """Store *new* for *seconds* if the record is still *old*; None means no record."""
        now = self._clock()
        if old is None:
            self._connection.execute("DELETE FROM records WHERE expires <= ?", (now,))
            statement = "INSERT OR IGNORE INTO records (data, expires, name) VALUES (?, ?, ?)"
            values: tuple[object, ...] = (new, now + seconds, name)
        elif new is None:
            statement, values = "DELETE FROM records WHERE name = ? AND data = ?", (name, old)
        else:
            statement = "UPDATE records SET data = ?, expires = ? WHERE name = ? AND data = ?"
            values = (new, now + seconds, name, old)
        return self._connection.execute(statement, values).rowcount == 1

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
