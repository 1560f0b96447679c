"""The common interface of everything that makes a client's stream from a provider's."""

from __future__ import annotations

from typing import Protocol

from ccproxy.errors import Problem


class StreamConverter(Protocol):
    """Turns the bytes of a source into the client's."""

    @property
    def ended(self) -> bool:
        """Whether the rest of the source can be ignored."""

    @property
    def stopped(self) -> bool:
        """Whether the source continues after the end of the answer."""

    def feed(self, data: bytes) -> bytes:
        """Convert a piece. Raises Problem if it is an error."""

    def close(self) -> bytes:
        """Return the end of the answer. Raises Problem if it has none."""

    def fail(self, problem: Problem) -> bytes:
        """Return the event that ends a stream which has begun."""
