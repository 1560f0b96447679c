"""
The input and the result of a check.

A finding contains labels, paths, numbers and fixed text, but never a setting's value, so that a
report can be shared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from ccproxy.cli.render.terminal import short_path
from ccproxy.config.fleet import Fleet
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.errors import Mistake
from ccproxy.supervisor.control.client import FleetStatus
from ccproxy.supervisor.control.status import Row


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One result of a check."""

    level: Level
    text: str
    fix: str = ""
    """The command to run, or an instruction."""
    repair: Callable[[], None] | None = field(default=None, compare=False)
    """Applies the fix; None if applying it automatically could do harm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The facts that the checks examine, collected once."""

    environ: Mapping[str, str]
    cwd: Path
    file: Path | None = None
    """None if there is no table."""
    fleet: Fleet | None = None
    workers: Mapping[str, WorkerConfig] = field(default_factory=dict)
    """The configurations of the entries with valid env files, by label."""
    mistakes: tuple[Mistake, ...] = ()
    status: FleetStatus | None = None
    status_error: OSError | None = None
    """Why there is no status although there is a table, such as a folder of another user."""
    connects: bool = True
    """Whether checks may open connections to the providers."""
    tests_keys: bool = False
    """Whether each provider gets a test request."""

    @property
    def rows(self) -> Sequence[Row]:
        """The status of each proxy; empty if there is no status."""
        return self.status.proxies if self.status else ()


def ok(text: str) -> Finding:
    """Return a finding that reports no problem."""
    return Finding(level=Level.OK, text=text)


def warn(text: str, *, fix: str = "", repair: Callable[[], None] | None = None) -> Finding:
    """Return a finding about something that probably does not work as intended."""
    return Finding(level=Level.WARN, text=text, fix=fix, repair=repair)


def fail(text: str, *, fix: str = "", repair: Callable[[], None] | None = None) -> Finding:
    """Return a finding about something that fails or is not safe."""
    return Finding(level=Level.FAIL, text=text, fix=fix, repair=repair)


def not_read(error: OSError) -> Finding:
    """Return a finding about a file that this user is not permitted to read."""
    text = error.strerror or str(error)
    if isinstance(error.filename, str):
        text = f"{short_path(Path(error.filename))}: {text}"
    return fail(text, fix="run ccproxy doctor as the owner of the files")
