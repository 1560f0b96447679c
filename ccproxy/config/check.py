"""
Everything that the user wrote, checked together: the table and every env file that it names.

Called before anything is started or changed: a mistake in one file stops the whole command, and
all mistakes of all files are told at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from ccproxy.config import settings as s
from ccproxy.config.answering import Map
from ccproxy.config.choices import Choices, Judgement, read_choices, unknown_place
from ccproxy.config.fleet import Entry, Fleet, read_fleet, shown
from ccproxy.config.reader import Given, read_file
from ccproxy.config.switching import has_model
from ccproxy.config.worker import WorkerConfig, load_worker
from ccproxy.errors import ConfigError, Mistake
from ccproxy.routing.names import NO_TIERS, Place, model_behind_label, tier_named
from ccproxy.routing.tiers import TIERS


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
    known = Map(labels=labels, config=workers.get)
    mistakes += _circles(fleet, known)
    choices, found = read_choices(fleet, judge=_judge(workers))
    mistakes += _thresholds_without_model(fleet, workers, choices)
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


def _judge(workers: Mapping[str, WorkerConfig]) -> Judgement:
    """Judge the models of routes and presets as `ccproxy switch` does."""

    def judge(place: Place) -> tuple[str, str] | None:
        config = workers.get(place.label)
        if config is None or tier_named(place.model):
            return None
        # A name of Claude's stands for a tier's.
        if has_model(config, model_behind_label(config.models, NO_TIERS, place.model)):
            return None
        listed = config.models.listed()
        meant = get_close_matches(place.model.lower(), listed, n=1)
        hint = f" (did you mean {meant[0]}?)" if meant else ""
        text = f'{place.label} has no model "{place.model}"{hint}'
        file = shown(config.env_file) if config.env_file else "its settings"
        let = f"or let it pass: {s.PASS_MODELS.name}={place.model} in {file}"
        return text, f"use one of {', '.join((*listed, *TIERS))}, {let}"

    return judge


def _thresholds_without_model(
    fleet: Fleet, workers: Mapping[str, WorkerConfig], choices: Choices
) -> Iterator[Mistake]:
    """A threshold means something only where the table names the model for long requests."""
    for entry in fleet.entries:
        config = workers.get(entry.label)
        if config is None or config.long_context_threshold is None:
            continue
        if choices.routing(entry.label).long_context is None:
            given = read_file(entry.env_file, entry=entry).given(s.LONG_CONTEXT_THRESHOLD)
            text = f"LONG_CONTEXT_THRESHOLD: no model for long requests of {entry.label} is named"
            fix = f'add long_context = "LABEL:model" below [routes.{_quoted(entry.label)}] in '
            yield Mistake(
                file=shown(entry.env_file),
                line=given.line if given else None,
                text=text,
                fix=f"{fix}{shown(fleet.file)}, or remove it",
            )


def _quoted(label: str) -> str:
    return f'"{label}"' if "." in label else label


def _circles(fleet: Fleet, known: Map) -> Iterator[Mistake]:
    """Tiers of several entries may lead to each other; each circle is told once, with its lines."""
    told: set[frozenset[Place]] = set()
    for entry in fleet.entries:
        for way in known.ways(entry.label):
            circle = frozenset(way.circle)
            if not circle or circle in told:
                continue
            told.add(circle)
            found = [_where_from(fleet, place) for place in way.circle]
            names = " -> ".join(str(place) for place in (*way.circle, way.circle[0]))
            lines = (
                f"\n      {shown(file)}:{given.line}   {given.name}={given.value.strip()}"
                for file, given in found
            )
            text = f"models lead round in a circle: {names}{''.join(lines)}"
            file, given = found[-1]
            fix = "name the provider's own model in one of these lines"
            yield Mistake(file=shown(file), line=given.line, text=text, fix=fix)


def _where_from(fleet: Fleet, place: Place) -> tuple[Path, Given]:
    """Find the setting that says which model answers at *place*."""
    entry = fleet.entry(place.label)
    if entry is None:
        raise LookupError(place)
    env = read_file(entry.env_file, entry=entry)
    tier = tier_named(place.model)
    given = (tier and env.given(_SETTINGS[tier])) or env.given(s.BIG_MODEL)
    return entry.env_file, given or Given(s.BIG_MODEL.name, place.model, None)


_SETTINGS = {"big": s.BIG_MODEL, "middle": s.MIDDLE_MODEL, "small": s.SMALL_MODEL}
