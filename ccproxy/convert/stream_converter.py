"""The common interface of the converters from a provider's stream to a client's."""

from __future__ import annotations

from typing import Protocol

from ccproxy.errors import Problem


class StreamConverter(Protocol):
    """Converts the bytes of a source into bytes for the client's stream."""

    @property
    def ended(self) -> bool:
        """Whether the rest of the source can be ignored."""

    @property
    def stopped(self) -> bool:
        """Whether the source continues after the end of the answer."""

    def feed(self, data: bytes) -> bytes:
        """Convert a piece of the source. Raises Problem if it is an error."""

    def close(self) -> bytes:
        """Return the end of the answer. Raises Problem if the answer is incomplete."""

    def fail(self, problem: Problem) -> bytes:
        """Return the event that ends the client's stream after a failure."""
