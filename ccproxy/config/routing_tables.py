"""
The tables of ccproxy.toml that select models: model presets, routes and fallbacks.

    [presets.fast]
    big = "GLM-4.6:big"
    small = "DeepSeek:deepseek-chat"

    [routes.Kimi-K2]
    subagent = "GLM-4.6:big"
    long_context = { over = 60000, model = "Gemini:big" }

    [routes.Kimi-K2.agents]
    Explore = "DeepSeek:small"

    [fallback]
    Kimi-K2 = ["GLM-4.6"]

`config/fleet.py` reads the entries; this module checks every name against them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ccproxy.config.fleet import Fleet, open_table
from ccproxy.config.toml_document import TomlDocument
from ccproxy.errors import Mistake
from ccproxy.routing.names import ModelRef, Tiers, no_such_label, parse_ref, unknown_label
from ccproxy.routing.rules import ORDER, LongContext, Routing, RoutingTables
from ccproxy.routing.tiers import TIERS, without_mark
from ccproxy.text import did_you_mean

MODEL_PRESETS_FILE = Path(__file__).with_name("model_presets.toml")
_RULES = tuple(name for name in ORDER if name != "agents")
_ROUTE_KEYS = (*_RULES, "agents", "long_context")
_EXAMPLE = '"GLM-4.6:big"'

ModelCheck = Callable[[ModelRef], tuple[str, str] | None]
"""Returns the error text and the fix for a model that its entry lacks, or None if it is allowed."""


@cache
def built_in_presets() -> Mapping[str, Tiers]:
    """Return the model presets that are built into ccproxy."""
    with MODEL_PRESETS_FILE.open("rb") as file:
        return {name: Tiers(**tiers) for name, tiers in tomllib.load(file).items()}


def read_routing_tables(
    fleet: Fleet, *, check_model: ModelCheck = lambda _: None
) -> tuple[RoutingTables, tuple[Mistake, ...]]:
    """
    Read the tables of *fleet*'s files, and the mistakes in them.

    Presets, and an entry's routes or fallbacks, in the local table replace those in the main
    one. The models of an entry are not in these files; *check_model* checks them.
    """
    presets, mistakes = dict(built_in_presets()), list[Mistake]()
    routes, fallbacks = dict[str, Routing](), dict[str, tuple[str, ...]]()
    for file in fleet.tables:
        document = open_table(file, fleet.drafts)
        if not document.is_valid:  # `read_fleet` reports the reason
            continue
        reader = _Reader(document, fleet.labels, check_model)
        presets.update(reader.presets())
        routes.update(reader.routes())
        fallbacks.update(reader.fallbacks())
        mistakes += document.sorted_mistakes()
    tables = RoutingTables(presets=presets, routes=routes, fallbacks=fallbacks)
    return tables, tuple(mistakes)


class _Reader:
    """Reads the three tables and notes the mistakes in them."""

    def __init__(
        self, document: TomlDocument, labels: Mapping[str, str], check_model: ModelCheck
    ) -> None:
        self._document = document
        self._labels = labels
        self._check_entry_model = check_model
        self._line = document.line_of
        self._note = document.note
        self._names: set[tuple[str, str]] = set()

    # Model presets...

    def presets(self) -> Iterator[tuple[str, Tiers]]:
        for name, table in self._tables("presets"):
            line = self._line("presets", name)
            self._check_once("preset", name, line)
            self._check_keys(table, TIERS, f"preset {name}", line)
            models = {tier: table[tier] for tier in TIERS if tier in table}
            if not table:
                self._note(line, f"the preset {name} names no model", f"add big = {_EXAMPLE}")
            for tier, model in models.items():
                self._check_model(model, f"{tier} of preset {name}", self._line(tier, after=line))
            yield name, Tiers(**models)

    # ...routes...

    def routes(self) -> Iterator[tuple[str, Routing]]:
        for name, table in self._tables("routes"):
            line = self._line("routes", name)
            if name.lower() not in self._labels:
                self._note_unknown_route(name, table, line)
                continue
            self._check_once("routes", name, line)
            self._check_keys(table, _ROUTE_KEYS, f"routes of {name}", line)
            rules = {rule: table[rule] for rule in _RULES if rule in table}
            for rule, model in rules.items():
                self._check_model(model, rule, self._line(rule, after=line), home=name)
            yield (
                name.lower(),
                Routing(
                    rules=rules,
                    agents=self._agents(name, table.get("agents", {}), line),
                    long_context=self._long_context(name, table.get("long_context"), line),
                ),
            )

    def _note_unknown_route(self, name: str, table: Mapping[str, Any], line: int | None) -> None:
        dotted = next(
            (f"{name}.{key}" for key in table if f"{name}.{key}".lower() in self._labels), ""
        )
        if dotted:
            text = f"a label with a dot must be quoted: {dotted}"
            self._note(line, text, f'write [routes."{self._labels[dotted.lower()]}"]')
        else:
            self._check_label(name, f"routes.{name}", line)

    def _agents(self, label: str, agents: object, line: int | None) -> dict[str, str]:
        if not isinstance(agents, dict):
            fix = f"write Explore = {_EXAMPLE} below [routes.{label}.agents]"
            self._note(self._line("agents", after=line), "agents must be a table", fix)
            return {}
        start = self._line("routes", label, "agents") or self._line("agents", after=line)
        for agent, model in agents.items():
            agent_line = self._line(agent, after=start) or start
            self._check_model(model, f"agent {agent}", agent_line, home=label)
        return {agent.lower(): model for agent, model in agents.items()}

    def _long_context(self, label: str, value: object, line: int | None) -> LongContext | None:
        if value is None:
            return None
        line = self._line("long_context", after=line)
        table = {"model": value} if isinstance(value, str) else value
        if not isinstance(table, dict) or "model" not in table:
            fix = "write long_context = { over = 60000, model = " + _EXAMPLE + " }"
            self._note(line, "long_context must name a model", fix)
            return None
        self._check_keys(table, ("over", "model"), "long_context", line)
        self._check_model(table["model"], "long_context", line, home=label)
        over = table.get("over")
        if over is not None and (type(over) is not int or over < 1):
            text = f'over of long_context must be a number of tokens, got "{over}"'
            self._note(line, text, "for example, write over = 60000")
        return LongContext(model=table["model"], over=over)

    # ...and fallbacks, of [fallback] and of [[proxy]].

    def fallbacks(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        values = self._document.values
        table = values.get("fallback", {})
        start = self._line("fallback")
        if not isinstance(table, dict):
            self._note(start, "fallback must be a table", "write [fallback]")
            table = {}
        for label, others in table.items():
            line = self._line(label, after=start) or start
            if self._check_label(label, "fallback", line):
                self._check_once("fallback", label, line)
                yield label.lower(), self._other_labels(label, others, line)
        entries = values.get("proxy", [])
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, dict) and "fallback" in entry:
                label = str(entry.get("label", ""))
                head = self._document.array_table_line("proxy", index)
                line = self._line("fallback", after=head or None)
                if label:  # otherwise `read_fleet` reports the entry
                    self._check_once("fallback", label, line)
                yield label.lower(), self._other_labels(label, entry["fallback"], line)

    def _other_labels(self, label: str, value: object, line: int | None) -> tuple[str, ...]:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            text = f"fallback of {label} must be a list of labels"
            self._note(line, text, 'for example, write ["GLM-4.6"]')
            return ()
        for name in names:
            if name.lower() == label.lower():
                self._note(line, f"{label} cannot be its own fallback", "name a different label")
            else:
                self._check_label(name, f"fallback of {label}", line)
        return tuple(dict.fromkeys(self._labels.get(name.lower(), name) for name in names))

    # Checks that apply to all three tables.

    def _tables(self, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        tables = self._document.values.get(name, {})
        if not isinstance(tables, dict):
            self._note(self._line(name), f"{name} must be tables", f"begin each with [{name}.NAME]")
            return
        for key, table in tables.items():
            if isinstance(table, dict):
                yield key, table
            else:
                line = self._line(key, after=self._line(name))
                self._note(line, f"{name}.{key} must be a table", f"write [{name}.{key}]")

    def _check_once(self, kind: str, name: str, line: int | None) -> None:
        """Note that the *kind* of table for *name*, whose case is ignored, is in the file twice."""
        key = kind, name.lower()
        if key in self._names:
            text = f"{kind} {name} is set twice; case is ignored"
            self._note(line, text, "keep one of them")
        self._names.add(key)

    def _check_keys(
        self, table: Mapping[str, Any], allowed: Sequence[str], name: str, line: int | None
    ) -> None:
        for key in table.keys() - set(allowed):
            text = f"{key} is not a key of {name}{did_you_mean(key, allowed)}"
            self._note(self._line(key, after=line) or line, text, f"use {', '.join(allowed)}")

    def _check_model(
        self, model: object, name: str, line: int | None, *, home: str | None = None
    ) -> None:
        """Check a *model*; without a label it is a model of the entry *home*."""
        if not isinstance(model, str) or not model.strip():
            text = f'{name} must name a model, got "{model}"'
            self._note(line, text, f"for example, write {_EXAMPLE}")
            return
        if text := unknown_label(model, self._labels):
            self._note(line, f"{name}: {text}", self._labels_fix())
            return
        ref = parse_ref(model, self._labels)
        if ref is None and home is not None:
            ref = ModelRef(self._labels[home.lower()], without_mark(model))
        if ref is None or (error := self._check_entry_model(ref)) is None:
            return
        text, fix = error
        if ":" in ref.model:
            # The entry has no model with a colon in its name, so this is a label with a typo.
            text, fix = no_such_label(ref.model.partition(":")[0], self._labels), self._labels_fix()
        self._note(line, f"{name}: {text}", fix)

    def _check_label(self, label: str, name: str, line: int | None) -> bool:
        if label.lower() in self._labels:
            return True
        self._note(line, f"{name}: {no_such_label(label, self._labels)}", self._labels_fix())
        return False

    def _labels_fix(self) -> str:
        return f"the labels are {', '.join(self._labels.values())}"
