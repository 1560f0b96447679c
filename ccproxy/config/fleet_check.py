"""
The check of all the user's files: the table and every env file that it names.

It runs before anything is started or changed: a mistake in one file stops the command, and the
mistakes of all files are reported at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ccproxy.config import settings as s
from ccproxy.config.fleet import Drafts, Entry, Fleet, read_fleet
from ccproxy.config.reader import Value, read_file
from ccproxy.config.routing_tables import ModelCheck, read_routing_tables
from ccproxy.config.worker_config import WorkerConfig, load_worker
from ccproxy.errors import ConfigError, Mistake
from ccproxy.files import display_path
from ccproxy.routing.entry_references import FleetModels
from ccproxy.routing.names import (
    NO_TIERS,
    ModelRef,
    model_after_label,
    tier_named,
    unknown_label,
)
from ccproxy.routing.rules import RoutingTables
from ccproxy.routing.switching import has_model
from ccproxy.routing.tiers import TIERS, Tier
from ccproxy.text import did_you_mean

_TIER_SETTINGS: Mapping[Tier, s.Setting[str, None]] = {
    "big": s.BIG_MODEL,
    "middle": s.MIDDLE_MODEL,
    "small": s.SMALL_MODEL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFleet:
    """A fleet, the settings of its env files, and the mistakes in all of them."""

    fleet: Fleet
    workers: Mapping[str, WorkerConfig]
    """The settings by label, without entries that have a mistake in their env file."""
    tables: RoutingTables
    """The valid model presets, routes and fallbacks."""
    mistakes: tuple[Mistake, ...]


def check_fleet(path: Path, drafts: Drafts | None = None) -> CheckedFleet:
    """Read the table *path*, or its *drafts*, and all its env files; raise no ConfigError."""
    fleet, table_mistakes = read_fleet(path, drafts)
    mistakes = list(table_mistakes)
    workers: dict[str, WorkerConfig] = {}
    ports = {entry.port: entry.label for entry in fleet.entries}
    for entry in fleet.entries:
        try:
            workers[entry.label] = load_worker(entry.env_file, entry=entry, ports=ports)
        except ConfigError as error:
            mistakes += [mistake for mistake in error.mistakes if mistake not in mistakes]
        else:
            mistakes += _unknown_labels(entry, workers[entry.label], fleet.labels)
    mistakes += _cycles(fleet, FleetModels(labels=fleet.labels, config=workers.get))
    tables, routing_mistakes = read_routing_tables(fleet, check_model=_model_check(workers))
    mistakes += _thresholds_without_model(fleet, workers, tables)
    return CheckedFleet(
        fleet=fleet,
        workers=MappingProxyType(workers),
        tables=tables,
        mistakes=(*mistakes, *routing_mistakes),
    )


def load_all(path: Path) -> CheckedFleet:
    """Read the table *path* and all its env files, or raise ConfigError with every mistake."""
    checked = check_fleet(path)
    if checked.mistakes:
        raise ConfigError(checked.mistakes)
    return checked


def _unknown_labels(
    entry: Entry, config: WorkerConfig, labels: Mapping[str, str]
) -> Iterator[Mistake]:
    """Check that every label in a setting that names a model is in the table."""
    reported: set[str] = set()
    named = [(setting, config.models.tier(tier)) for tier, setting in _TIER_SETTINGS.items()]
    named += config.added_features.models()
    for setting, model in named:
        if not model or model in reported or not (text := unknown_label(model, labels)):
            continue
        reported.add(model)
        yield Mistake(
            file=display_path(entry.env_file),
            line=None,
            text=f"{setting.name}: {text}",
            fix=f"the labels are {', '.join(labels.values())}",
        )


def _model_check(workers: Mapping[str, WorkerConfig]) -> ModelCheck:
    """Return the check for models in routes and presets, the same one that model switches use."""

    def check(ref: ModelRef) -> tuple[str, str] | None:
        config = workers.get(ref.label)
        if config is None or tier_named(ref.model):
            return None
        # A Claude name selects the model of a tier.
        if has_model(config, model_after_label(config.models, NO_TIERS, ref.model)):
            return None
        listed = config.models.listed()
        text = f'{ref.label} has no model "{ref.model}"{did_you_mean(ref.model, listed)}'
        file = display_path(config.env_file) if config.env_file else "its settings"
        alternative = f"or allow it: {s.PASS_MODELS.name}={ref.model} in {file}"
        return text, f"use one of {', '.join((*listed, *TIERS))}, {alternative}"

    return check


def _thresholds_without_model(
    fleet: Fleet, workers: Mapping[str, WorkerConfig], tables: RoutingTables
) -> Iterator[Mistake]:
    """Check that entries with LONG_CONTEXT_THRESHOLD have a model for long requests."""
    setting = s.LONG_CONTEXT_THRESHOLD
    for entry in fleet.entries:
        config = workers.get(entry.label)
        if config is None or config.long_context_threshold is None:
            continue
        if tables.routing(entry.label).long_context is None:
            value = read_file(entry.env_file, entry=entry).value(setting)
            text = (
                f"{setting.name} is set, but there is no model for long requests of {entry.label}"
            )
            fix = f'add long_context = "LABEL:model" below [routes.{_toml_key(entry.label)}] in '
            yield Mistake(
                file=display_path(entry.env_file),
                line=value.line if value else None,
                text=text,
                fix=f"{fix}{display_path(fleet.file)}, or remove it",
            )


def _toml_key(label: str) -> str:
    return f'"{label}"' if "." in label else label


def _cycles(fleet: Fleet, models: FleetModels[WorkerConfig]) -> Iterator[Mistake]:
    """Yield one mistake, with its lines, for each cycle of tiers that refer to each other."""
    reported: set[frozenset[ModelRef]] = set()
    for entry in fleet.entries:
        for chain in models.chains(entry.label):
            cycle = frozenset(chain.cycle)
            if not cycle or cycle in reported:
                continue
            reported.add(cycle)
            origins = [_origin(fleet, ref) for ref in chain.cycle]
            names = " -> ".join(str(ref) for ref in (*chain.cycle, chain.cycle[0]))
            lines = "".join(
                f"\n      {display_path(file)}:{value.line}   {value.name}={value.text.strip()}"
                for file, value in origins
            )
            file, value = origins[-1]
            yield Mistake(
                file=display_path(file),
                line=value.line,
                text=f"models refer to each other in a cycle: {names}{lines}",
                fix="name a model of the provider in one of these lines",
            )


def _origin(fleet: Fleet, ref: ModelRef) -> tuple[Path, Value]:
    """Return the file and the setting that define the model of *ref*."""
    entry = fleet.entry(ref.label)
    if entry is None:
        raise LookupError(ref)
    env = read_file(entry.env_file, entry=entry)
    tier = tier_named(ref.model)
    value = (tier and env.value(_TIER_SETTINGS[tier])) or env.value(s.BIG_MODEL)
    return entry.env_file, value or Value(s.BIG_MODEL.name, ref.model, None)
