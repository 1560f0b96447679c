"""
What a provider's answer means for the key, for the provider and for the request.

| the provider says           | the key                        | the request                     |
|-----------------------------|--------------------------------|---------------------------------|
| an answer                   | is good                        | is served                       |
| rate limit                  | rests, for this model          | goes to another key             |
| a plan's allowance used up  | is out, for this model         | goes to another key             |
| no money                    | is out                         | goes to another key             |
| bad key                     | is suspected                   | goes to another key             |
| not permitted               | nothing                        | goes to one other key, then ends|
| too long, bad, not found …  | nothing                        | ends                            |
| a page, a redirect          | nothing: the address is wrong  | ends                            |
| overload, 408, 409, 5xx     | nothing: the provider's fault  | is repeated                     |
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ccproxy.convert.errors.causes import Cause
from ccproxy.convert.errors.classify import ProviderError


class Effect(enum.Enum):
    """What becomes of the key."""

    NONE = "none"
    GOOD = "good"
    REST = "rest"
    """For the time that the provider told, else for seconds that double."""
    OUT = "out"
    """Until the stated reset, else it is tried again after hours."""
    SUSPECT = "suspect"
    """It is tried again after a minute, ten minutes, an hour; never for ever."""


class Next(enum.Enum):
    """What becomes of the request."""

    END = "end"
    OTHER_KEY = "other_key"
    ONE_OTHER_KEY = "one_other_key"
    REPEAT = "repeat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The consequences of one answer of the provider's."""

    effect: Effect
    next: Next
    provider_failed: bool = False
    """Counts for the breaker."""
    per_model: bool = False
    """True: the effect is on the key for this model only."""
    seconds: float | None = None
    """How long the provider wants to be left alone, None where it does not say."""
    maybe_shared: bool = False
    """True: nothing says that the limit is this key's; it may be the address's."""
    status: int = 200
    cause: Cause | None = None
    said: str = ""
    """The provider's own words."""


GOOD = Verdict(effect=Effect.GOOD, next=Next.END)

_CONSEQUENCES: dict[Cause, tuple[Effect, Next]] = {
    Cause.RATE_LIMIT: (Effect.REST, Next.OTHER_KEY),
    Cause.QUOTA: (Effect.OUT, Next.OTHER_KEY),
    Cause.OUT_OF_CREDIT: (Effect.OUT, Next.OTHER_KEY),
    Cause.BAD_KEY: (Effect.SUSPECT, Next.OTHER_KEY),
    Cause.PERMISSION: (Effect.NONE, Next.ONE_OTHER_KEY),
    Cause.OVERLOAD: (Effect.NONE, Next.REPEAT),
    Cause.TIMEOUT: (Effect.NONE, Next.REPEAT),
    Cause.CONFLICT: (Effect.NONE, Next.REPEAT),
    Cause.SERVER: (Effect.NONE, Next.REPEAT),
}
"""Every other cause is about the request itself: no key is touched, nothing is repeated."""

_PER_MODEL = {Cause.RATE_LIMIT, Cause.QUOTA}


def judge(problem: ProviderError) -> Verdict:
    """Say what *problem* means for key, provider and request."""
    effect, following = _CONSEQUENCES.get(problem.cause, (Effect.NONE, Next.END))
    return Verdict(
        effect=effect,
        next=following,
        provider_failed=following is Next.REPEAT,
        per_model=problem.cause in _PER_MODEL,
        seconds=problem.retry_after,
        maybe_shared=problem.cause is Cause.RATE_LIMIT and not problem.has_limit_headers,
        status=problem.status,
        cause=problem.cause,
        said=problem.problem.message,
    )
