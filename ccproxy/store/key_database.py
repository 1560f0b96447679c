"""
The state of one entry's keys: cooldowns, refusals and counts, by salted names.

The file also holds the facts learned about the provider. Several processes may write it for a
while, because a reload replaces the process: `merge` writes only the changes made by one process.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ccproxy.store.database import Schema, open_database, transaction

REFUSALS = "refusals"
"""Name of the value that holds the provider's refusals."""
SESSIONS = "sessions"
"""Name of the value that holds each session's key."""
CALIBRATION = "token factors"
"""Name of the value with the factors of the token estimate; `calibration` held older weights."""

Rows = Mapping[str, Mapping[str, Any]]

_SCHEMA = Schema(
    version=1,
    tables="""
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
    CREATE TABLE keys (id TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT;
    INSERT INTO meta VALUES ('salt', randomblob(16))
    """,
)


def keys_path(home: Path, label: str) -> Path:
    """Return the file of *label*; labels differ by more than case."""
    return home / "state" / f"{label.lower()}.keys.sqlite"


class KeyStore:
    """
    The file of one entry. Its methods block; any thread may call them, but only one at a time.

    Raises:
        sqlite3.Error, OSError: By every method, if the file cannot be read or written.
        CcproxyError: When it is opened, if a newer ccproxy wrote the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = open_database(path, _SCHEMA)
        self.set_aside = self._file.set_aside
        """The new path of the damaged file that had this name; None if there was none."""
        self._db: sqlite3.Connection = self._file.connection

    @property
    def salt(self) -> bytes:
        """The salt for key names, created with the file."""
        (value,) = self._db.execute("SELECT value FROM meta WHERE name = 'salt'").fetchone()
        return bytes(value)

    def is_in_place(self) -> bool:
        """Return False if the file was removed or replaced."""
        return self._file.is_in_place()

    def recreate_if_removed(self) -> bool:
        """
        Recreate the file, with the same salt, if it was removed; return True if it was.

        The caller must then write everything again.
        """
        if self._file.is_in_place():
            return False
        salt = self.salt  # read from the removed file, which is still open
        self._db.close()
        self._file = open_database(self._file.path, _SCHEMA)
        self._db = self._file.connection
        self._db.execute("UPDATE meta SET value = ? WHERE name = 'salt'", (salt,))
        return True

    def load(self) -> dict[str, dict[str, Any]]:
        """Return the readable rows."""
        rows = {name: _read(state) for name, state in self._db.execute("SELECT * FROM keys")}
        return {name: row for name, row in rows.items() if isinstance(row, dict)}

    def merge(self, rows: Rows, before: Rows) -> None:
        """Write the changes from *before* to *rows*: counts are added, other fields replaced."""
        with transaction(self._db):
            stored = self.load()
            self._put(
                {
                    name: _merged(row, before.get(name, {}), stored.get(name, {}))
                    for name, row in rows.items()
                }
            )

    def load_value(self, name: str) -> Any:  # noqa: ANN401 - any JSON value
        """Return one value that is not about a key, or None if it is missing or unreadable."""
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else _read(row[0])

    def save_value(self, name: str, value: object) -> None:
        """Store one value that is not about a key."""
        encoded = json.dumps(value).encode()
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, encoded))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _put(self, rows: Rows) -> None:
        encoded = [(name, json.dumps(state)) for name, state in rows.items()]
        self._db.executemany("INSERT OR REPLACE INTO keys VALUES (?, ?)", encoded)


def _merged(
    ours: Mapping[str, Any], before: Mapping[str, Any], stored: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the *stored* row with the changes from *before* to *ours*."""
    changed = {name: value for name, value in ours.items() if value != before.get(name)}
    row = {**ours, **stored, **changed}
    is_counted = "used_today" in changed and "used_today" in stored and "used_today" in before
    if is_counted and ours.get("day") == stored.get("day") == before.get("day"):
        row["used_today"] = stored["used_today"] + ours["used_today"] - before["used_today"]
    return row


def _read(text: str | bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
