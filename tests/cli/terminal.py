"""Run a command line at a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess

from tests.cli.conftest import command


class Terminal:
    """A command line at a pseudo-terminal, and its output."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        self.ours, theirs = pty.openpty()
        self.child = subprocess.Popen(
            command(*arguments),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**os.environ, "TERM": "dumb", **environ},
        )
        os.close(theirs)
        self.seen = ""
        self._read = 0

    def wait_for(self, text: str) -> None:
        """Read until *text* appears after the previous call's text."""
        while (at := self.seen.find(text, self._read)) < 0:
            output = self._listen()
            assert output, self.seen
            self.seen += output
        self._read = at + len(text)

    def type(self, text: str) -> None:
        """Send *text* as keyboard input."""
        os.write(self.ours, text.encode())

    def end(self) -> int:
        """Wait for the process to exit, and return its exit code."""
        while output := self._listen():
            self.seen += output
        os.close(self.ours)
        return self.child.wait(timeout=30)

    def _listen(self) -> str:
        """Return the next output; empty after the exit, or after 30 s of silence."""
        if not select.select([self.ours], [], [], 30)[0]:
            self.child.kill()
            return ""
        try:
            return os.read(self.ours, 65536).decode(errors="replace")
        except OSError:  # this is how Linux reports that the other end is closed
            return ""
