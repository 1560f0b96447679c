"""
Decoder and encoder of server-sent events.

`Decoder.feed` splits its input into lines. The last, unfinished line is stored in a buffer that
grows in place, so that time and memory do not depend on the number of reads. Lines end in LF, CRLF
or CR only (U+2028, U+0085, VT and FF are text). A CR ends its line at once; an LF at the start of
the next read belongs to it.

The rules are those of the HTML standard ("Interpreting an event stream") with one exception:
`close` delivers a last event without its blank line, because several providers omit that line.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from typing import NamedTuple

from ccproxy.errors import BadAnswer

LIMIT = 16 * 1024 * 1024
"""Largest size of one event in bytes, including comments and unknown fields."""
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
"""Keep-alive event (Messages API, "Ping events")."""
COMMENT = b": ping\n\n"
"""Keep-alive for APIs without such an event; every client ignores comments."""

_LINE_END = re.compile(rb"\r\n|\n|\r")


class ServerEvent(NamedTuple):
    """One event; `event` is b"" if it has no name."""

    event: bytes
    data: bytes


def encode(event: bytes, data: bytes) -> bytes:
    """Return the event as bytes; *data* must be one line."""
    return b"event: %b\ndata: %b\n\n" % (event, data)


def too_large(limit: int = LIMIT) -> BadAnswer:
    """Return the error about an event of more than *limit* bytes."""
    return BadAnswer(f"The provider sent an event of more than {limit:,} bytes")


class Decoder:
    """
    Splits one stream into events.

    Feed it every read, then close it; both return the events completed by the call. An event larger
    than *limit* bytes raises a Problem; the decoder cannot be used afterwards.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._unread = bytearray()  # the unfinished line
        self._after_cr = False
        self._event = b""
        self._data: list[bytes] = []
        self._size = 0  # bytes of the lines since the last blank one
        self.begun = False
        """True after the first line, where a BOM may occur. Set it to True if bytes are skipped."""
        self.idle = True
        """True between two events: no byte of the next one has been read."""

    def feed(self, data: bytes) -> list[ServerEvent]:
        """
        Process one read and return the events that end in it.

        Raises:
            Problem: api_error if an event is larger than the limit.
        """
        if self.idle and _is_one_line(data) and len(data) <= self._limit:
            self.begun = True
            self._size = 0
            return [ServerEvent(b"", data[6:-2])]
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            lines = _LINE_END.split(data)
        else:
            lines = data.split(b"\n")
        rest = lines.pop()
        events: list[ServerEvent] = []
        if lines:
            self._take_lines(lines, events)
        if rest:
            self._unread += rest
            if len(self._unread) + self._size > self._limit:
                raise too_large(self._limit)
        self.idle = not (self._unread or self._data or self._event or self._after_cr)
        return events

    def close(self) -> list[ServerEvent]:
        """Return the last event if the stream ended without its blank line."""
        events: list[ServerEvent] = []
        self._take_lines([b"", b""], events)
        return events

    def _take_lines(self, lines: list[bytes], events: list[ServerEvent]) -> None:
        if self._unread:
            self._unread += lines[0]
            lines[0] = bytes(self._unread)
            self._unread.clear()
        if not self.begun:
            self.begun = True
            lines[0] = lines[0].removeprefix(BOM_UTF8)
        for line in lines:
            if line:
                self._take_field(line)
            elif self._data or self._event:
                self._dispatch(events)
            else:
                self._size = 0

    def _take_field(self, line: bytes) -> None:
        self._size += len(line)
        if self._size > self._limit:
            raise too_large(self._limit)
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif name == b"event":
            self._event = value.removeprefix(b" ")

    def _dispatch(self, events: list[ServerEvent]) -> None:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        if data:
            events.append(ServerEvent(self._event, data))
        self._event = b""
        self._data = []
        self._size = 0


def _is_one_line(data: bytes) -> bool:
    """Return True if *data* is the most frequent event: one data line and a blank line."""
    return (
        data.startswith(b"data: ")
        and data.find(b"\n") == len(data) - 2
        and data.endswith(b"\n")
        and b"\r" not in data
        and len(data) > len(b"data: \n\n")
    )
