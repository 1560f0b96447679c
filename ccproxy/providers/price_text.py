"""
Parse the prices in the setting PRICES.

    gpt-6=2.5/15/0.25; above 272k=5/22.5/0.5; off-peak mon-fri 16:30-00:30=1.25/7.5

The base rates come first: input, output and, where the provider has them, the cache rates. The
exceptions are those of `Price`: rates above a number of prompt tokens, or at certain UTC hours.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from ccproxy.providers.pricing import PRICES, Price

_ABOVE = re.compile(r"above\s+(?P<number>[0-9]{1,9})(?P<scale>[kKmM]?)")
_OFF_PEAK = re.compile(r"off-peak\s+(?P<hours>.+)")
_HOURS = re.compile(
    r"(?:(?P<first>[a-z]{3})(?:-(?P<last>[a-z]{3}))?\s+)?(?P<start>[0-9:]+)-(?P<end>[0-9:]+)"
)
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SCALES = {"": 1, "k": 1000, "m": 1_000_000}
_MOST = 1e6


def parse_price(text: str) -> tuple[str, Price]:
    """
    Return the glob pattern for model names and the price in *text*.

    Raises:
        ValueError: If *text* is not a price; the message completes "PRICES ...".
    """
    first, *exceptions = (part.strip() for part in text.split(";"))
    pattern, _, rates = first.rpartition("=")
    if not pattern:
        raise _malformed(text)
    fields: dict[str, Any] = _rates(rates, text)
    tiers: list[dict[str, Any]] = []
    for exception in exceptions:
        condition, _, rates = exception.partition("=")
        own = _rates(rates, text)
        if match := _ABOVE.fullmatch(condition.strip().lower()):
            tiers.append({**own, "above": int(match["number"]) * _SCALES[match["scale"]]})
        elif (match := _OFF_PEAK.fullmatch(condition.strip().lower())) and "off_peak" not in fields:
            fields["off_peak"] = {**own, "hours": _hours(match["hours"], text)}
        else:
            raise _malformed(text)
    try:
        return pattern.strip(), msgspec.convert({**fields, "tiers": tiers}, Price)
    except msgspec.ValidationError as error:
        raise ValueError(f'{str(error).partition(" - at")[0]}, got "{text}"') from error


def _rates(text: str, whole: str) -> dict[str, Any]:
    """Return two to five rates by name, in the order of `PRICES`."""
    try:
        numbers = [float(number) for number in text.split("/")]
    except ValueError:
        raise _malformed(whole) from None
    is_price = all(math.isfinite(one) and 0 <= one < _MOST for one in numbers)
    if not is_price or not 2 <= len(numbers) <= len(PRICES):
        raise _malformed(whole)
    return dict(zip(PRICES, numbers, strict=False))


def _hours(text: str, whole: str) -> list[dict[str, Any]]:
    """Return the parts of the week, splitting each one that crosses midnight in two."""
    parts: list[dict[str, Any]] = []
    for part in text.split(" and "):
        match = _HOURS.fullmatch(part.strip())
        if match is None:
            raise _malformed(whole)
        days = _days(match["first"], match["last"], whole)
        start, end = match["start"], match["end"]
        if start.zfill(5) < end.zfill(5):
            parts.append({"start": start, "end": end, "days": days})
            continue
        parts.append({"start": start, "end": "24:00", "days": days})
        if end.zfill(5) != "00:00":
            next_days = sorted(day % 7 + 1 for day in days)
            parts.append({"start": "00:00", "end": end, "days": next_days})
    return parts


def _days(first: str | None, last: str | None, whole: str) -> list[int]:
    """Return the numbers of the days (1 is Monday), or those of all days if *first* is None."""
    if first is None:
        return [*range(1, 8)]
    last = last or first
    if first not in _DAYS or last not in _DAYS:
        raise _malformed(whole)
    begin, length = _DAYS.index(first), (_DAYS.index(last) - _DAYS.index(first)) % 7 + 1
    return sorted((begin + day) % 7 + 1 for day in range(length))


def _malformed(text: str) -> ValueError:
    return ValueError(
        "must be like model=input/output, or model=input/output/cached; above 200k=2/6; "
        f'off-peak mon-fri 16:30-00:30=0.5/1.5 (hours in UTC), got "{text}"'
    )
