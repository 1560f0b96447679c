"""
What reaches a person's eyes: marks, colours, paths and times.

Nothing a provider or a log file says may steer the terminal: `clean` comes between.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TextIO

import click

from ccproxy.cli.render.pasted import pasted
from ccproxy.cli.verb import Options
from ccproxy.text import printable

clean = printable

MARKS = {
    "ready": ("●", "green"),
    "starting": ("◐", "yellow"),
    "degraded": ("◐", "yellow"),
    "stopping": ("◐", "yellow"),
    "stopped": ("○", "bright_black"),
    "crash-loop": ("✗", "red"),
    "failed": ("✗", "red"),
    "foreign": ("✗", "red"),
}
"""The mark and the colour of each state; the word always stands beside them."""

_ASCII = str.maketrans(
    {"●": "*", "◐": "~", "○": "o", "✗": "x", "✓": "+", "·": "-", "…": "...", "–": "-", "→": "->"}
)


def show(text: str) -> None:
    """Write a line of the result to stdout."""
    click.echo(_fitted(text, sys.stdout))


def say(options: Options, text: str) -> None:
    """Write a line of talk to stderr, unless the user asked for quiet."""
    if not options.quiet:
        complain(text)


def complain(text: str, *, color: bool | None = None) -> None:
    """Write to stderr, whatever the options are: errors are never silenced."""
    click.echo(_fitted(pasted(text), sys.stderr), err=True, color=color)


def wants_color(environ: Mapping[str, str], *, no_color: bool) -> bool | None:
    """Return whether to colour; None leaves it to whether the stream is a terminal."""
    if no_color or environ.get("NO_COLOR"):
        return False
    if _is_on(environ.get("FORCE_COLOR")) or _is_on(environ.get("CLICOLOR_FORCE")):
        return True
    return False if environ.get("TERM") == "dumb" else None


def mark(state: str) -> str:
    """Return the coloured mark of *state*."""
    sign, color = MARKS.get(state, ("?", "yellow"))
    return click.style(sign, fg=color)


def tilde(path: Path) -> str:
    """Return *path* as a person would write it."""
    home = Path.home()
    return clean(f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path))


def near(path: Path) -> str:
    """Return *path* from the current folder where it lies inside, else as `tilde`."""
    here = Path.cwd()
    is_below = here != here.parent and path.is_relative_to(here)
    return clean(str(path.relative_to(here))) if is_below else tilde(path)


class Placed(Protocol):
    """Whatever has a host and a port."""

    @property
    def host(self) -> str:
        """Where it listens."""

    @property
    def port(self) -> int:
        """On which port."""


def address(placed: Placed) -> str:
    """Return `127.0.0.1:8081`, or `[::1]:8081`."""
    host = f"[{placed.host}]" if ":" in placed.host else placed.host
    return f"{host}:{placed.port}"


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units: `3d 4h`, `2h 10m`, `41s`."""
    left = max(0, int(seconds))
    units = [("d", 86400), ("h", 3600), ("m", 60), ("s", 1)]
    while len(units) > 1 and left < units[0][1]:
        units.pop(0)
    counts = []
    for unit, length in units[:2]:
        count, left = divmod(left, length)
        counts.append(f"{count}{unit}")
    return counts[0] if counts[-1].startswith("0") else " ".join(counts)


def _fitted(text: str, stream: TextIO) -> str:
    """Return *text* in characters that the stream's encoding has."""
    encoding = stream.encoding or "ascii"
    if encoding.lower().replace("-", "") == "utf8":
        return text
    return text.translate(_ASCII).encode(encoding, "replace").decode(encoding)


def _is_on(value: str | None) -> bool:
    return bool(value) and value != "0"


def width() -> int:
    """Return the columns to fill: the terminal's, never under 60, 120 where there is none."""
    try:
        columns = int(os.environ.get("COLUMNS", "")) or os.get_terminal_size().columns
    except (ValueError, OSError):
        columns = os.get_terminal_size().columns if sys.stdout.isatty() else 120
    return max(60, columns)


def size(count: int) -> str:
    """Return a number of bytes in the largest unit that leaves a whole number: `41 MB`."""
    number, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while number >= 1000 and len(units) > 1:
        number /= 1000
        units.pop(0)
    return f"{number:.0f} {units[0]}"


def counted(count: int, noun: str) -> str:
    """Return `1 worker`, `3 workers`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
