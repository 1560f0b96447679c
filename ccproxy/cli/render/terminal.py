"""
Output to the terminal: streams, colors, state marks, paths and widths.

Text from providers, log files and users passes through `ccproxy.text.printable` before it is
printed, so that it cannot control the terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TextIO

import click

from ccproxy.cli.command import Options
from ccproxy.cli.render.command_lines import callable_here
from ccproxy.files import display_path, home_folder
from ccproxy.text import printable

MARKS = {
    "ready": ("●", "green"),
    "starting": ("◐", "yellow"),
    "degraded": ("◐", "yellow"),
    "bypassed": ("◐", "yellow"),
    "stopping": ("◐", "yellow"),
    "stopped": ("○", "bright_black"),
    "crash-loop": ("✗", "red"),
    "failed": ("✗", "red"),
    "foreign": ("✗", "red"),
}
"""The mark and the color of each state. The state itself is always printed as well."""

_ASCII = str.maketrans(
    {
        "●": "*",
        "◐": "~",
        "○": "o",
        "✗": "x",
        "✓": "+",
        "·": "-",
        "…": "...",
        "–": "-",
        "→": "->",
        "█": "#",
        "▏": "|",
    }
)
_LEAST_WIDTH = 60


def show(text: str) -> None:
    """Print a line of the result to stdout."""
    click.echo(_encodable(text, sys.stdout))


def show_json(value: object) -> None:
    """Print *value* as JSON to stdout, in ASCII."""
    show(json.dumps(value, indent=2))


def notify(options: Options, text: str) -> None:
    """Print a message to stderr, unless --quiet is set."""
    if not options.quiet:
        print_error(text)


def print_error(text: str, *, color: bool | None = None) -> None:
    """Print to stderr, even with --quiet."""
    click.echo(_encodable(callable_here(text), sys.stderr), err=True, color=color)


def warn_unsaved(label: str, reason: str) -> bool:
    """Warn that a change to the proxy *label* is not saved; return False if *reason* is empty."""
    if reason:
        text = (
            f"warning: {label}: the change was not saved ({reason}) "
            "and will be lost when the proxy restarts"
        )
        print_error(printable(text))
    return bool(reason)


def exit_if_unsaved(label: str, reason: str) -> None:
    """Warn as `warn_unsaved` does, and end the command with exit code 1."""
    if warn_unsaved(label, reason):
        raise SystemExit(1)


def wants_color(environ: Mapping[str, str], *, no_color: bool) -> bool | None:
    """Return whether to use colors; None means to use them only if the stream is a terminal."""
    if no_color or environ.get("NO_COLOR"):
        return False
    if _is_on(environ.get("FORCE_COLOR")) or _is_on(environ.get("CLICOLOR_FORCE")):
        return True
    return False if environ.get("TERM") == "dumb" else None


def state_mark(state: str) -> str:
    """Return the colored mark of *state*."""
    character, color = MARKS.get(state, ("?", "yellow"))
    return click.style(character, fg=color)


def tilde(path: Path) -> str:
    """Return *path* with `~` in place of the home folder."""
    home = home_folder(os.environ)
    is_below = home != home.parent and path.is_relative_to(home)
    return printable(f"~/{path.relative_to(home)}" if is_below else str(path))


def short_path(path: Path) -> str:
    """Return *path* relative to the current folder if it is inside it, else as `tilde` does."""
    below = display_path(path)
    return tilde(path) if below == path else printable(str(below))


class HasAddress(Protocol):
    """An object with the host and port of a proxy."""

    @property
    def host(self) -> str:
        """The host on which the proxy listens."""

    @property
    def port(self) -> int:
        """The port on which the proxy listens."""


def address(listener: HasAddress) -> str:
    """Return `127.0.0.1:8081`, or `[::1]:8081`."""
    host = f"[{listener.host}]" if ":" in listener.host else listener.host
    return f"{host}:{listener.port}"


def columns() -> int | None:
    """Return the maximum width of a table; None, which means no limit, for a pipe or a file."""
    try:
        # `watch` pipes the output and sets COLUMNS to the width of the terminal.
        width = int(os.environ.get("COLUMNS", "")) or os.get_terminal_size().columns
    except (ValueError, OSError):
        if not sys.stdout.isatty():
            return None
        width = os.get_terminal_size().columns
    return max(_LEAST_WIDTH, width)


def _encodable(text: str, stream: TextIO) -> str:
    """Replace the characters of *text* that the encoding of *stream* cannot represent."""
    encoding = stream.encoding or "ascii"
    if encoding.lower().replace("-", "") == "utf8":
        return text
    return text.translate(_ASCII).encode(encoding, "replace").decode(encoding)


def _is_on(value: str | None) -> bool:
    return bool(value) and value != "0"
