"""
The time until a provider accepts requests again, in every format that providers use.

Sources, in order of precedence: `retry-after-ms`, `retry-after` (int, float or HTTP date), the body
(`RetryInfo.retryDelay`, "try again in 7.66s"), and the reset headers of exhausted limits. The wall
clock is a parameter, because dates are relative to it.
"""

from __future__ import annotations

import math
import re
from calendar import timegm
from collections.abc import Iterable, Mapping
from email.utils import mktime_tz, parsedate_tz

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[dhms])", re.IGNORECASE)
_PARTS = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:ms|[dhms])\s*)+", re.IGNORECASE)
_STAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(\.\d+)?\s*(Z|[+-]\d\d:?\d\d)", re.IGNORECASE
)
_IN_TEXT = re.compile(
    r"(?:try again|retry|retry again|reset|resets|available|wait)(?: \w+)? "
    r"(?:in|after)?\s*(?::\s*)?"
    r"(?P<time>(?:\d+(?:\.\d+)?\s*"
    r"(?:ms|milliseconds?|days?|hours?|minutes?|mins?|seconds?|secs?|[dhms])"
    r"(?![a-z])[\s,]*(?:and\s+)?)+)",
    re.IGNORECASE,
)
_RESET = re.compile(r"(?:anthropic-ratelimit-[a-z-]+-reset|x-ratelimit-reset(?:-[a-z-]+)?)$")
_EPOCH_SECONDS = 1e9
_EPOCH_MILLISECONDS = 1e12
_MOST = 366 * 86400.0
_LONGEST = 100
"""Maximum characters of a time; a header can have 64 KiB, which takes long to parse."""


def wait_in_headers(headers: Mapping[str, str], now: float | None) -> float | None:
    """Return the seconds in `retry-after-ms` or `retry-after`; header names are in lower case."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return _bounded(milliseconds / 1000)
    value = headers.get("retry-after")
    return None if value is None else seconds_until(value, now)


def wait_in_body(text: str, delays: Iterable[str]) -> float | None:
    """Return the seconds in *delays* ("34s", Google's RetryInfo), else in *text*."""
    for delay in delays:
        if (seconds := duration(delay)) is not None:
            return seconds
    match = _IN_TEXT.search(text)
    return duration(_short_units(match["time"])) if match else None


def wait_until_reset(headers: Mapping[str, str], now: float | None) -> float | None:
    """
    Return the seconds until the exhausted limit is reset.

    If headers report the remaining amounts, the latest reset among the limits at zero counts.
    Otherwise the earliest reset counts, because the exhausted limit is unknown.
    """
    used_up: list[float] = []
    others: list[float] = []
    for name, value in headers.items():
        seconds = seconds_until(value, now) if _RESET.match(name) else None
        if seconds is None:
            continue
        remaining = _number(headers.get(name.replace("reset", "remaining")))
        (used_up if remaining == 0 else others).append(seconds)
    if used_up:
        return max(used_up)
    return min(others, default=None)


def duration(text: str) -> float | None:
    """Return the seconds in "6m0s", "7.66s", "120ms", "1h2m" or "7", or None."""
    text = text.strip()
    if len(text) > _LONGEST or not _PARTS.fullmatch(text):
        return _number(text)
    parts = (float(match[1]) * _UNITS[match[2].lower()] for match in _PART.finditer(text))
    return _bounded(sum(parts))


def seconds_until(value: str, now: float | None) -> float | None:
    """Return the seconds until a reset: a duration, a time in (milli)seconds, or a date."""
    seconds = duration(value)
    if seconds is None:
        return _until_date(value, now)
    if seconds < _EPOCH_SECONDS:
        return _bounded(seconds)
    if now is None:
        return None
    moment = seconds / 1000 if seconds >= _EPOCH_MILLISECONDS else seconds
    return _bounded(max(0.0, moment - now))


def _until_date(value: str, now: float | None) -> float | None:
    """Return the seconds until an RFC 3339 or HTTP date, or 0 for one in the past."""
    moment = _moment(value)
    return None if moment is None or now is None else _bounded(max(0.0, moment - now))


def _moment(value: str) -> float | None:
    if len(value) > _LONGEST:
        return None
    stamp = _STAMP.fullmatch(value.strip())
    try:
        if stamp is None:
            parsed = parsedate_tz(value)
            return None if parsed is None else float(mktime_tz(parsed))
        year, month, day, hour, minute, second = (int(part) for part in stamp.groups()[:6])
        moment = timegm((year, month, day, hour, minute, second)) + float(stamp[7] or 0)
    except (ValueError, OverflowError, TypeError):
        return None
    if stamp[8].upper() == "Z":
        return moment
    direction = -1 if stamp[8][0] == "-" else 1
    return moment - direction * (int(stamp[8][1:3]) * 3600 + int(stamp[8][-2:]) * 60)


def _short_units(text: str) -> str:
    """Return *text* with short units: "1h1m30s" for "1 hour, 1 minute and 30 seconds"."""
    shorter = re.sub(r"milliseconds?", "ms", text, flags=re.IGNORECASE)
    return re.sub(r"\s*(ms|[dhms])[a-z]*[\s,]*(?:and\s+)?", r"\1", shorter.lower())


def _number(value: str | None) -> float | None:
    if value is None or len(value) > _LONGEST:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _bounded(seconds: float) -> float | None:
    """Return *seconds*, or None if they exceed a year."""
    return seconds if seconds <= _MOST else None
