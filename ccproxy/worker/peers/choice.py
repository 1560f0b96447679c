"""
Chooses the entry and the model that answer a request.

The rules themselves are pure. This module provides them with the current table and switch, which
are read again whenever their files change, so that no change requires a restart. If there are no
rules, switches or labels in the tiers, only the model's name at the beginning of the body is read.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

import msgspec
from structlog.typing import FilteringBoundLogger

from ccproxy.config.fleet import Entry, Fleet, local_table, read_fleet
from ccproxy.config.routing_tables import read_routing_tables
from ccproxy.config.worker_config import WorkerConfig, load_worker
from ccproxy.errors import ConfigError, Problem
from ccproxy.protocol.lenient_json import replace_lone_surrogates
from ccproxy.protocol.messages import check_model
from ccproxy.providers.quirks import Target
from ccproxy.routing.decision import Decider
from ccproxy.routing.entry_references import FleetModels
from ccproxy.routing.model_listing import ListedModel, list_models
from ccproxy.routing.names import (
    ModelRef,
    Tiers,
    parse_ref,
    tier_named,
    tier_of,
)
from ccproxy.routing.rules import LOOP, RoutingTables
from ccproxy.routing.switching import NO_SWITCH, ModelSwitch
from ccproxy.routing.tiers import TIERS, without_mark
from ccproxy.store.overrides import read_switch, switch_path
from ccproxy.worker.peers.pending_switch import PendingSwitch
from ccproxy.worker.watched_file import Watched

HOP_HEADER = "x-ccproxy-hop"
VIA_HEADER = "x-ccproxy-via"
"""Labels of the entries that a request has passed through, so that no fallback returns to them."""
ASKED_HEADER = "x-ccproxy-asked"
"""The client's name for the model, percent-encoded; the answer repeats it."""
ROUTE_HEADER = "x-ccproxy-route"
MAX_HOPS = 3

_NAME = re.compile(rb'\s*\{\s*"model"\s*:\s*"([^"\\]{1,256})"')


MessagesBody = Callable[[], bytes]
"""Returns the body of the request in Messages API format."""


class _Outline(msgspec.Struct):
    model: str


_OUTLINE = msgspec.json.Decoder(_Outline)


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """The entry and the model for one request."""

    body: bytes
    name: str = ""
    """The model's name in the body."""
    requested: str = ""
    """The client's name for the model, if a peer sent a different one."""
    model: str | None = None
    """The model of this entry; None if the mapping of `name` decides."""
    ref: ModelRef | None = None
    """Another entry and its model; None if this entry answers."""
    reason: str = ""
    hop: int = 0
    via: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetTable:
    """The contents of the fleet's table; empty if there is no table."""

    fleet: Fleet | None
    labels: Mapping[str, str]
    """Labels, keyed by their lowercase form."""
    routing_tables: RoutingTables

    def entry(self, label: str) -> Entry | None:
        """Return the entry *label*, or None."""
        return None if self.fleet is None else self.fleet.entry(label)


_NO_TABLE = FleetTable(None, {}, RoutingTables())


