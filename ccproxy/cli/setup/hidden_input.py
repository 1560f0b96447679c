"""Read secrets from a terminal without echo."""

from __future__ import annotations

import sys
import termios
from collections.abc import Callable

import click

from ccproxy.cli.render.terminal import print_error


def read_hidden_lines(
    question: str, *, on_line: Callable[[str], None] = lambda _: None
) -> list[str]:
    """
    Return the typed or pasted lines up to an empty one. None of them is echoed.

    *on_line* is called with each line, for feedback. `getpass` cannot be used: it reads one line
    and discards the rest of what was pasted.

    Raises:
        click.Abort: If the terminal is closed, or the user ends the input.

    """
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    silent = [*before]
    silent[3] &= ~termios.ECHO
    lines: list[str] = []
    try:
        termios.tcsetattr(terminal, termios.TCSADRAIN, silent)
        print_error(question)
        while line := sys.stdin.readline():
            if not line.strip():
                return lines
            lines.append(line.strip())
            on_line(line.strip())
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
    raise click.Abort
