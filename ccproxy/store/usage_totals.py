"""
Usage totals: requests, errors, tokens, latency and costs per hour, label, model, key, session
and user.

Hours and days are those of the user's clock. The column `day` holds the hour, such as
`2026-11-29T14`; earlier versions wrote only the date, which can still be read. A request whose
model has no known price adds nothing to the cost and is counted as unpriced, so that an incomplete
sum is marked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

from ccproxy.store.database import Schema, database_errors, read_database, transaction
from ccproxy.store.writer import Note, Writer

FILE_NAME = "usage.sqlite3"

By = Literal["day", "label", "model", "key", "session", "user"]
GROUPS: tuple[By, ...] = ("day", "label", "model", "key", "session", "user")

_TABLE = """
    CREATE TABLE used (
        day TEXT NOT NULL,
        label TEXT NOT NULL,
        model TEXT NOT NULL,
        key TEXT NOT NULL,
        session TEXT NOT NULL DEFAULT '',
        user TEXT NOT NULL DEFAULT '',
        requests INTEGER NOT NULL,
        errors INTEGER NOT NULL,
        input INTEGER NOT NULL,
        output INTEGER NOT NULL,
        cached INTEGER NOT NULL,
        written INTEGER NOT NULL,
        reasoning INTEGER NOT NULL,
        ttfb REAL NOT NULL,
        answers INTEGER NOT NULL,
        cost REAL NOT NULL,
        unpriced INTEGER NOT NULL,
        above INTEGER NOT NULL DEFAULT 0,
        extra REAL NOT NULL DEFAULT 0,
        PRIMARY KEY (day, label, model, key, session, user)
    ) WITHOUT ROWID
"""
_FIRST_COLUMNS = """
    day, label, model, key, requests, errors, input, output, cached, written, reasoning, ttfb,
    answers, cost, unpriced
"""


def _copied(columns: str) -> str:
    """Return statements that copy *columns* into a new table: SQLite cannot extend a key."""
    return f"""
        ALTER TABLE used RENAME TO used_before;
        {_TABLE};
        INSERT INTO used ({columns}) SELECT {columns} FROM used_before;
        DROP TABLE used_before
    """  # noqa: S608 - our own names


SCHEMA = Schema(
    version=3,
    tables=_TABLE,
    upgrades={
        1: _copied(_FIRST_COLUMNS),
        2: _copied(f"{_FIRST_COLUMNS}, session, above, extra"),
    },
)


class Used(NamedTuple):
    """The usage of one request."""

    at: float
    """When it ended, in seconds since the epoch."""
    label: str
    model: str
    key: str
    """`…last4`; empty if the client's own key was forwarded or no key was leased."""
    failed: bool
    input: int
    output: int
    cached: int
    written: int
    reasoning: int
    """A part of `output`."""
    ttfb: float | None
    """Seconds to the first byte; None if there was none."""
    cost: float | None
    """US dollars; None if the model's price is unknown."""
    session: str = ""
    """Claude Code's session ID; empty for other clients."""
    user: str = ""
    """The user of the gateway; empty without one."""
    extra: float | None = None
    """The extra cost above a price threshold; None if the request was below it."""
    asked: bool = True
    """False if no request was sent to the provider."""
    is_abandoned: bool = False
    """True if the client disconnected before the answer, but after the request was sent."""


@dataclass(slots=True, kw_only=True)
class Totals:
    """Sums over requests; the fields are the columns of the file."""

    requests: int = 0
    errors: int = 0
    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    reasoning: int = 0
    ttfb: float = 0.0
    """Seconds, summed over `answers`."""
    answers: int = 0
    cost: float = 0.0
    unpriced: int = 0
    """Requests with tokens of unknown price, which `cost` does not include."""
    above: int = 0
    """Number of requests above a price threshold."""
    extra: float = 0.0
    """The extra cost of these requests."""

    def add(self, used: Used) -> None:
        """Count one request."""
        self.requests += 1
        self.errors += used.failed
        self.input += used.input
        self.output += used.output
        self.cached += used.cached
        self.written += used.written
        self.reasoning += used.reasoning
        if used.ttfb is not None:
            self.ttfb += used.ttfb
            self.answers += 1
        if used.cost is not None:
            self.cost += used.cost
        elif used.input or used.output or used.cached or used.written:
            self.unpriced += 1
        if used.extra is not None:
            self.above += 1
            self.extra += used.extra

    def merge(self, other: Totals) -> None:
        """Add the sums of *other*."""
        for name in _COLUMNS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def mean_ttfb(self) -> float | None:
        """Mean seconds to the first byte; None without answers."""
        return self.ttfb / self.answers if self.answers else None

    @property
    def known_cost(self) -> float | None:
        """The cost; None if no price is known."""
        return self.cost if self.cost or not self.unpriced else None

    @property
    def cache_hit_rate(self) -> float | None:
        """The share of the input that came from the cache; None without input."""
        total = self.input + self.cached + self.written
        return self.cached / total if total else None

    def as_json(self) -> dict[str, object]:
        """Return the sums in the format that `usage --json` shows."""
        mean, hit = self.mean_ttfb, self.cache_hit_rate
        return {
            "requests": self.requests,
            "errors": self.errors,
            "input_tokens": self.input,
            "cache_read_tokens": self.cached,
            "cache_creation_tokens": self.written,
            "cache_hit_rate": None if hit is None else round(hit, 4),
            "output_tokens": self.output,
            "reasoning_tokens": self.reasoning,
            "mean_ttfb_seconds": None if mean is None else round(mean, 3),
            "cost_usd": None if self.known_cost is None else round(self.known_cost, 6),
            "unpriced_requests": self.unpriced,
            "requests_above_threshold": self.above,
            "extra_cost_usd": round(self.extra, 6),
        }


