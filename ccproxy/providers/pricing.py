"""
Model prices, and the cost of an answer's usage.

A price has base rates and up to three exceptions: rates for long prompts (tiers), rates by time of
day (off-peak), and rates of the batch API. ccproxy does not use the batch API and only displays its
rates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

PRICES = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
"""The fields of `Rates`, in the order of the setting PRICES."""
CURRENCY = "USD"
"""The currency of all prices. Other currencies are converted on entry."""
MINUTES_PER_DAY = 24 * 60
_MILLION = 1e6
_SECONDS_PER_DAY = 86400
_FIRST_WEEKDAY = 4
"""1970-01-01 was a Thursday."""

Amount = Annotated[float, msgspec.Meta(ge=0)]


class Rates(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Amounts per million tokens, or None where the provider publishes none."""

    input: Amount
    output: Amount
    cache_read: Amount | None = None
    cache_write: Amount | None = None
    """For the five-minute cache (Anthropic)."""
    cache_write_1h: Amount | None = None
    """For the one-hour cache (Anthropic and Kimi)."""


class PriceTier(Rates, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """
    Rates for requests with long prompts.

    They apply to the whole request, including its output. A rate of None means the base rate.
    """

    above: int
    """The rates apply if the prompt has more tokens than this, including cached ones."""


class Hours(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A part of the week, in UTC."""

    start: str
    """HH:MM"""
    end: str
    """HH:MM, exclusive; 24:00 is the end of the day."""
    days: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)
    """1 is Monday."""

    def __post_init__(self) -> None:
        """Reject invalid times and days."""
        if not 0 <= _minute(self.start) < _minute(self.end) <= MINUTES_PER_DAY:
            raise ValueError(
                f"{self.start}-{self.end} must be two times of one day, in ascending order"
            )
        if not self.days or not set(self.days) <= {*range(1, 8)}:
            raise ValueError(
                f"days must be numbers from 1 (Monday) to 7 (Sunday), got {list(self.days)}"
            )

    def contain(self, *, day: int, minute: int) -> bool:
        """Return True if the hours include the *minute* of the *day* (1 is Monday)."""
        return day in self.days and _minute(self.start) <= minute < _minute(self.end)


class OffPeak(Rates, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Rates for requests sent at certain hours. They replace the base rates."""

    hours: tuple[Hours, ...]

    def applies(self, *, day: int, minute: int) -> bool:
        """Return True if the rates apply at the UTC *minute* of the *day* (1 is Monday)."""
        return any(hours.contain(day=day, minute=minute) for hours in self.hours)


class Price(Rates, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The base rates of a model, and their exceptions."""

    tiers: tuple[PriceTier, ...] = ()
    """In ascending order of thresholds; the last one that the prompt exceeds applies."""
    off_peak: OffPeak | None = None
    batch: Rates | None = None
    web_search: float | None = None
    """Per thousand searches with the provider's own tool, or None if free or unknown. Anthropic:
    https://platform.claude.com/docs/en/about-claude/pricing"""
    currency: Literal["USD"] = "USD"
    """Prices in other currencies are converted on entry in the catalogue."""
    source: str = ""
    """Codes of the sources, by default the model's."""
    date: str = ""
    """YYYY-MM-DD; empty for the model's date, and for the user's own prices."""

    def __post_init__(self) -> None:
        """Reject thresholds that are out of order, because some would never apply."""
        thresholds = [tier.above for tier in self.tiers]
        if thresholds != sorted(set(thresholds)):
            raise ValueError(
                f"the thresholds of the tiers must be in ascending order, got {thresholds}"
            )

    def as_fields(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, for JSON."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields

    def cost(self, usage: Mapping[str, Any], *, at: float = 0.0) -> float | None:
        """
        Return the cost of *usage* in dollars, or None if it has tokens without a price.

        *at* is the time of the request in seconds since the epoch.
        """
        tokens = _Tokens.of(usage)
        return _sum(self.rates(tokens.prompt, at=at), tokens, self.web_search)

    def extra_cost(self, usage: Mapping[str, Any], *, at: float = 0.0) -> float | None:
        """Return the extra cost of a prompt above a price threshold, or None if it is below."""
        tokens = _Tokens.of(usage)
        if not self.tiers or tokens.prompt <= self.tiers[0].above:
            return None
        above = _sum(self.rates(tokens.prompt, at=at), tokens, None)
        below = _sum(self.rates(0, at=at), tokens, None)
        return above - below if above is not None and below is not None else None

    def rates(self, prompt: int, *, at: float) -> Rates:
        """Return the rates for a request with *prompt* input tokens at the time *at*."""
        base: Rates = self
        if self.off_peak is not None and self.off_peak.applies(**_time_of_week(at)):
            base = self.off_peak
        tier = next((tier for tier in reversed(self.tiers) if prompt > tier.above), None)
        if tier is None:
            return base
        own = {name: getattr(tier, name) for name in PRICES}
        return Rates(
            **{name: getattr(base, name) if rate is None else rate for name, rate in own.items()}
        )

    @property
    def cliff(self) -> int | None:
        """The number of prompt tokens above which the whole request costs more, or None."""
        dearer = (tier.above for tier in self.tiers if tier.input > self.input)
        return next(dearer, None)


class _Tokens(NamedTuple):
    """The token counts of a Messages usage object, by rate."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    searches: int

    @classmethod
    def of(cls, usage: Mapping[str, Any]) -> _Tokens:
        written = usage.get("cache_creation_input_tokens") or 0
        by_lifetime = usage.get("cache_creation") or {}
        for_an_hour = min(by_lifetime.get("ephemeral_1h_input_tokens") or 0, written)
        return cls(
            input=usage.get("input_tokens") or 0,
            output=usage.get("output_tokens") or 0,
            cache_read=usage.get("cache_read_input_tokens") or 0,
            cache_write=written - for_an_hour,
            cache_write_1h=for_an_hour,
            searches=(usage.get("server_tool_use") or {}).get("web_search_requests") or 0,
        )

    @property
    def prompt(self) -> int:
        """The total number of input tokens, to which thresholds refer."""
        return self.input + self.cache_read + self.cache_write + self.cache_write_1h


def _sum(rates: Rates, tokens: _Tokens, web_search: float | None) -> float | None:
    total = 0.0
    for name, count in zip(PRICES, tokens, strict=False):
        rate = getattr(rates, name)
        if count and rate is None:
            return None
        total += count * (rate or 0.0)
    # This excludes ccproxy's own searches, which have other prices.
    return (total + tokens.searches * (web_search or 0.0) * 1000) / _MILLION


def _time_of_week(at: float) -> dict[str, int]:
    days, seconds = divmod(int(at), _SECONDS_PER_DAY)
    return {"day": (days + _FIRST_WEEKDAY - 1) % 7 + 1, "minute": seconds // 60}


def _minute(time: str) -> int:
    """Convert *time* (HH:MM) into the minute of the day."""
    hour, colon, minute = time.partition(":")
    if not (colon and hour.isdecimal() and minute.isdecimal() and int(minute) < 60):
        raise ValueError(f'a time must be HH:MM, got "{time}"')
    return int(hour) * 60 + int(minute)
