"""Views of keys, with at most their last four characters: states, refusals and waits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ccproxy.convert.errors.causes import Cause
from ccproxy.convert.errors.classify import LONGEST_CLIENT_WAIT
from ccproxy.errors import Problem
from ccproxy.keys.account_report import AccountReport
from ccproxy.keys.key_selection import NEW_PREFIX, REFUSED_REQUEST, REMOVED, WAITED, PoolKey
from ccproxy.keys.key_state import PER_DAY, WHOLE_KEY, KeyLimits, KeyState, Obstacle
from ccproxy.text import counted

KeyStatus = Literal["ready", "cooldown", "out", "rejected", "disabled"]

TEMPORARY = {Cause.RATE_LIMIT.value, Cause.QUOTA.value, "per_minute", PER_DAY, "in_flight"}
"""The obstacles that end without any action by the user."""

_DESCRIPTIONS = {
    Cause.RATE_LIMIT.value: "rate-limited",
    Cause.QUOTA.value: "at the plan's usage limit",
    Cause.OUT_OF_CREDIT.value: "out of credit",
    Cause.BAD_KEY.value: "rejected",
    "per_minute": "at the configured limit of requests per minute",
    PER_DAY: "at the configured limit of requests per day",
    "in_flight": "at the configured limit of requests in flight",
    "disabled": "disabled by the user",
}
_STATUS_OF_CAUSE: dict[Cause, KeyStatus] = {
    Cause.RATE_LIMIT: "cooldown",
    Cause.QUOTA: "out",
    Cause.OUT_OF_CREDIT: "out",
    Cause.BAD_KEY: "rejected",
}
_WORST_FIRST: tuple[KeyStatus, ...] = ("rejected", "out", "cooldown")


@dataclass(frozen=True, slots=True, kw_only=True)
class CooldownView:
    """One reason why a key is not used."""

    model: str | None
    """The model; None for the whole key."""
    cause: str
    seconds: float
    """Seconds until the next probe; 0 if the next request may be the probe."""
    status: int = 0
    since: float = 0.0
    """When the refusals began, in wall-clock time; 0 for a limit set by the user."""
    has_retry_after: bool = False
    """True if the provider specified the duration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyView:
    """One key, as shown in the status and by `ccproxy keys`."""

    id: str
    tail: str
    state: KeyStatus
    """`rejected` and `out` last until a request succeeds, even during probes."""
    cooldowns: tuple[CooldownView, ...]
    """Empty for a disabled key, which is not probed."""
    used_today: int
    in_flight: int
    sessions: int
    """The number of active sessions that use the key."""
    last_error: str
    """The provider's text from the last refusal of the key; empty if there are no cooldowns."""
    account: AccountReport | None
    """The latest report about the key's account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountLimitView:
    """A rate limit of the account or address."""

    model: str | None
    """The model; None for all models."""
    seconds: float
    """Seconds until the next probe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveView:
    """A session's move to another key."""

    session: str
    """The beginning of the client's session ID."""
    source: str
    """The old key as `k1 …last4`, or `-` if it is no longer configured; the same for `target`."""
    target: str
    reason: str
    tokens: int
    """Estimated number of cached tokens that were lost."""
    at: float
    """When the session moved, in wall-clock time."""


_MOVE_REASONS = {
    NEW_PREFIX: "a preferred key is ready, and the prompt has a new prefix",
    WAITED: "a preferred key has been ready for KEY_MOVE_WAIT",
    REFUSED_REQUEST: "the key was refused for this request",
    REMOVED: "the key was removed",
}


def describe_move_reason(reason: str) -> str:
    """Describe why a session has left its key; the result follows "because"."""
    if reason in _MOVE_REASONS:
        return _MOVE_REASONS[reason]
    return f"the key is {_DESCRIPTIONS[reason]}"


