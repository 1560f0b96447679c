"""
What a check sees, and what it says.

A finding is made of labels, paths, numbers and words of ours; values of settings never get in.
So a report can be shown to strangers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from ccproxy.config.fleet import Fleet
from ccproxy.config.worker import WorkerConfig
from ccproxy.errors import Mistake
from ccproxy.supervisor.control.client import FleetStatus


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a check has to say."""

    level: Level
    text: str
    fix: str = ""
    """What to type, or to do."""
    mend: Callable[[], None] | None = field(default=None, compare=False)
    """Does it, where that is harmless."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything that checks look at; made once."""

    environ: Mapping[str, str]
    here: Path
    file: Path | None
    """The table; None if there is none."""
    fleet: Fleet | None
    workers: Mapping[str, WorkerConfig]
    """By label; those whose env files can be read."""
    mistakes: tuple[Mistake, ...]
    status: FleetStatus | None
    asks_providers: bool = True
    asks_keys: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """A question to the scene."""

    name: str
    run: Callable[[Scene], Iterable[Finding]]


def ok(text: str) -> Finding:
    """All is well."""
    return Finding(level=Level.OK, text=text)


def warn(text: str, *, fix: str = "", mend: Callable[[], None] | None = None) -> Finding:
    """Works, but will surprise somebody."""
    return Finding(level=Level.WARN, text=text, fix=fix, mend=mend)


def fail(text: str, *, fix: str = "", mend: Callable[[], None] | None = None) -> Finding:
    """Does not work, or is not safe."""
    return Finding(level=Level.FAIL, text=text, fix=fix, mend=mend)
