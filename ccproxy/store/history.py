"""
Recorded conversations: the turns of user and model, per label, ordered by end time.

Turns are kept for 72 hours, like logs. The content is text only: tool inputs and results are not
stored, and keys are removed before a turn reaches this module.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from ccproxy.store.database import (
    Schema,
    database_errors,
    open_database,
    read_database,
    transaction,
)

FILE_NAME = "history.sqlite3"
RETENTION = timedelta(days=3)
"""The same as for logs."""
ROLES = ("user", "assistant")

SCHEMA = Schema(
    version=1,
    tables="""
        CREATE TABLE turns (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            label TEXT NOT NULL COLLATE NOCASE,
            at REAL NOT NULL,
            role TEXT NOT NULL,
            content TEXT NOT NULL,
            model TEXT NOT NULL,
            stored REAL NOT NULL
        );
        CREATE INDEX turns_of_label ON turns (label, id)
    """,
)


class Turn(NamedTuple):
    """One turn of a conversation."""

    at: float
    """Seconds since the epoch."""
    role: str
    content: str
    model: str
    """The model that answered; for a user's turn, the requested one."""

    def as_json(self) -> dict[str, str]:
        """Return the turn in the format of exports and responses."""
        stamp = datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds")
        return {
            "timestamp": stamp,
            "role": self.role,
            "content": self.content,
            "model_used": self.model,
        }


def add(connection: sqlite3.Connection, label: str, turns: Iterable[Turn]) -> None:
    """Append *turns* to the history of *label*."""
    with transaction(connection):
        _insert(connection, label, turns)


def prune(connection: sqlite3.Connection, *, now: float, keep: timedelta = RETENTION) -> int:
    """
    Delete the turns that have been stored for longer than *keep*; return their number.

    For imported turns, the time of the import counts.
    """
    oldest = _oldest(now, keep)
    return connection.execute("DELETE FROM turns WHERE stored < ?", (oldest,)).rowcount


def last(connection: sqlite3.Connection, label: str, *, limit: int | None = None) -> list[Turn]:
    """Return the last *limit* turns of *label*, or all if None, oldest first."""
    rows = connection.execute(
        "SELECT at, role, content, model FROM turns WHERE label = ? AND stored >= ? "
        "ORDER BY id DESC LIMIT ?",
        (label, _oldest(time.time()), -1 if limit is None else limit),
    ).fetchall()
    return [Turn(*row) for row in reversed(rows)]


def count(connection: sqlite3.Connection, label: str) -> int:
    """Return the number of turns of *label*."""
    (number,) = connection.execute(
        "SELECT COUNT(*) FROM turns WHERE label = ? AND stored >= ?",
        (label, _oldest(time.time())),
    ).fetchone()
    return int(number)


def clear(connection: sqlite3.Connection, label: str) -> int:
    """Delete the history of *label*; return the number of turns."""
    with transaction(connection):
        return connection.execute("DELETE FROM turns WHERE label = ?", (label,)).rowcount


def add_new(connection: sqlite3.Connection, label: str, turns: Iterable[Turn]) -> int:
    """Append the *turns* that *label* lacks; return their number."""
    with transaction(connection):
        present = {_mark(turn) for turn in last(connection, label)}
        new = [turn for turn in turns if _mark(turn) not in present]
        _insert(connection, label, new)
    return len(new)


def _insert(connection: sqlite3.Connection, label: str, turns: Iterable[Turn]) -> None:
    now = time.time()
    connection.executemany(
        "INSERT INTO turns (label, at, role, content, model, stored) VALUES (?, ?, ?, ?, ?, ?)",
        [(label, *turn, now) for turn in turns],
    )


def _oldest(now: float, keep: timedelta = RETENTION) -> float:
    return now - keep.total_seconds()


def _mark(turn: Turn) -> tuple[str, str, str]:
    """Return the identity of a turn, with its time in milliseconds, as in exports."""
    return turn.as_json()["timestamp"], turn.role, turn.content


# For the command line and the supervisor.


def read_turns(state: Path, label: str, *, limit: int | None = None) -> list[Turn]:
    """
    Read the last *limit* turns of *label* in the fleet's *state* folder.

    Raises:
        CcproxyError: If the file is damaged.
    """
    with database_errors(state / FILE_NAME):
        connection = read_database(state / FILE_NAME)
        if connection is None:
            return []
        with closing(connection):
            return last(connection, label, limit=limit)


def clear_turns(state: Path, label: str) -> int:
    """Delete the history of *label*; raises the same errors as `open_database`."""
    with closing(open_database(state / FILE_NAME, SCHEMA).connection) as connection:
        return clear(connection, label)


def add_new_turns(state: Path, label: str, turns: Sequence[Turn]) -> int:
    """Append the new *turns*, like `add_new`; raises the same errors as `open_database`."""
    with closing(open_database(state / FILE_NAME, SCHEMA).connection) as connection:
        return add_new(connection, label, turns)


def prune_turns(state: Path, *, keep: timedelta = RETENTION, dry_run: bool = False) -> int:
    """
    Delete the turns of every label that have been stored longer than *keep*; return their number.

    Raises the same errors as `open_database`, but creates no file.
    """
    path, now = state / FILE_NAME, time.time()
    if not path.is_file():
        return 0
    if not dry_run:
        with closing(open_database(path, SCHEMA).connection) as connection:
            return prune(connection, now=now, keep=keep)
    with database_errors(path):
        reader = read_database(path)
        if reader is None:
            return 0
        with closing(reader):
            query = "SELECT COUNT(*) FROM turns WHERE stored < ?"
            (number,) = reader.execute(query, (_oldest(now, keep),)).fetchone()
    return int(number)
