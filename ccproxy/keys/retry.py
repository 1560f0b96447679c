"""
Whether a request that failed is sent once more, to whom and when.

One layer owns the retries, and it knows that Claude Code retries up to ten times itself: repeats
are few (`MAX_RETRIES`, meant exactly), spread by jitter, and all requests together may add only a
fifth to the provider's load. Moving on to another key is not a repeat.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ccproxy.keys.verdict import Next, Verdict

FIRST_DELAY = 0.5
LONGEST_DELAY = 8.0
"""Seconds; the delays of Anthropic's SDK: 0.5·2ⁿ up to 8, a quarter of it at random."""
LONGEST_WAIT = 5.0
"""A retry-after up to here is waited for, a longer one is for the client to decide."""

_WINDOW = 10.0
_SHARE = 0.2
_FLOOR = 10


class RetryBudget:
    """
    Bounds the repeats of all requests: a fifth of the requests of ten seconds, at least ten.

    When the provider is down, repeats would only be more load (Envoy's retry budget).
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._requests: deque[float] = deque()
        self._repeats: deque[float] = deque()

    def count_request(self) -> None:
        """Note that a client's request begins."""
        self._requests.append(self._clock())
        self._forget()

    def spend(self) -> bool:
        """Take one repeat out of the budget; False if there is none left."""
        self._forget()
        if len(self._repeats) >= max(_FLOOR, int(_SHARE * len(self._requests))):
            return False
        self._repeats.append(self._clock())
        return True

    def _forget(self) -> None:
        before = self._clock() - _WINDOW
        for moments in (self._requests, self._repeats):
            while moments and moments[0] <= before:
                moments.popleft()


@dataclass(frozen=True, slots=True)
class Step:
    """What happens next; `delay` in seconds."""

    again: bool
    delay: float = 0.0
    other_key: bool = False


END = Step(again=False)
OTHER_KEY = Step(again=True, other_key=True)


class RetryPlan:
    """Decides after each failed attempt of one request."""

    def __init__(
        self, *, max_retries: int, budget: RetryBudget, jitter: Callable[[], float]
    ) -> None:
        self._left = max_retries
        self._done = 0
        self._budget = budget
        self._jitter = jitter
        self._tried_other_key = False

    def after(self, verdict: Verdict) -> Step:
        """Return the step that follows *verdict*."""
        if verdict.next is Next.OTHER_KEY:
            return OTHER_KEY
        if verdict.next is Next.ONE_OTHER_KEY and not self._tried_other_key:
            self._tried_other_key = True
            return OTHER_KEY
        if verdict.next is not Next.REPEAT:
            return END
        wait = verdict.seconds
        if self._left <= 0 or (wait is not None and wait > LONGEST_WAIT):
            return END
        if not self._budget.spend():
            return END
        self._left -= 1
        return Step(again=True, delay=self._backoff() if wait is None else wait)

    def _backoff(self) -> float:
        delay = min(FIRST_DELAY * 2.0**self._done, LONGEST_DELAY)
        self._done += 1
        return delay * (1 - 0.25 * self._jitter())
