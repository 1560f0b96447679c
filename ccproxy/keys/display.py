"""How keys are shown and what is said of them: never more of one than its last four characters."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from ccproxy.convert.errors.causes import Cause
from ccproxy.convert.errors.classify import LONGEST_CLIENT_WAIT
from ccproxy.errors import Problem
from ccproxy.keys.state import WHOLE_KEY, KeyState, Obstacle

StateWord = Literal["ready", "resting", "out", "rejected", "disabled"]

TIMED = {Cause.RATE_LIMIT.value, Cause.QUOTA.value, "per_minute", "per_day", "in_flight"}
"""What passes by itself: whoever waits is served."""

_SAID = {
    Cause.RATE_LIMIT.value: "rate-limited",
    Cause.QUOTA.value: "at the plan's usage limit",
    Cause.OUT_OF_CREDIT.value: "out of money",
    Cause.BAD_KEY.value: "rejected",
    "per_minute": "at the limit of requests per minute that is set here",
    "per_day": "at the limit of requests per day that is set here",
    "in_flight": "at the limit of requests in flight that is set here",
    "disabled": "disabled by the user",
}
_STATE_OF_CAUSE: dict[Cause, StateWord] = {
    Cause.RATE_LIMIT: "resting",
    Cause.QUOTA: "out",
    Cause.OUT_OF_CREDIT: "out",
    Cause.BAD_KEY: "rejected",
}
_WORST: tuple[StateWord, ...] = ("rejected", "out", "resting")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestShown:
    """One reason why a key is not used."""

    model: str | None
    """None: the whole key."""
    cause: str
    status: int
    seconds: float
    """Until it is tried again; 0 when the next request may try."""
    since: float
    """Wall clock."""
    told: bool
    """Whether the provider said for how long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyShown:
    """One key, as status and `ccproxy keys` show it."""

    id: str
    tail: str
    state: StateWord
    """`rejected` and `out` last until a request succeeds, even while the key is tried again."""
    rests: tuple[RestShown, ...]
    used_today: int
    in_flight: int
    said: str
    """What the provider said when it refused the key last; empty once nothing rests any more."""


def shown(key: str) -> str:
    """Return the part of a key that may be seen; nothing of one that is short."""
    return f"…{key[-4:]}" if len(key) >= 12 else "…"


def show(key: KeyState, *, now: float, wall: float) -> KeyShown:
    """Show one key."""
    rests = tuple(
        RestShown(
            model=None if model == WHOLE_KEY else model,
            cause=rest.cause.value,
            status=rest.status,
            seconds=max(0.0, rest.until - now),
            since=rest.since,
            told=rest.told,
        )
        for model, rest in key.rests.items()
    )
    states = {
        _STATE_OF_CAUSE[rest.cause]
        for rest in key.rests.values()
        if rest.until > now or rest.cause is not Cause.RATE_LIMIT
    }
    worst: StateWord = next((state for state in _WORST if state in states), "ready")
    return KeyShown(
        id=key.id,
        tail=key.tail,
        state="disabled" if key.disabled else worst,
        rests=rests,
        used_today=key.used(wall),
        in_flight=key.in_flight,
        said=key.said.text if key.rests else "",
    )


def describe(provider: str, total: int, found: list[Obstacle], *, command: str = "") -> str:
    """
    Say what keeps the *total* keys of *provider* from being used, and until when.

    *command* is named as what shows more.
    """
    waits = [obstacle.seconds for obstacle in found if obstacle.why != "disabled"]
    parts = [_plight(provider, total, found)]
    if waits:
        parts.append(f"next try in {span(min(waits))}")
    if command and found:
        parts.append(f"see `{command}`")
    return "; ".join(parts)


def _plight(provider: str, total: int, found: list[Obstacle]) -> str:
    counts = Counter((obstacle.why, obstacle.status) for obstacle in found)
    if len(counts) == 1 and len(found) == total:
        ((why, status),) = counts
        return f"{_keys(total)} of {provider} {_SAID[why]}{_status(status)}"
    parts = [f"{n} {_SAID[why]}{_status(status)}" for (why, status), n in counts.items()]
    return f"none of the {total} keys of {provider} is ready: {', '.join(parts)}"


def quoted(said: str) -> str:
    """Return the sentence that gives the provider's own words; empty if there are none."""
    return f" The provider's last answer: {said}" if said else ""


def limited(text: str, seconds: float) -> Problem:
    """Return the refusal of a request that may be asked again after *seconds*."""
    wait = max(1, math.ceil(seconds))
    again = False if wait > LONGEST_CLIENT_WAIT else None
    return Problem("rate_limit_error", text, retry_after=wait, should_retry=again)


def span(seconds: float) -> str:
    """Return a length of time as it is told: never shorter than it is."""
    whole = max(1, math.ceil(seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{math.ceil(whole / 60)} min" if whole < 7200 else f"{math.ceil(whole / 3600)} h"


def _keys(number: int) -> str:
    return "the key" if number == 1 else f"all {number} keys"


def _status(status: int) -> str:
    return f" ({status})" if status else ""