def view_key(
    name: PoolKey, key: KeyState, limits: KeyLimits, sessions: int, *, now: float, wall: float
) -> KeyView:
    """Return the view of one key, with its configured *limits* and its number of sessions."""
    cooldowns = tuple(
        CooldownView(
            model=None if model == WHOLE_KEY else model,
            cause=cooldown.cause.value,
            status=cooldown.status,
            seconds=max(0.0, cooldown.until - now),
            since=cooldown.since,
            has_retry_after=cooldown.has_retry_after,
        )
        for model, cooldown in key.cooldowns.items()
    )
    if seconds := key.seconds_at_daily_limit(limits, wall):
        cooldowns += (CooldownView(model=None, cause=PER_DAY, seconds=seconds),)
    states: set[KeyStatus] = {
        _STATUS_OF_CAUSE[cooldown.cause]
        for cooldown in key.cooldowns.values()
        if cooldown.until > now or cooldown.cause is not Cause.RATE_LIMIT
    }
    if seconds:
        states.add("cooldown")
    worst: KeyStatus = next((state for state in _WORST_FIRST if state in states), "ready")
    return KeyView(
        id=name.id,
        tail=name.tail,
        state="disabled" if key.disabled else worst,
        cooldowns=() if key.disabled else cooldowns,
        used_today=key.used_on(wall),
        in_flight=key.in_flight,
        sessions=sessions,
        last_error=key.last_error.text if key.cooldowns else "",
        account=key.account,
    )


def describe_obstacles(
    provider: str, total: int, obstacles: Sequence[Obstacle], *, command: str = ""
) -> str:
    """Describe why none of the *total* keys can be used; *command* shows details."""
    waits = [obstacle.seconds for obstacle in obstacles if obstacle.reason != "disabled"]
    parts = [_summary(provider, total, obstacles)]
    if waits:
        parts.append(f"next attempt in {format_wait(min(waits))}")
    if any(obstacle.reason == Cause.OUT_OF_CREDIT.value for obstacle in obstacles) and command:
        parts.append(f"after topping up, run `{command} reset`")
    elif command and obstacles:
        parts.append(f"see `{command}`")
    return "; ".join(parts)


def _summary(provider: str, total: int, obstacles: Sequence[Obstacle]) -> str:
    counts = Counter((obstacle.reason, obstacle.status) for obstacle in obstacles)
    if len(counts) == 1 and len(obstacles) == total:
        ((reason, status),) = counts
        keys, verb = ("the key", "is") if total == 1 else (f"all {total} keys", "are")
        return f"{keys} of {provider} {verb} {_DESCRIPTIONS[reason]}{_in_parentheses(status)}"
    parts = [
        f"{count} {_DESCRIPTIONS[reason]}{_in_parentheses(status)}"
        for (reason, status), count in counts.items()
    ]
    return f"none of the {counted(total, 'key')} of {provider} is ready: {', '.join(parts)}"


def describe_account_limit(provider: str, model: str, seconds: float) -> str:
    """Describe a rate limit of the account, for *model* or for all models if it is empty."""
    scope = f" for {model}" if model else ""
    text = f"{provider} limits this address or account{scope}, regardless of the key"
    return f"{text}; next attempt in {math.ceil(seconds)} s"


def quote_error(text: str) -> str:
    """Return a sentence that quotes the provider's error text; empty if there is no text."""
    return f" The provider's last answer: {text}" if text else ""


def limit_problem(text: str, seconds: float) -> Problem:
    """Return the error for a request that may be retried after *seconds*."""
    wait = max(1, math.ceil(seconds))
    should_retry = False if wait > LONGEST_CLIENT_WAIT else None
    return Problem("rate_limit_error", text, retry_after=wait, should_retry=should_retry)


def format_wait(seconds: float) -> str:
    """Format a wait, rounded up so that the next attempt is not too early."""
    whole = max(1, math.ceil(seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{math.ceil(whole / 60)} min" if whole < 7200 else f"{math.ceil(whole / 3600)} h"


def _in_parentheses(status: int) -> str:
    return f" ({status})" if status else ""
