"""
Everything that the user wrote, checked together: the table and every env file that it names.

Called before anything is started or changed: a mistake in one file stops the whole command, and
all mistakes of all files are told at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ccproxy.config.fleet import Fleet, read_fleet
from ccproxy.config.worker import WorkerConfig, load_worker
from ccproxy.errors import ConfigError, Mistake


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A fleet, what its env files say, and what is wrong with either."""

    fleet: Fleet
    workers: Mapping[str, WorkerConfig]
    """By label; an entry with a mistake in its env file is missing."""
    mistakes: tuple[Mistake, ...]


def check_fleet(path: Path) -> Checked:
    """Read the table *path* and all its env files; nothing is raised."""
    fleet, found = read_fleet(path)
    mistakes = list(found)
    workers: dict[str, WorkerConfig] = {}
    ports = {entry.port: entry.label for entry in fleet.entries}
    for entry in fleet.entries:
        try:
            workers[entry.label] = load_worker(entry.env_file, entry=entry, ports=ports)
        except ConfigError as error:
            mistakes += [one for one in error.mistakes if one not in mistakes]
    return Checked(fleet=fleet, workers=MappingProxyType(workers), mistakes=tuple(mistakes))


def load_all(path: Path) -> Checked:
    """
    Read the table *path* and all its env files.

    Raises:
        ConfigError: With every mistake of every file.

    """
    checked = check_fleet(path)
    if checked.mistakes:
        raise ConfigError(checked.mistakes)
    return checked
