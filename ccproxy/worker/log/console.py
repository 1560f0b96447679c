"""
A copy of the worker's log on stderr, for a worker in the foreground.

Lines are collected for 20 ms and written together, so that a busy proxy writes once for many
requests. A reader that has stopped (a terminal after Ctrl-S, a full pipe) never delays a request:
writes do not block, and lines beyond a backlog of 1 MiB are only counted. The log file contains
every line.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import sys
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal

from ccproxy.log_format import format_record
from ccproxy.log_rotation import LogFile
from ccproxy.text import printable

Style = Literal["text", "color", "json"]
STYLES: tuple[Style, ...] = ("text", "color", "json")

COLLECT_SECONDS = 0.02
FINAL_WRITE_MS = 500
"""Time limit for the last lines when the worker ends."""
MAX_PENDING_BYTES = 1024 * 1024
_WRITE_SIZE = select.PIPE_BUF
"""Bytes that a descriptor accepts without blocking once it is writable."""


class ConsoleLog:
    """Writes lines to *fd*; created in the event loop, called from any thread."""

    def __init__(self, style: Style, *, fd: int | None = None, encoding: str = "") -> None:
        self._style = style
        self._fd = sys.stderr.fileno() if fd is None else fd
        self._encoding = encoding or sys.stderr.encoding
        self._loop = asyncio.get_running_loop()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self._lines: deque[bytes] = deque()
        self._pending = bytearray()
        self._omitted = 0
        self._is_scheduled = False
        self._is_open = True

    def __call__(self, line: bytes) -> None:
        """Show a log line."""
        if not self._is_open:
            return
        self._lines.append(line)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon_threadsafe(self._schedule)

    def write_text(self, text: str) -> None:
        """Show text that is not a log line."""
        self._render()
        self._pending += f"{text}\n".encode(self._encoding, "replace")
        self._write(0)

    def close(self) -> None:
        """Write the remaining lines if the reader accepts them in time."""
        self._render()
        self._write(FINAL_WRITE_MS)
        self._is_open = False

    def _schedule(self) -> None:
        self._loop.call_later(COLLECT_SECONDS, self._flush)

    def _flush(self) -> None:
        self._is_scheduled = False
        self._render()
        self._write(0)
        if self._pending and not self._is_scheduled:
            self._is_scheduled = True
            self._schedule()

    def _render(self) -> None:
        while self._lines:
            line = self._lines.popleft()
            if len(self._pending) > MAX_PENDING_BYTES:
                self._omitted += 1
            else:
                self._pending += self._text(line).encode(self._encoding, "replace")

    def _text(self, line: bytes) -> str:
        text = line.decode(errors="replace")
        if self._style == "json":
            return f"{printable(text)}\n"
        fields = json.loads(text)
        at = datetime.fromisoformat(fields["time"]).timestamp()
        return f"{format_record(fields, at=at, color=self._style == 'color')}\n"

    def _write(self, timeout_ms: int) -> None:
        while self._is_open and self._pending and self._poll.poll(timeout_ms):
            try:
                written = os.write(self._fd, self._pending[:_WRITE_SIZE])
            except BlockingIOError:
                return
            except OSError:  # the reader has closed its end
                self._is_open = False
                self._pending.clear()
                return
            del self._pending[:written]
            if not self._pending and self._omitted:
                self._pending += f"({self._omitted} lines are only in the log file)\n".encode()
                self._omitted = 0


class EchoingLogFile(LogFile):
    """
    A log file whose lines are also shown on the console.

    A container may have no writable folder: the console alone is enough.
    """

    def __init__(self, path: Path, echo: Callable[[bytes], None]) -> None:
        super().__init__(path, is_optional=True)
        self._echo = echo

    def write(self, lines: bytes) -> None:
        """Append the lines and show them."""
        super().write(lines)
        for line in lines.split(b"\n"):
            self._echo(line)
