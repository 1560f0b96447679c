"""
What was said: the turns of user and model, per label, in the order in which they ended.

Kept as long as logs are: 3×24 hours. The content is text only; what tools were given and what
they gave back is never among it, and keys are taken out before a turn comes here.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from ccproxy.store.database import Schema, open_database, read_database, told, transaction

FILE_NAME = "history.sqlite3"
RETENTION = timedelta(days=3)
"""The same as of logs."""
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
    """The model that answered; for a user's turn the one that was asked."""

    def as_json(self) -> dict[str, str]:
        """Return the turn as exports and answers hold it."""
        stamp = datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds")
        return {
            "timestamp": stamp,
            "role": self.role,
            "content": self.content,
            "model_used": self.model,
        }


def add(connection: sqlite3.Connection, label: str, turns: Iterable[Turn]) -> None:
    """Append *turns* to what was said at *label*, and forget what is too old."""
    now = time.time()
    with transaction(connection):
        connection.executemany(
            "INSERT INTO turns (label, at, role, content, model, stored) VALUES (?, ?, ?, ?, ?, ?)",
            [(label, *turn, now) for turn in turns],
        )
        prune(connection, now=now)


def prune(connection: sqlite3.Connection, *, now: float, keep: timedelta = RETENTION) -> int:
    """
    Forget the turns that came here longer ago than *keep*; return how many those were.

    The turns of an import came with it, however old they are.
    """
    oldest = _oldest(now, keep)
    return connection.execute("DELETE FROM turns WHERE stored < ?", (oldest,)).rowcount


def last(connection: sqlite3.Connection, label: str, *, limit: int | None = None) -> list[Turn]:
    """Return the last *limit* turns of *label*, all if None, oldest first."""
    rows = connection.execute(
        "SELECT at, role, content, model FROM turns WHERE label = ? AND stored >= ? "
        "ORDER BY id DESC LIMIT ?",
        (label, _oldest(time.time()), -1 if limit is None else limit),
    ).fetchall()
    return [Turn(*row) for row in reversed(rows)]


def count(connection: sqlite3.Connection, label: str) -> int:
    """Return how many turns of *label* there are."""
    (found,) = connection.execute(
        "SELECT COUNT(*) FROM turns WHERE label = ? AND stored >= ?",
        (label, _oldest(time.time())),
    ).fetchone()
    return int(found)


def clear(connection: sqlite3.Connection, label: str) -> int:
    """Forget what was said at *label*; return how many turns that were."""
    with transaction(connection):
        return connection.execute("DELETE FROM turns WHERE label = ?", (label,)).rowcount


def add_new(connection: sqlite3.Connection, label: str, turns: Iterable[Turn]) -> int:
    """Append those of *turns* that *label* does not have yet; return how many those were."""
    known = {_mark(turn) for turn in last(connection, label)}
    new = [turn for turn in turns if _mark(turn) not in known]
    add(connection, label, new)
    return len(new)


def _oldest(now: float, keep: timedelta = RETENTION) -> float:
    return now - keep.total_seconds()


def _mark(turn: Turn) -> tuple[str, str, str]:
    """Return what a turn is known by again; from an export its time comes back rounded."""
    return turn.as_json()["timestamp"], turn.role, turn.content


# From outside the worker...


def read_turns(state: Path, label: str, *, limit: int | None = None) -> list[Turn]:
    """
    Read the last *limit* turns of *label* in the fleet's *state* folder.

    Raises:
        CcproxyError: If the file is damaged.

    """
    with told(state / FILE_NAME):
        connection = read_database(state / FILE_NAME)
        if connection is None:
            return []
        with closing(connection):
            return last(connection, label, limit=limit)


def clear_turns(state: Path, label: str) -> int:
    """Forget what was said at *label*; raises as `open_database` does."""
    with closing(open_database(state / FILE_NAME, SCHEMA).connection) as connection:
        return clear(connection, label)


def add_new_turns(state: Path, label: str, turns: Sequence[Turn]) -> int:
    """Append what is new of *turns* as `add_new` does; raises as `open_database` does."""
    with closing(open_database(state / FILE_NAME, SCHEMA).connection) as connection:
        return add_new(connection, label, turns)


def prune_turns(state: Path, *, keep: timedelta = RETENTION, dry_run: bool = False) -> int:
    """
    Forget the turns of every label that came longer ago than *keep*; return how many those are.

    Raises as `open_database` does, but makes no file where there is none.
    """
    path, now = state / FILE_NAME, time.time()
    if not path.is_file():
        return 0
    if not dry_run:
        with closing(open_database(path, SCHEMA).connection) as connection:
            return prune(connection, now=now, keep=keep)
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with told(path), closing(sqlite3.connect(uri, uri=True)) as connection:
        question = "SELECT COUNT(*) FROM turns WHERE stored < ?"
        (found,) = connection.execute(question, (_oldest(now, keep),)).fetchone()
    return int(found)
