"""
Rates and latencies of the last minutes, updated at the end of each request.

Counts are kept in buckets of five seconds. The times to the first byte of the last answers are kept
sorted, so that reading them is fast: `status`, `top` and `ui` do so often.
"""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ccproxy.ipc.control_messages import Traffic
from ccproxy.worker.server.access_record import AccessRecord

BUCKET_SECONDS = 5.0
BUCKETS = 60
"""The number of buckets: five minutes in total."""
MINUTE_BUCKETS = 12
MAX_TIMES = 1000
"""Maximum number of first-byte times kept; with more requests, they cover a shorter window."""


@dataclass(slots=True)
class _Bucket:
    number: int
    requests: int = 0
    errors: int = 0
    output: int = 0


class TrafficMeter:
    """Counts the requests of one worker."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: deque[_Bucket] = deque(maxlen=BUCKETS)
        self._times: deque[tuple[float, float]] = deque()
        """When an answer ended, and its time to the first byte."""
        self._sorted_times: list[float] = []

    def note(self, record: AccessRecord) -> None:
        """Count a finished request."""
        now = self._clock()
        number = int(now / BUCKET_SECONDS)
        if not self._buckets or self._buckets[-1].number != number:
            self._buckets.append(_Bucket(number))
        bucket = self._buckets[-1]
        bucket.requests += 1
        bucket.errors += record.failed
        first_byte = record.first_byte_after
        if first_byte is not None:
            bucket.output += record.usage.get("output_tokens") or 0
            self._times.append((now, first_byte))
            insort(self._sorted_times, first_byte)
            if len(self._times) > MAX_TIMES:
                self._forget_oldest_time()

    def report(self) -> Traffic:
        """Return the current rates."""
        now = self._clock()
        last = int(now / BUCKET_SECONDS)
        minute = [one for one in self._buckets if one.number > last - MINUTE_BUCKETS]
        recent = [one for one in self._buckets if one.number > last - BUCKETS]
        oldest = now - BUCKETS * BUCKET_SECONDS
        while self._times and self._times[0][0] <= oldest:
            self._forget_oldest_time()
        times = self._sorted_times
        counts = [0] * BUCKETS
        for one in recent:
            counts[one.number - last - 1] = one.requests
        return Traffic(
            requests_per_minute=sum(one.requests for one in minute),
            output_tokens_per_s=round(sum(one.output for one in minute) / 60, 1),
            requests=sum(one.requests for one in recent),
            errors=sum(one.errors for one in recent),
            answers=len(times),
            ttft_median_s=_quantile(times, 0.5),
            ttft_p95_s=_quantile(times, 0.95),
            history=tuple(counts),
        )

    def _forget_oldest_time(self) -> None:
        _, seconds = self._times.popleft()
        del self._sorted_times[bisect_left(self._sorted_times, seconds)]


def _quantile(times: Sequence[float], share: float) -> float | None:
    """Return the nearest-rank quantile of sorted *times*, or None if there are none."""
    if not times:
        return None
    return round(times[min(len(times) - 1, int(share * len(times)))], 3)