_GROUP_BY = {"day": "substr(day, 1, 10)"}


class UsageRow(NamedTuple):
    """The sums of one group."""

    group: tuple[str, ...]
    totals: Totals


_COLUMNS = tuple(field.name for field in fields(Totals))
_ADD = f"""
    INSERT INTO used ({", ".join((*GROUPS, *_COLUMNS))})
    VALUES ({", ".join("?" * (len(GROUPS) + len(_COLUMNS)))})
    ON CONFLICT DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in _COLUMNS)}
"""  # noqa: S608 - built from our own field names


def usage_writer(state: Path, *, warn: Note) -> Writer[Used]:
    """Return the writer of the statistics in the fleet's *state* folder."""
    return Writer(state / FILE_NAME, SCHEMA, write=add, warn=warn)


def add(connection: sqlite3.Connection, batch: Sequence[Used]) -> None:
    """Add the requests in *batch* to the totals."""
    sums: dict[tuple[str, ...], Totals] = {}
    for used in batch:
        row = (hour_of(used.at), used.label, used.model, used.key, used.session, used.user)
        sums.setdefault(row, Totals()).add(used)
    with transaction(connection):
        for group, totals in sums.items():
            connection.execute(_ADD, (*group, *asdict(totals).values()))


def summed(
    state: Path, *, by: Sequence[By], since: float = 0.0, labels: Sequence[str] | None = None
) -> list[UsageRow]:
    """
    Return the totals of every group since the hour of *since*, for all labels if *labels* is None.

    Raises:
        CcproxyError: If the file is damaged.
    """
    path = state / FILE_NAME
    with database_errors(path):
        connection = read_database(path)
    if connection is None:
        return []
    with database_errors(path), closing(connection):
        # A file from an earlier version has fewer columns until a worker upgrades it.
        stored = {row["name"] for row in connection.execute("PRAGMA table_info(used)")}
        names = [name if name in stored else "''" for name in GROUPS if name in by]
        groups = ", ".join(_GROUP_BY.get(name, name) for name in names)
        sums = ", ".join(f"SUM({name if name in stored else 0}) AS {name}" for name in _COLUMNS)
        where, values = "day >= ?", [_first_hour(since)]
        if labels is not None:
            where += f" AND label IN ({', '.join('?' * len(labels))})"
            values += labels
        query = f"SELECT {groups}, {sums} FROM used WHERE {where} GROUP BY {groups}"  # noqa: S608 - our own names
        rows = connection.execute(query, values).fetchall()
    return [_row(row) for row in rows]


def today(state: Path) -> dict[str, Totals]:
    """
    Return the totals of each label since midnight by the user's clock.

    Raises:
        CcproxyError: If the file is damaged.
    """
    midnight = datetime.now().replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    return {row.group[0]: row.totals for row in summed(state, by=["label"], since=midnight)}


def hour_of(at: float) -> str:
    """Return the hour of *at* by the user's clock, as YYYY-MM-DDTHH."""
    return datetime.fromtimestamp(at).strftime("%Y-%m-%dT%H")


def _first_hour(since: float) -> str:
    """Return the lowest value of the column `day`; at midnight, the date, which sorts before 00."""
    return hour_of(since).removesuffix("T00")


def _row(row: sqlite3.Row) -> UsageRow:
    width = len(row) - len(_COLUMNS)
    return UsageRow(tuple(row[:width]), Totals(**dict(zip(_COLUMNS, row[width:], strict=True))))
