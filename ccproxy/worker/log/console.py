"""
The worker's log on stderr too, for one that runs in somebody's foreground.

Theory of operation: lines are kept for 20 ms and written together, so that a busy proxy pays for
one write in many requests. A reader that has stopped (a terminal after Ctrl-S, a full pipe) never
holds a request up: nothing is written that the system would not take at once, and what does not
fit into a mebibyte meanwhile is left out and counted. The log file holds every line.
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
from ccproxy.logs import LogFile
from ccproxy.text import printable

Style = Literal["text", "color", "json"]
STYLES: tuple[Style, ...] = ("text", "color", "json")

TOGETHER_SECONDS = 0.02
LAST_WORDS_MS = 500
"""How long the last lines may take when the worker ends."""
MOST_WAITING = 1024 * 1024
"""Bytes."""
_PIECE = select.PIPE_BUF
"""What the system takes at once from whoever it told that there is room."""


class Echo:
    """Writes lines to the descriptor *fd*; made in the event loop, called from any thread."""

    def __init__(self, style: Style, *, fd: int | None = None, encoding: str = "") -> None:
        self._style = style
        self._fd = sys.stderr.fileno() if fd is None else fd
        self._encoding = encoding or sys.stderr.encoding
        self._loop = asyncio.get_running_loop()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self._lines: deque[bytes] = deque()
        self._waiting = bytearray()
        self._left_out = 0
        self._is_due = False
        self._is_open = True

    def __call__(self, line: bytes) -> None:
        """Show a line of the log."""
        if not self._is_open:
            return
        self._lines.append(line)
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon_threadsafe(self._later)

    def say(self, text: str) -> None:
        """Show a sentence that is no line of the log."""
        self._render()
        self._waiting += f"{text}\n".encode(self._encoding, "replace")
        self._write(0)

    def close(self) -> None:
        """Write what is left, if somebody reads it."""
        self._render()
        self._write(LAST_WORDS_MS)
        self._is_open = False

    def _later(self) -> None:
        self._loop.call_later(TOGETHER_SECONDS, self._flush)

    def _flush(self) -> None:
        self._is_due = False
        self._render()
        self._write(0)
        if self._waiting and not self._is_due:
            self._is_due = True
            self._later()

    def _render(self) -> None:
        while self._lines:
            line = self._lines.popleft()
            if len(self._waiting) > MOST_WAITING:
                self._left_out += 1
            else:
                self._waiting += self._text(line).encode(self._encoding, "replace")

    def _text(self, line: bytes) -> str:
        text = line.decode(errors="replace")
        if self._style == "json":
            return f"{printable(text)}\n"
        fields = json.loads(text)
        at = datetime.fromisoformat(fields["time"]).timestamp()
        return f"{format_record(fields, at=at, color=self._style == 'color')}\n"

    def _write(self, patience: int) -> None:
        while self._is_open and self._waiting and self._poll.poll(patience):
            try:
                written = os.write(self._fd, self._waiting[:_PIECE])
            except BlockingIOError:
                return
            except OSError:  # nobody is there any more
                self._is_open = False
                self._waiting.clear()
                return
            del self._waiting[:written]
            if not self._waiting and self._left_out:
                self._waiting += f"({self._left_out} lines are only in the log file)\n".encode()
                self._left_out = 0


class EchoedLog(LogFile):
    """A log file whose lines are shown, too."""

    def __init__(self, path: Path, echo: Callable[[bytes], None]) -> None:
        super().__init__(path)
        self._echo = echo

    def write(self, lines: bytes) -> None:
        """Append the lines, and show them."""
        super().write(lines)
        for line in lines.split(b"\n"):
            self._echo(line)
