"""
Claude Code in a terminal: the content of its screen, and the user's keys.

pyte interprets the program's output to a pseudo-terminal.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyte

ROWS, COLUMNS = 50, 150
PATIENCE = 60.0
"""Seconds to wait for a text before a test fails; the machine may be busy."""

ENTER, DOWN = "\r", "\x1b[B"


def skip_first_questions(home: Path, folder: Path) -> None:
    """Answer the questions of a first start about theme, account and folder."""
    trusted = {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}
    (home / ".claude.json").write_text(
        json.dumps(
            {
                "hasCompletedOnboarding": True,
                "theme": "dark",
                "bypassPermissionsModeAccepted": True,
                "projects": {str(folder.resolve()): trusted},
            }
        )
    )


class Screen:
    """One program in a terminal of 50 rows and 150 columns."""

    def __init__(self, command: Sequence[str], cwd: Path, environ: Mapping[str, str]) -> None:
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self._is_closed = False
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execvpe(command[0], list(command), {**environ, "TERM": "xterm-256color"})
        size = struct.pack("HHHH", ROWS, COLUMNS, 0, 0)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, size)

    @property
    def text(self) -> str:
        """The current text of the screen."""
        return "\n".join(line.rstrip() for line in self._screen.display).strip()

    @property
    def rows(self) -> list[list[pyte.screens.Char]]:
        """The cells of each row, with their colors."""
        return [[self._screen.buffer[y][x] for x in range(COLUMNS)] for y in range(ROWS)]

    def wait_for(self, *texts: str) -> str:
        """Read until the screen shows all *texts*."""
        late = time.monotonic() + PATIENCE
        while not all(text in self.text for text in texts):
            remaining = late - time.monotonic()
            assert remaining > 0, f"still no {texts} on the screen:\n{self.text}"
            assert not self._is_closed, f"ended without {texts}:\n{self.text}"
            self._read(min(remaining, 1.0))
        return self.text

    def press(self, *keys: str) -> None:
        """Press *keys* one by one, each after the program has drawn the effect of the last one."""
        for key in keys:
            while self._read(0.1):
                pass
            os.write(self._fd, key.encode())
            self._read(1.0)

    def end(self) -> int:
        """Read until the program exits, and return its exit code."""
        late = time.monotonic() + PATIENCE
        while time.monotonic() < late:
            self._read(0.2)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
        raise AssertionError(f"still running:\n{self.text}")

    def close(self) -> None:
        """Kill the program if it is still running."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)

    def _read(self, seconds: float) -> bool:
        """Read the output that arrives within *seconds*; return False if there is none."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # the program has closed the terminal
            data = b""
        self._stream.feed(data)
        self._is_closed = not data
        return bool(data)
