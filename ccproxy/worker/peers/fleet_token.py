"""
The token that authenticates one worker of a fleet to another: only processes that can read
`state/signing.key` can create one.

Between peers, it replaces a client key. It is valid for one entry and one minute, so a program that
listens on the port of a former peer cannot use the token with another entry.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

HEADER = "x-ccproxy-fleet"
VALID_SECONDS = 60


class FleetToken:
    """Creates and checks tokens with the fleet's key."""

    def __init__(self, key: bytes, *, clock: Callable[[], float] = time.time) -> None:
        # A derived key, so that no signature of a thinking block can serve as a token.
        self._key = hmac.new(key, b"ccproxy fleet token", hashlib.sha256).digest()
        self._clock = clock

    def issue(self, label: str) -> str:
        """Return a token for the entry *label*."""
        return self._sign(label, int(self._clock()))

    def is_valid(self, token: str, label: str) -> bool:
        """Return True if *token* was created for *label* within the last minute."""
        second, _, _ = token.partition(".")
        if not (second.isascii() and second.isdigit() and len(second) <= 12):
            return False
        if abs(self._clock() - int(second)) > VALID_SECONDS:
            return False
        expected = self._sign(label, int(second))
        return hmac.compare_digest(expected.encode(), token.encode("utf-8", "surrogateescape"))

    def _sign(self, label: str, second: int) -> str:
        text = f"{second}:{label.lower()}".encode()
        return f"{second}.{hmac.new(self._key, text, hashlib.sha256).hexdigest()}"
