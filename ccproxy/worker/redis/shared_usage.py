"""The usage of an entry across all its replicas: daily and monthly sums."""

from __future__ import annotations

import time
from collections.abc import Callable

from ccproxy.keys.budgets import from_parts, to_parts
from ccproxy.store.usage_totals import Used
from ccproxy.worker.accounting.calendar_periods import Calendar
from ccproxy.worker.redis.shared_ledger import SharedLedger

_COST = "cost_usd"
_DOLLARS = "USD"
_COUNTERS: dict[str, Callable[[Used], int]] = {
    "requests": lambda _used: 1,
    "errors": lambda used: int(used.failed),
    "input_tokens": lambda used: used.input,
    "cache_read_tokens": lambda used: used.cached,
    "cache_creation_tokens": lambda used: used.written,
    "output_tokens": lambda used: used.output,
    _COST: lambda used: to_parts(used.cost or 0.0, _DOLLARS),
}


class SharedUsage:
    """Counts the requests of all replicas of an entry."""

    def __init__(self, ledger: SharedLedger, *, wall: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._calendar = Calendar(wall)
        self._names = {counter: f"usage:{counter}".encode() for counter in _COUNTERS}
        for name in self._names.values():
            ledger.reserve(name, 0)  # makes the first refresh read the sums, even before a request

    def add(self, used: Used) -> None:
        """Count one request; no limit depends on these sums, so they cause no script call."""
        periods = self._calendar.periods()
        for counter, amount_of in _COUNTERS.items():
            if amount := amount_of(used):
                self._ledger.add_later(self._names[counter], amount, periods)

    def as_json(self) -> dict[str, dict[str, float]]:
        """Return the sums of the day and of the month."""
        periods = self._calendar.periods()
        sums = {counter: self._ledger.spent(name, periods) for counter, name in self._names.items()}
        return {
            "today": {counter: _shown(counter, spent.day) for counter, spent in sums.items()},
            "month": {counter: _shown(counter, spent.month) for counter, spent in sums.items()},
        }


def _shown(counter: str, amount: int) -> float:
    return round(from_parts(amount, _DOLLARS), 6) if counter == _COST else amount
