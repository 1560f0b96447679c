"""
Retries: whether a failed request is sent again, when, and with which key.

Within ccproxy, only this layer retries, but Claude Code itself retries up to ten times. So retries
are few (at most `MAX_RETRIES` per request), are spread by jitter, and add at most a fifth to the
provider's load across all requests. Using another key is not a retry. The cooldown of a key after a
429 is decided in `cooldown`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ccproxy.keys.verdict import Next, Verdict

FIRST_DELAY = 0.5
LONGEST_DELAY = 8.0
"""Seconds. As in Anthropic's SDK, delays are 0.5·2ⁿ up to 8, and a quarter of each is random."""
LONGEST_RETRY_AFTER = 5.0
"""Seconds; a longer retry-after is passed on to the client."""

_WINDOW = 10.0
_SHARE = 0.2
_MINIMUM = 10


class RetryBudget:
    """
    Limits retries to a fifth of the requests in the last ten seconds, but allows at least ten.

    Retries to a provider that is down would only add load.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._requests: deque[float] = deque()
        self._retries: deque[float] = deque()

    def count_request(self) -> None:
        """Count a new request."""
        self._requests.append(self._clock())
        self._prune()

    def spend(self) -> bool:
        """Take one retry from the budget; return False if it is exhausted."""
        self._prune()
        if len(self._retries) >= max(_MINIMUM, int(_SHARE * len(self._requests))):
            return False
        self._retries.append(self._clock())
        return True

    def _prune(self) -> None:
        start = self._clock() - _WINDOW
        for times in (self._requests, self._retries):
            while times and times[0] <= start:
                times.popleft()


@dataclass(frozen=True, slots=True)
class Step:
    """The next step after a failed attempt; `delay` is in seconds."""

    again: bool
    delay: float = 0.0
    other_key: bool = False


END = Step(again=False)
OTHER_KEY = Step(again=True, other_key=True)


class RetryPlan:
    """Decides the next step after each failed attempt of one request."""

    def __init__(
        self, *, max_retries: int, budget: RetryBudget, jitter: Callable[[], float]
    ) -> None:
        self._left = max_retries
        self._count = 0
        self._budget = budget
        self._jitter = jitter
        self._has_tried_other_key = False

    def after(self, verdict: Verdict) -> Step:
        """Return the step that follows *verdict*."""
        if verdict.next is Next.OTHER_KEY:
            return OTHER_KEY
        if verdict.next is Next.ONE_OTHER_KEY and not self._has_tried_other_key:
            self._has_tried_other_key = True
            return OTHER_KEY
        if verdict.next is not Next.REPEAT:
            return END
        wait = verdict.seconds
        if self._left <= 0 or (wait is not None and wait > LONGEST_RETRY_AFTER):
            return END
        if not self._budget.spend():
            return END
        self._left -= 1
        return Step(again=True, delay=self._backoff() if wait is None else wait)

    def _backoff(self) -> float:
        delay = min(FIRST_DELAY * 2.0**self._count, LONGEST_DELAY)
        self._count += 1
        return delay * (1 - 0.25 * self._jitter())
