"""
One entry's keys: rests, refusals and counts, by salted names; and what was learnt on the way.

Several processes may write one file for a while (a reload replaces the process): `merge` writes
what a process has changed and leaves what another one has.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ccproxy.store.database import Schema, open_database, transaction

REFUSALS = "refusals"
"""Name of the value that holds what the provider refused."""

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
    """Return the file of *label*; labels differ by more than their case."""
    return home / "state" / f"{label.lower()}.keys.sqlite"


class KeyStore:
    """
    The file of one entry. Its methods block; any thread may call them, one at a time.

    Raises:
        sqlite3.Error, OSError: By every method, if the disk does not do its part.
        CcproxyError: On opening, if a newer ccproxy wrote the file.

    """

    def __init__(self, path: Path) -> None:
        opened = open_database(path, _SCHEMA)
        self.set_aside = opened.set_aside
        """Where the damaged file went that stood here, if there was one."""
        self._db: sqlite3.Connection = opened.connection

    @property
    def salt(self) -> bytes:
        """What the names of keys are salted with, made when the file was begun."""
        (salt,) = self._db.execute("SELECT value FROM meta WHERE name = 'salt'").fetchone()
        return bytes(salt)

    def load(self) -> dict[str, dict[str, Any]]:
        """Return the rows that can be read."""
        rows = {name: _read(state) for name, state in self._db.execute("SELECT * FROM keys")}
        return {name: row for name, row in rows.items() if isinstance(row, dict)}

    def save(self, rows: Rows) -> None:
        """Write *rows*; others stay as they are, for a key may come back."""
        with transaction(self._db):
            self._put(rows)

    def merge(self, rows: Rows, before: Rows) -> None:
        """Write by what *rows* differ from *before*: counts are added up, the rest replaced."""
        with transaction(self._db):
            there = self.load()
            self._put(
                {
                    name: _merged(row, before.get(name, {}), there.get(name, {}))
                    for name, row in rows.items()
                }
            )

    def load_value(self, name: str) -> Any:  # noqa: ANN401 - JSON of any form
        """Return one value besides the keys, None if there is none that can be read."""
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else _read(row[0])

    def save_value(self, name: str, value: object) -> None:
        """Keep one value besides the keys."""
        encoded = json.dumps(value).encode()
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, encoded))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _put(self, rows: Rows) -> None:
        encoded = [(name, json.dumps(state)) for name, state in rows.items()]
        self._db.executemany("INSERT OR REPLACE INTO keys VALUES (?, ?)", encoded)


def _merged(
    ours: Mapping[str, Any], before: Mapping[str, Any], there: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the row *there* with what has become of *before* in our hands."""
    changed = {name: value for name, value in ours.items() if value != before.get(name)}
    row = {**ours, **there, **changed}
    same_day = ours.get("day") == there.get("day") == before.get("day")
    if same_day and "used_today" in changed:
        row["used_today"] = there["used_today"] + ours["used_today"] - before["used_today"]
    return row


def _read(text: str | bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
