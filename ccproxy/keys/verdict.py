"""
The consequences of a provider's response for the key, the provider and the request.

| the response is             | the key                        | the request                     |
|-----------------------------|--------------------------------|---------------------------------|
| an answer                   | works                          | is served                       |
| a rate limit                | cools down, for this model     | uses another key                |
| a plan's allowance used up  | is out of quota for this model | uses another key                |
| no credit                   | is out of credit               | uses another key                |
| a bad key                   | is rejected                    | uses another key                |
| not permitted               | is unchanged                   | uses one other key, then ends   |
| too long, bad, not found …  | is unchanged                   | ends                            |
| a page, a redirect          | is unchanged: wrong address    | ends                            |
| overload, 408, 409, 5xx     | is unchanged: provider's fault | is retried                      |
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from ccproxy.convert.errors.causes import Cause
from ccproxy.convert.errors.classify import ProviderError

# A message that names a model or a quota is about its limit, not about the whole account.
_NAMES_SCOPE = re.compile(r"\bmodels?\b|\bquotas?\b|模型|配额|额度", re.IGNORECASE)


class Effect(enum.Enum):
    """The effect of a response on the key."""

    NONE = "none"
    WORKS = "works"
    COOLDOWN = "cooldown"
    """Cooling down for the specified time, or for a few seconds, doubled each time."""
    OUT = "out"
    """Out of credit or quota until the specified reset, or until a probe some hours later."""
    REJECTED = "rejected"
    """Probed after one minute, ten minutes and then every hour; never dropped."""


class Next(enum.Enum):
    """The next step for the request after a response."""

    END = "end"
    OTHER_KEY = "other_key"
    ONE_OTHER_KEY = "one_other_key"
    REPEAT = "repeat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The consequences of one response."""

    effect: Effect
    next: Next
    provider_failed: bool = False
    """True if the response counts as a failure for the breaker."""
    is_unreachable: bool = False
    """True if no connection was made, which proves nothing about the model."""
    is_per_model: bool = False
    """True if the effect applies to the key for this model only."""
    seconds: float | None = None
    """Seconds until the next attempt may succeed; None if unknown."""
    may_be_account_wide: bool = False
    """True if the limit may be that of the account or address; nothing indicates the key's."""
    status: int = 200
    cause: Cause | None = None
    error_text: str = ""
    """The provider's error text."""


WORKS = Verdict(effect=Effect.WORKS, next=Next.END)

_CONSEQUENCES: dict[Cause, tuple[Effect, Next]] = {
    Cause.RATE_LIMIT: (Effect.COOLDOWN, Next.OTHER_KEY),
    Cause.QUOTA: (Effect.OUT, Next.OTHER_KEY),
    Cause.OUT_OF_CREDIT: (Effect.OUT, Next.OTHER_KEY),
    Cause.BAD_KEY: (Effect.REJECTED, Next.OTHER_KEY),
    Cause.PERMISSION: (Effect.NONE, Next.ONE_OTHER_KEY),
    Cause.OVERLOAD: (Effect.NONE, Next.REPEAT),
    Cause.TIMEOUT: (Effect.NONE, Next.REPEAT),
    Cause.CONFLICT: (Effect.NONE, Next.REPEAT),
    Cause.SERVER: (Effect.NONE, Next.REPEAT),
}
"""Every other cause is about the request itself: no key is affected, and nothing is retried."""

_PER_MODEL = {Cause.RATE_LIMIT, Cause.QUOTA}


def judge(error: ProviderError) -> Verdict:
    """Return the consequences of *error*."""
    effect, following = _CONSEQUENCES.get(error.cause, (Effect.NONE, Next.END))
    text = error.problem.message
    return Verdict(
        effect=effect,
        next=following,
        provider_failed=following is Next.REPEAT,
        is_per_model=error.cause in _PER_MODEL,
        seconds=error.retry_after,
        may_be_account_wide=(
            error.cause is Cause.RATE_LIMIT
            and not error.has_limit_headers
            and _NAMES_SCOPE.search(text) is None
        ),
        status=error.status,
        cause=error.cause,
        error_text=text,
    )
