"""
Server-sent events: bytes in, events out, and back.

Theory of operation: `Decoder.feed` cuts whatever it is given into lines; the last, unfinished one
waits in pieces, so that a line of 4 MiB costs the same in one read as in four thousand. Lines end
in LF, CRLF or CR and nothing else (U+2028, U+0085, VT and FF are text). A CR ends its line at once;
an LF that follows in the next read belongs to it.

The rules are those of the HTML standard ("Interpreting an event stream"), but for one: an event
whose blank line never came is delivered by `close`, since several providers end so.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ccproxy.errors import BadAnswer

LIMIT = 16 * 1024 * 1024
"""The most bytes that one event may have, comments and unknown fields among them."""
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
"""Says nothing but that we are still there (Messages API, "Ping events")."""

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class ServerEvent(NamedTuple):
    """One event; `event` is b"" where the provider gave no name."""

    event: bytes
    data: bytes


def encode(event: bytes, data: bytes) -> bytes:
    """Return the event as bytes; *data* must be one line."""
    return b"event: %b\ndata: %b\n\n" % (event, data)


def too_large(limit: int = LIMIT) -> BadAnswer:
    """Return what is raised for an event of more than *limit* bytes."""
    return BadAnswer(f"The provider sent an event of more than {limit:,} bytes")


class Decoder:
    """
    Cuts one stream into events.

    Feed it every read, then close it; both give back the events that became complete. An event
    larger than *limit* bytes raises a Problem; the decoder is of no use afterwards.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._unread: list[bytes] = []  # pieces of the line that has not ended
        self._unread_size = 0
        self._after_cr = False
        self._event = b""
        self._data: list[bytes] = []
        self._size = 0  # of the lines that have ended since the last blank one
        self.begun = False
        """True when a byte order mark would be text. To be set where bytes were passed by."""
        self.idle = True
        """True between two events: nothing of the next one has been seen."""

    def feed(self, data: bytes) -> list[ServerEvent]:
        """
        Take one read and return the events that end in it.

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
            self._unread.append(rest)
            self._unread_size += len(rest)
            if self._unread_size + self._size > self._limit:
                raise too_large(self._limit)
        self.idle = not (self._unread or self._data or self._event or self._after_cr)
        return events

    def close(self) -> list[ServerEvent]:
        """Return the last event, if the stream ended without its blank line."""
        events: list[ServerEvent] = []
        self._take_lines([b"", b""], events)
        return events

    def _take_lines(self, lines: list[bytes], events: list[ServerEvent]) -> None:
        if self._unread:
            lines[0] = b"".join([*self._unread, lines[0]])
            self._unread.clear()
            self._unread_size = 0
        if not self.begun:
            self.begun = True
            lines[0] = lines[0].removeprefix(_BOM)
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
    """Tell whether *data* is the event that comes most often: one data line and a blank one."""
    return (
        data.startswith(b"data: ")
        and data.find(b"\n") == len(data) - 2
        and data.endswith(b"\n")
        and b"\r" not in data
        and len(data) > len(b"data: \n\n")
    )
