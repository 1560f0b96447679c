"""
Rate limits and plan quotas of a key, as reported in the headers of ordinary answers.

Names and units differ between providers; the reset is a duration, a time or a date. The headers are
parsed when the state of the keys is shown; on ordinary answers, only if a limit is used up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qs

from ccproxy.convert.errors.retry_after import seconds_until, wait_until_reset
from ccproxy.keys.account_report import PlanWindow
from ccproxy.keys.cooldown import LONGEST_COOLDOWN

MOST_WINDOWS = 16

_REMAINING = (
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-remaining-requests-day",
    "x-ratelimit-remaining-tokens-minute",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-tokens-remaining",
)
_LIMIT = re.compile(
    r"(?:x-ratelimit-remaining-(?P<name>[a-z-]{1,40})"
    r"|anthropic-ratelimit-(?P<own>[a-z-]{1,40})-remaining)"
)
_SNAPSHOT = "x-quota-snapshot-"
_UNLIMITED = "-1"


def cooldown_of(headers: Mapping[str, str], now: float) -> float | None:
    """
    Return the seconds for which a key cools down because an answer used up one of its limits.

    Return None if no limit is used up or the reset is unknown. In Azure's Responses API, a 0
    without a reset means that the number is unknown.
    """
    if "0" not in headers.values() or "0" not in map(headers.get, _REMAINING):
        return None
    lower = {name.lower(): value for name, value in headers.items()}
    has_reset = any(
        "reset" in name and lower.get(name.replace("reset", "remaining")) == "0" for name in lower
    )
    seconds = wait_until_reset(lower, now) if has_reset else None
    return min(seconds, LONGEST_COOLDOWN) if seconds else None


def windows_in(headers: Mapping[str, str], now: float) -> tuple[PlanWindow, ...]:
    """Return the limits reported by *headers*, which were received at *now*."""
    lower = {name.lower(): value for name, value in headers.items()}
    windows: list[PlanWindow] = []
    for name, value in lower.items():
        if len(windows) == MOST_WINDOWS:
            break
        if name.startswith(_SNAPSHOT):
            window = _snapshot(name.removeprefix(_SNAPSHOT), value, now)
        elif _LIMIT.fullmatch(name):
            window = _limit(name, value, lower, now)
        else:
            continue
        if window is not None:
            windows.append(window)
    return tuple(windows)


def _limit(name: str, value: str, headers: Mapping[str, str], now: float) -> PlanWindow | None:
    match = _LIMIT.fullmatch(name)
    limit = _number(headers.get(name.replace("remaining", "limit")))
    remaining = _number(value)
    if match is None or not limit or remaining is None:
        return None
    wait = seconds_until(headers.get(name.replace("remaining", "reset"), ""), now)
    used = min(max(1 - remaining / limit, 0.0), 1.0)
    return PlanWindow(match["name"] or match["own"], used, None if wait is None else now + wait)


def _snapshot(name: str, value: str, now: float) -> PlanWindow | None:
    """Parse `ent=300&ov=0.0&ovPerm=false&rem=35.5&rst=2026-04-01T00%3A00%3A00Z`."""
    fields = {key: values[0] for key, values in parse_qs(value[:500]).items()}
    remaining = _number(fields.get("rem"))
    if remaining is None or fields.get("ent") == _UNLIMITED:
        return None
    wait = seconds_until(fields.get("rst", ""), now)
    used = min(max(1 - remaining / 100, 0.0), 1.0)
    return PlanWindow(name[:40], used, None if wait is None else now + wait)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < 1e15 else None
