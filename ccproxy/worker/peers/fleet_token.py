"""
How a worker knows another of its fleet: a token that only who reads `state/signing.key` can make.

It stands for a client key between siblings, is made for one entry and good for a minute, so that
whoever has taken over a sibling's port learns nothing that opens another's.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

HEADER = "x-ccproxy-fleet"
GOOD_FOR_SECONDS = 60


class FleetToken:
    """Makes and checks tokens with the fleet's key."""

    def __init__(self, key: bytes, *, clock: Callable[[], float] = time.time) -> None:
        # A key of its own: nothing that signs thinking blocks may pass for a token.
        self._key = hmac.new(key, b"ccproxy fleet token", hashlib.sha256).digest()
        self._clock = clock

    def issue(self, label: str) -> str:
        """Return a token for the entry *label*."""
        return self._signed(label, int(self._clock()))

    def is_good(self, token: str, label: str) -> bool:
        """Tell whether *token* was made for *label* within the last minute."""
        second, _, _ = token.partition(".")
        if not (second.isascii() and second.isdigit() and len(second) <= 12):
            return False
        if abs(self._clock() - int(second)) > GOOD_FOR_SECONDS:
            return False
        wanted = self._signed(label, int(second))
        return hmac.compare_digest(wanted.encode(), token.encode("utf-8", "surrogateescape"))

    def _signed(self, label: str, second: int) -> str:
        text = f"{second}:{label.lower()}".encode()
        return f"{second}.{hmac.new(self._key, text, hashlib.sha256).hexdigest()}"
