"""
Signed, short-lived, single-purpose values that a browser stores for the gateway between pages.

The gateway itself stores no state between pages, so any worker with the same key can serve the next
one.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping

import msgspec

MAX_LENGTH = 4096
"""Maximum number of characters in a value."""


class SignedValues:
    """Seals and opens values."""

    def __init__(self, key: bytes, *, clock: Callable[[], float]) -> None:
        """*clock* returns seconds since the epoch, and is the same in all workers."""
        self._key = key
        self._clock = clock

    def seal(self, purpose: str, fields: Mapping[str, str], *, seconds: float) -> str:
        """Return *fields* as a string that `open` accepts for *purpose* within *seconds*."""
        content = msgspec.json.encode((self._clock() + seconds, dict(fields)))
        text = base64.urlsafe_b64encode(content).decode()
        return f"{text}.{self._signature(purpose, text)}"

    def open(self, purpose: str, value: str) -> Mapping[str, str]:
        """Return the fields of *value*; empty if it is forged, expired or for another purpose."""
        text, _, signature = value[:MAX_LENGTH].rpartition(".")
        expected = self._signature(purpose, text)
        if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogatepass")):
            return {}
        try:
            content = base64.urlsafe_b64decode(text)
            end, fields = msgspec.json.decode(content, type=tuple[float, dict[str, str]])
        except (binascii.Error, msgspec.DecodeError):
            return {}
        return fields if self._clock() < end else {}

    def _signature(self, purpose: str, text: str) -> str:
        data = f"{purpose}\0{text}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, data, "sha256").hexdigest()
