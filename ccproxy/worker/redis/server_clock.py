"""The clock of the Redis server, which makes the times of all replicas comparable."""

from __future__ import annotations

import time

_MAX_AGE = 10.0
"""Age in seconds at which a comparison is replaced even by a less exact one."""


class ServerClock:
    """
    Seconds since the epoch by the server's clock, or by this machine's before a comparison.

    The shorter the round trip, the more exact the comparison.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self._round_trip = float("inf")
        self._compared_at = float("-inf")

    def __call__(self) -> float:
        """Return the server's time."""
        return time.monotonic() + self._offset

    def note(self, server_time: float, sent_at: float, received_at: float) -> None:
        """Compare clocks: the server read *server_time* between two monotonic times."""
        round_trip = received_at - sent_at
        if round_trip > self._round_trip and received_at - self._compared_at < _MAX_AGE:
            return
        self._offset = server_time - (sent_at + received_at) / 2
        self._round_trip, self._compared_at = round_trip, received_at
