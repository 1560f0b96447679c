"""
Cooldowns: why a key is not used, and for how long.

A cooldown applies to the whole key (model "") or to the key for one model. When it is over, one
request at a time may use the key, as a probe, until one succeeds; then the cooldown is removed. A
failed probe starts the next, longer cooldown.
"""

from __future__ import annotations

from dataclasses import dataclass

from ccproxy.convert.errors.causes import Cause
from ccproxy.keys.verdict import Effect, Verdict

LONGEST_COOLDOWN = 3600.0
"""Seconds: a key with a rate limit is probed after an hour even if its retry-after is longer."""
LONGEST_OUTAGE = 86400.0
"""Maximum seconds: a key without credit or quota is probed at least once a day."""
_RATE_LIMIT_FIRST, _RATE_LIMIT_LONGEST = 5.0, 300.0
_OUTAGE_FIRST = 3600.0
_SHORTEST_RESET = 60.0
"""Minimum seconds: no allowance is refilled sooner, so a shorter retry-after is ignored."""
_REJECTED = (60.0, 600.0, 3600.0)

Probe = tuple[int, int]
"""A process number (0 if there is only one process) and the turn of one of its requests."""


@dataclass(slots=True, kw_only=True)
class Cooldown:
    """Why a key is not used, and until when (in monotonic time)."""

    cause: Cause
    status: int
    until: float
    failures: int
    since: float
    """When the cooldown began, in wall-clock time, for display."""
    has_retry_after: bool = False
    """True if the provider specified the duration."""
    probe: Probe | None = None
    """The request that tests whether the cooldown may end."""


def cooldown_seconds(verdict: Verdict, failures: int, jitter: float) -> float:
    """Return the length of a cooldown after *failures* earlier refusals."""
    stated = verdict.seconds
    if verdict.effect is Effect.REJECTED:
        return _REJECTED[min(failures, len(_REJECTED) - 1)]
    if verdict.effect is Effect.OUT:
        doubled = min(_OUTAGE_FIRST * 2.0 ** min(failures, 10), LONGEST_OUTAGE)
        return (
            doubled if stated is None or stated < _SHORTEST_RESET else min(stated, LONGEST_OUTAGE)
        )
    if stated is not None:
        return min(stated, LONGEST_COOLDOWN)
    doubled = _RATE_LIMIT_FIRST * 2.0 ** min(failures, 10) * (0.9 + 0.2 * jitter)
    return min(doubled, _RATE_LIMIT_LONGEST)
