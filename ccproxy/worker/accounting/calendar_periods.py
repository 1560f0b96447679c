"""The current day and month by the user's clock, for totals that restart with each of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from ccproxy.keys.budgets import Budget
from ccproxy.store.spending_ledger import Periods


class Calendar:
    """The current day and month by the user's clock."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._begin = self._end = 0.0
        self._periods = Periods(0, 0)
        self._month_end = 0.0

    def periods(self) -> Periods:
        """Return the current periods."""
        now = self._wall()
        if not self._begin <= now < self._end:
            moment = datetime.fromtimestamp(now)
            midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
            # This is also correct for days of 23 and 25 hours.
            self._begin = midnight.timestamp()
            self._end = (midnight + timedelta(days=1)).timestamp()
            next_month = (midnight.replace(day=1) + timedelta(days=31)).replace(day=1)
            self._month_end = next_month.timestamp()
            self._periods = Periods(midnight.toordinal(), moment.year * 12 + moment.month)
        return self._periods

    def end(self, budget: Budget) -> float:
        """Return the end of the budget's period, in seconds since the epoch."""
        self.periods()
        return self._end if budget.period == "day" else self._month_end

    def seconds_left(self, budget: Budget) -> float:
        """Return the seconds until the budget's period ends."""
        return self.end(budget) - self._wall()
