"""Reads secrets from a terminal without showing them."""

from __future__ import annotations

import sys
import termios

import click

from ccproxy.cli.render.terminal import complain


def read_hidden_lines(question: str) -> list[str]:
    """
    Return the lines that are typed or pasted up to an empty one, none of them shown.

    `getpass` reads one line and throws away what was pasted behind it.

    Raises:
        click.Abort: If the terminal is closed, or its user ends the input.

    """
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    silent = [*before]
    silent[3] &= ~termios.ECHO
    lines: list[str] = []
    try:
        termios.tcsetattr(terminal, termios.TCSADRAIN, silent)
        complain(question)
        while line := sys.stdin.readline():
            if not line.strip():
                return lines
            lines.append(line.strip())
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
    raise click.Abort
