"""
Everything that the user wrote, checked together: the table and every env file that it names.

Called before anything is started or changed: a mistake in one file stops the whole command, and
all mistakes of all files are told at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ccproxy.config.choices import Choices, read_choices, unknown_place
from ccproxy.config.fleet import Entry, Fleet, read_fleet, shown
from ccproxy.config.worker import WorkerConfig, load_worker
from ccproxy.errors import ConfigError, Mistake


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A fleet, what its env files say, and what is wrong with either."""

    fleet: Fleet
    workers: Mapping[str, WorkerConfig]
    """By label; an entry with a mistake in its env file is missing."""
    choices: Choices
    """As far as they have no mistakes."""
    mistakes: tuple[Mistake, ...]


def check_fleet(path: Path) -> Checked:
    """Read the table *path* and all its env files; nothing is raised."""
    fleet, found = read_fleet(path)
    mistakes = list(found)
    workers: dict[str, WorkerConfig] = {}
    ports = {entry.port: entry.label for entry in fleet.entries}
    labels = {entry.label.lower(): entry.label for entry in fleet.entries}
    for entry in fleet.entries:
        try:
            workers[entry.label] = load_worker(entry.env_file, entry=entry, ports=ports)
        except ConfigError as error:
            mistakes += [one for one in error.mistakes if one not in mistakes]
            continue
        mistakes += _unknown_tiers(entry, workers[entry.label], labels)
    choices, found = read_choices(fleet)
    return Checked(
        fleet=fleet,
        workers=MappingProxyType(workers),
        choices=choices,
        mistakes=(*mistakes, *found),
    )


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


def _unknown_tiers(
    entry: Entry, config: WorkerConfig, labels: Mapping[str, str]
) -> Iterator[Mistake]:
    """A tier's model may be another entry's; then there must be such an entry."""
    models = config.models
    told: set[str] = set()
    for name, model in (("BIG", models.big), ("MIDDLE", models.middle), ("SMALL", models.small)):
        if model and model not in told and (text := unknown_place(model, labels)):
            told.add(model)
            fix = f"labels are {', '.join(labels.values())}"
            text = f"{name}_MODEL: {text}"
            yield Mistake(file=shown(entry.env_file), line=None, text=text, fix=fix)