class Chooser:
    """Chooses the entry and the model for the requests of one worker."""

    def __init__(
        self,
        config: WorkerConfig,
        *,
        table: Path,
        state: Path,
        log: FilteringBoundLogger,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self._log = log
        self._good = _NO_TABLE
        self._table = Watched(table, self._read_table, beside=local_table(table))
        self.switch_file = switch_path(state, config.label)
        self._switch = Watched(self.switch_file, read_switch)
        self._siblings: dict[str, tuple[Entry, Watched[WorkerConfig | None]]] = {}
        self._switches: dict[str, Watched[ModelSwitch]] = {}
        self._pending = PendingSwitch()
        self._wall = wall
        self._has_labelled_tier = any(":" in name for name in config.models.tiers())

    @property
    def table(self) -> FleetTable:
        """The current table, or the last valid one while the file is invalid."""
        return self._table.get()

    @property
    def switch(self) -> ModelSwitch:
        """The current switch."""
        return self._switch.get()

    def sibling(self, label: str) -> WorkerConfig | None:
        """Return the settings of another entry, or None if they are unreadable."""
        entry = self.table.entry(label)
        if entry is None:
            return None
        if entry.label == self.config.label:
            return self.config
        known, watched = self._siblings.get(entry.label, (None, None))
        if watched is None or known != entry:  # the table may now name another file
            watched = Watched(entry.env_file, lambda path: _load(path, entry))
            self._siblings[entry.label] = entry, watched
        return watched.get()

    def workers(self) -> dict[str, WorkerConfig]:
        """Return the settings of every entry in the table; without a table, only this entry's."""
        fleet = self.table.fleet
        labels = [entry.label for entry in fleet.entries] if fleet is not None else []
        configs = {label: self.sibling(label) for label in labels}
        readable = {label: config for label, config in configs.items() if config is not None}
        if self.config.label in readable:
            return readable
        return {self.config.label: self.config, **readable}

    def tiers(self) -> dict[str, str | None]:
        """Return the current model of each tier."""
        models, switched = self.config.models, self.switch.tiers
        return {tier: switched.of(tier) or models.tier(tier) for tier in TIERS}

    def target(self, name: str) -> Target:
        """Return the properties of the model *name* of this entry or another one."""
        ref = parse_ref(name, self.table.labels)
        target = self._fleet_models().chain(ref).target if ref is not None else None
        return target or self.config.target(name)

    def fleet_models(self) -> tuple[ListedModel, ...]:
        """Return the models of every entry in the table, with this entry's models first."""
        labels = self.table.labels.values()
        others = [label for label in labels if label != self.config.label]
        return list_models(self._fleet_models(), self.config.label, others) if labels else ()

    def choose(
        self,
        body: bytes,
        headers: Mapping[str, str],
        messages: MessagesBody | None,
        *,
        is_sibling: bool = False,
    ) -> Chosen:
        """
        Choose the entry and the model for a request; if *messages* is None, by name alone.

        Raises:
            Problem: If the request loops between entries or names an unknown entry, or if the
                model's name is too long.
        """
        hop, name = _hop(headers), _name_of(body)
        check_model(name)
        if not name or (not hop and self._is_plain(name)):
            return Chosen(body=body, name=name)
        decider = self._decider(self._switch_for(headers, messages or (lambda: body)))
        requested, via = "", ""
        if is_sibling:
            requested = unquote(headers.get(ASKED_HEADER, "")) or name
            via = headers.get(VIA_HEADER, "")
            decided = decider.for_peer(name, requested)
        else:
            has_rules = messages is not None and decider.has_rules
            rules_body = messages() if messages is not None and has_rules else body
            decided = decider.for_client(name, rules_body, headers if has_rules else None)
        return Chosen(
            body=body,
            name=name,
            requested=requested,
            model=decided.model,
            ref=decided.ref,
            reason=decided.reason,
            hop=hop,
            via=tuple(filter(None, via.split(","))),
        )

    def tier_of(self, chosen: Chosen) -> str:
        """Return the tier of *chosen*; a fallback answers with its own model for that tier."""
        models = self.config.models
        if chosen.ref is not None and (tier := tier_named(chosen.ref.model)) is not None:
            return tier
        if chosen.model is not None and chosen.model in models.tiers():
            return tier_of(models, chosen.model)
        return tier_of(models, chosen.requested or chosen.name)

    def _is_plain(self, name: str) -> bool:
        """Return True if the name alone decides, and can only select a model of this entry."""
        return (
            ":" not in name
            and not self._has_labelled_tier
            and self.switch is NO_SWITCH
            and self.table.routing_tables.routing(self.config.label).is_empty
        )

    def _switch_for(self, headers: Mapping[str, str], messages: MessagesBody) -> ModelSwitch:
        """Return the switch that applies to a request."""
        switch = self.switch
        if not switch.until or self._wall() >= switch.until:
            return switch
        return self._pending.switch_for(switch, headers, messages)

    def _decider(self, switch: ModelSwitch) -> Decider:
        table = self.table
        return Decider(
            config=self.config,
            labels=table.labels,
            routing=table.routing_tables.routing(self.config.label),
            switch=switch,
            fleet_models=self._fleet_models(),
        )

    def _fleet_models(self) -> FleetModels[WorkerConfig]:
        return FleetModels(labels=self.table.labels, config=self.sibling, tiers=self._tiers_of)

    def _tiers_of(self, label: str) -> Tiers:
        if label == self.config.label:
            return self.switch.tiers
        watched = self._switches.get(label)
        if watched is None:
            path = switch_path(self.switch_file.parent, label)
            watched = self._switches[label] = Watched(path, read_switch)
        return watched.get().tiers

    def _read_table(self, path: Path) -> FleetTable:
        if not path.is_file():
            return _NO_TABLE
        fleet, mistakes = read_fleet(path)
        tables, more = read_routing_tables(fleet)
        if mistakes or more:
            self._log.warning("table.mistaken", file=str(path), mistake=str([*mistakes, *more][0]))
            return self._good
        labels = {entry.label.lower(): entry.label for entry in fleet.entries}
        self._good = FleetTable(fleet, labels, tables)
        return self._good


def _load(path: Path, entry: Entry) -> WorkerConfig | None:
    try:
        config = load_worker(path, entry=entry)
    except ConfigError:
        return None
    # This process does not need the keys of other entries.
    return replace(config, api_keys=(), client_keys=(), custom_headers={}, upstream_proxy=None)


def _hop(headers: Mapping[str, str]) -> int:
    """
    Return how many workers of a fleet the request has passed through.

    Raises:
        Problem: 508 if there are too many.
    """
    text = headers.get(HOP_HEADER, "")
    hop = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
    if hop > MAX_HOPS:
        text = (
            f"this request has passed {hop} proxies of the fleet: models, fallbacks or base URLs "
            "form a loop"
        )
        raise Problem("api_error", text, status=LOOP, should_retry=False)
    return hop


def _name_of(body: bytes) -> str:
    """Return the model's name; empty if the body is invalid, which the endpoint will report."""
    if match := _NAME.match(body):
        return without_mark(match[1].decode("utf-8", "replace"))
    try:
        return without_mark(_OUTLINE.decode(replace_lone_surrogates(body)).model)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
