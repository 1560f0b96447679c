"""Events that are passed on, because the provider speaks the client's own API."""

from __future__ import annotations

from collections.abc import Callable

from ccproxy.protocol import sse

CUT = "the provider's stream broke off before the end of the answer"


class StreamPassthrough:
    """Passes on whole events only, so that an error event can follow any of them."""

    def __init__(self, read: Callable[[bytes], bytes]) -> None:
        """*read* gets the data of each event, and returns the data to pass on."""
        self._read = read
        self._decoder = sse.Decoder()

    def feed(self, data: bytes) -> bytes:
        """Return the events that are complete."""
        return b"".join([self._passed(event) for event in self._decoder.feed(data)])

    def rest(self) -> bytes:
        """Return the last event, if its blank line never came."""
        return b"".join([self._passed(event) for event in self._decoder.close()])

    def _passed(self, event: sse.ServerEvent) -> bytes:
        data = self._read(event.data)
        if b"\n" in data:
            data = data.replace(b"\n", b"\ndata: ")
        return sse.encode(event.event, data) if event.event else b"data: %b\n\n" % data
