"""
Daily and monthly sums across all replicas, for budgets and usage.

A replica adds amounts to its own copy and reads sums from it. The script calls of the pool carry
new amounts and return the sums, so a ledger needs no calls of its own. Each batch of additions has
a number: if its reply is lost, it is sent again, but counted only once. Each row also carries the
last sums that the replica received, from which they are restored if Redis has lost its data.

Without Redis, a replica may spend its share of the amount that was left at the last reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from secrets import token_hex
from typing import NamedTuple

from ccproxy.errors import Problem
from ccproxy.keys.backends.partition import share_of
from ccproxy.keys.budgets import Period
from ccproxy.store.spending_ledger import Periods, Spent

MOST_SPENT = 1 << 53
"""The largest sum, because numbers in a script are doubles."""


class Sums(NamedTuple):
    """The reply to a batch."""

    epoch: bytes
    replicas: int
    rank: int
    """The position of this replica among all replicas."""
    rows: list[tuple[int, int, int, int, int]]
    """In each row: day, month, their sums, and the amount that other replicas have reserved."""


Batch = tuple[int, str, str, list[tuple[str | int, ...]]]
"""Its number, the known epoch, an epoch for new sums, and the rows described in `commit.lua`."""


@dataclass(slots=True)
class _Row:
    """The sums for one name."""

    day: int = 0
    month: int = 0
    confirmed: list[int] = field(default_factory=lambda: [0, 0])
    """The sums of the day and the month in Redis."""
    added: list[int] = field(default_factory=lambda: [0, 0])
    """The unconfirmed additions of this replica."""
    reserved: int = 0
    """The amount that this replica has reserved."""
    reserved_by_others: int = 0

    def begin(self, day: int, month: int) -> None:
        """Restart from zero if a new day or month has begun."""
        if day > self.day:
            self.day, self.confirmed[0], self.added[0] = day, 0, 0
        if month > self.month:
            self.month, self.confirmed[1], self.added[1] = month, 0, 0


class SharedLedger:
    """One replica's copy of a ledger in Redis."""

    def __init__(
        self,
        *,
        replicas: int,
        on_change: Callable[[], None],
        wait: Callable[[asyncio.Future[Problem | None]], Awaitable[Problem | None]],
    ) -> None:
        """
        *replicas* is the number of replicas to assume until the first contact.

        *on_change* is called when there is data to send; *wait* limits the wait for a reply.
        """
        self._on_change = on_change
        self._wait = wait
        self._rows: dict[str, _Row] = {}
        self._changed: dict[str, None] = {}
        """Names of the rows to send in the next batch."""
        self._number = 0
        self._sent: dict[str, tuple[int, int, int, int]] = {}
        """Periods and additions of the rows in the unconfirmed batch."""
        self._epoch = ""
        self._share = replicas, replicas - 1  # the last rank, which gets no part of the remainder
        """The number of replicas that share the remaining budget, and the rank of this one."""
        self._is_alone = True
        self._checks: list[Callable[[], None]] = []
        """The second checks of requests, which run once Redis has the requests' reservations."""
        self._sent_checks: list[Callable[[], None]] = []

    # The interface of a ledger.

    def add(self, name: bytes, amount: int, periods: Periods) -> None:
        """Add *amount* to the spending of *name* in *periods*."""
        self.add_later(name, amount, periods)
        self._change(name)

    def add_later(self, name: bytes, amount: int, periods: Periods) -> None:
        """Add *amount*; other replicas see it within a second, after the next `refresh`."""
        row = self._row(name)
        row.begin(*periods)
        day, month = row.added
        row.added = [min(day + amount, MOST_SPENT), min(month + amount, MOST_SPENT)]

    def reserve(self, name: bytes, amount: int) -> None:
        """Add *amount* to the reservation of *name*; a negative amount releases it."""
        row = self._row(name)
        self._change(name)
        row.reserved = min(max(0, row.reserved + amount), MOST_SPENT)

    def spent(self, name: bytes, periods: Periods) -> Spent:
        """Return the sums of all replicas; for a new name, they are complete after a `refresh`."""
        row = self._row(name)
        row.begin(*periods)
        day, month = map(sum, zip(row.confirmed, row.added, strict=True))
        others = 0 if self._is_alone else row.reserved_by_others
        return Spent(day, month, row.reserved + others, row.reserved)

    def reserved_for_others(self, name: bytes, period: Period, limit: int) -> int:
        """Return how much of *limit* the other replicas may spend; 0 while the state is shared."""
        if not self._is_alone:
            return 0
        row = self._rows.get(name.hex(), _Row())
        remaining = max(0, limit - row.confirmed[period == "month"])
        return remaining - share_of(remaining, *self._share)

    def check_later(
        self, raise_problem: Callable[[], None]
    ) -> Callable[[], Awaitable[None]] | None:
        """Call *raise_problem* once Redis has the reservations; the returned function awaits it."""
        if self._is_alone:
            return None  # without Redis, there would be no new data to check
        future: asyncio.Future[Problem | None] = asyncio.get_running_loop().create_future()

        def check() -> None:
            problem = None
            try:
                raise_problem()
            except Problem as error:
                problem = error
            if not future.done():
                future.set_result(problem)

        async def confirm() -> None:
            problem = await (future if future.done() else self._wait(future))
            if problem is not None:
                raise problem

        self._checks.append(check)

        return confirm

    def close(self) -> None:
        """Do nothing: the pool owns the connection."""

    def _row(self, name: bytes) -> _Row:
        row = self._rows.get(text := name.hex())
        if row is None:
            row = self._rows[text] = _Row()
        return row

    def _change(self, name: bytes) -> None:
        self._changed[name.hex()] = None
        self._on_change()

    # The batches.

    @property
    def has_changed(self) -> bool:
        """True if a batch must be sent."""
        return bool(self._changed or self._checks or self._sent)

    def refresh(self) -> None:
        """Read all sums with the next batch, and renew the reservations."""
        self._changed.update(dict.fromkeys(self._rows))

    def batch(self) -> Batch:
        """Return the new additions, or the previous batch if it is still unconfirmed."""
        if not self._sent:
            self._number += 1
            for name in self._changed:
                row = self._rows[name]
                self._sent[name] = (row.day, row.month, row.added[0], row.added[1])
            self._changed = {}
            self._sent_checks, self._checks = self._checks, []
        return (
            self._number,
            self._epoch,
            token_hex(8),
            [
                (name, *totals, row.reserved, *row.confirmed)
                for name, totals in self._sent.items()
                for row in (self._rows[name],)
            ],
        )

    def note(self, sums: Sums) -> None:
        """Apply the reply to the last batch."""
        epoch = sums.epoch.decode()
        if epoch != self._epoch:
            self._epoch = epoch
            self.refresh()  # Redis has lost the data, so the other rows are missing as well
        self._share = max(1, sums.replicas), sums.rank
        totals, self._sent = self._sent, {}
        for (name, was_sent), row in zip(totals.items(), sums.rows, strict=False):
            self._confirm(self._rows[name], was_sent, *row)
        checks, self._sent_checks = self._sent_checks, []
        for check in checks:
            check()

    def _confirm(
        self,
        row: _Row,
        totals: tuple[int, int, int, int],
        day: int,
        month: int,
        of_day: int,
        of_month: int,
        reserved: int,
    ) -> None:
        row.begin(day, month)
        if row.day == totals[0]:
            row.added[0] -= totals[2]
        if row.month == totals[1]:
            row.added[1] -= totals[3]
        if row.day == day:
            row.confirmed[0] = of_day
        if row.month == month:
            row.confirmed[1] = of_month
        row.reserved_by_others = reserved

    def join(self) -> None:
        """Continue with the sums of all replicas, which the last reply contained."""
        self._is_alone = False

    def separate(self) -> None:
        """Continue with this replica's share of the remaining budget."""
        self._is_alone = True
        self.refresh()
        checks = [*self._sent_checks, *self._checks]
        self._sent_checks, self._checks = [], []
        for check in checks:
            check()
