"""
Model prices, and the cost of an answer's usage.

A price has base rates and up to three exceptions: rates for long prompts (tiers), rates by time of
day (off-peak), and rates of the batch API. ccproxy does not use the batch API; its rates are shown
only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Literal

import msgspec

PRICES = ("input", "output", "cache_read", "cache_write")
"""The first fields of `Rates`, in the order in which the setting PRICES lists them."""
MINUTES_PER_DAY = 24 * 60
_USAGE_FIELDS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)
_prices = attrgetter(*PRICES)


class Rates(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Amounts per million tokens; None where the provider publishes none."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    """Anthropic: the five-minute cache."""
    cache_write_1h: float | None = None
    """Anthropic and Kimi: the one-hour cache."""


class PriceTier(Rates, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """
    Rates of requests with long prompts.

    They hold for the whole request, its output included. A rate that is None is that of the base
    rates.
    """

    above: int
    """The rates hold if the prompt has more tokens, those of the cache included."""


class Hours(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A part of the week, in UTC."""

    start: str
    """HH:MM"""
    end: str
    """HH:MM, not included; 24:00 is the end of the day."""
    days: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)
    """1 is Monday."""

    def __post_init__(self) -> None:
        """Refuse times and days that do not exist."""
        if not 0 <= _minute(self.start) < _minute(self.end) <= MINUTES_PER_DAY:
            raise ValueError(f"{self.start}-{self.end} are not two times of one day, in order")
        if not self.days or not set(self.days) <= {*range(1, 8)}:
            raise ValueError(f"days are numbers from 1 (Monday) to 7, got {list(self.days)}")

    def contain(self, *, day: int, minute: int) -> bool:
        """Return True for the *minute* of a *day* (1 is Monday)."""
        return day in self.days and _minute(self.start) <= minute < _minute(self.end)


class OffPeak(Rates, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Rates of requests that are sent at certain hours. They replace the base rates."""

    hours: tuple[Hours, ...]

    def applies(self, *, day: int, minute: int) -> bool:
        """Return True at the *minute* of a *day* of the week in UTC (1 is Monday)."""
        return any(hours.contain(day=day, minute=minute) for hours in self.hours)


class Price(Rates, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The base rates of a model, and their exceptions."""

    tiers: tuple[PriceTier, ...] = ()
    """By rising thresholds; the last one that is exceeded applies."""
    off_peak: OffPeak | None = None
    batch: Rates | None = None
    currency: Literal["USD"] = "USD"
    """Prices in other currencies are converted when they are entered in the catalogue."""
    source: str = ""
    """Codes of the sources; empty: those of the model."""
    date: str = ""
    """YYYY-MM-DD; empty: that of the model, or the user's own price."""

    def __post_init__(self) -> None:
        """Refuse thresholds that are out of order: the first one would hide the next."""
        thresholds = [tier.above for tier in self.tiers]
        if thresholds != sorted(set(thresholds)):
            raise ValueError(f"the thresholds of the tiers must rise, got {thresholds}")

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Price:
        """Make a price of two to four *numbers*, in the order of `PRICES`."""
        return msgspec.convert(dict(zip(PRICES, numbers, strict=False)), cls)

    def cost(self, usage: Mapping[str, Any]) -> float | None:
        """Return the cost of *usage* in dollars; None if it has tokens without a price."""
        total = 0.0
        for name, price in zip(_USAGE_FIELDS, _prices(self), strict=True):
            tokens = usage.get(name) or 0
            if tokens and price is None:
                return None
            total += tokens * (price or 0.0)
        return total / 1e6


def _minute(time: str) -> int:
    """Return the minute of the day of *time*, HH:MM."""
    hour, colon, minute = time.partition(":")
    if not (colon and hour.isdecimal() and minute.isdecimal() and int(minute) < 60):
        raise ValueError(f'a time is HH:MM, got "{time}"')
    return int(hour) * 60 + int(minute)
