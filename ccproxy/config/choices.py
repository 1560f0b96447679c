"""
What ccproxy.toml says about the choice of models: presets, routes and fallbacks.

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

The table itself is read by `config/fleet.py`; here every name is held against it. Mistakes are
told with their lines, and a file with a mistake has no choices at all.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from ccproxy.config.fleet import Fleet, shown
from ccproxy.errors import Mistake
from ccproxy.routing.names import Place, Tiers, place_of, tier_named
from ccproxy.routing.rules import NO_ROUTING, ORDER, LongContext, Routing
from ccproxy.routing.tiers import TIERS, without_mark

PRESETS_FILE = Path(__file__).with_name("switches.toml")
_RULES = tuple(name for name in ORDER if name != "agents")
_ROUTE_KEYS = (*_RULES, "agents", "long_context")
_EXAMPLE = '"GLM-4.6:big"'

Judgement = Callable[[Place], tuple[str, str] | None]
"""Says of an entry's model what is wrong with it, and what mends that; None: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """All that a table says about the choice of models; by labels in lower case."""

    presets: Mapping[str, Tiers] = field(default_factory=dict)
    """By name: those that are shipped, then the user's, which win."""
    routes: Mapping[str, Routing] = field(default_factory=dict)
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def routing(self, label: str) -> Routing:
        """Return the rules of the entry *label*."""
        return self.routes.get(label.lower(), NO_ROUTING)

    def fallback(self, label: str) -> tuple[str, ...]:
        """Return who answers for the entry *label* when it cannot."""
        return self.fallbacks.get(label.lower(), ())


@cache
def shipped_presets() -> Mapping[str, Tiers]:
    """Return the presets that come with ccproxy (row H07)."""
    with PRESETS_FILE.open("rb") as file:
        return {name: Tiers(**tiers) for name, tiers in tomllib.load(file).items()}


def read_choices(
    fleet: Fleet, *, judge: Judgement = lambda _: None
) -> tuple[Choices, tuple[Mistake, ...]]:
    """
    Read the choices of *fleet*'s file, and what is wrong with them.

    Which models an entry has is not in this file: *judge* knows.
    """
    try:
        text = fleet.file.read_text(encoding="utf-8-sig")
        document = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return Choices(presets=shipped_presets()), ()  # told by whoever reads the table
    reader = _Reader(fleet, text.splitlines(), judge)
    presets = {**shipped_presets(), **dict(reader.presets(document.get("presets", {})))}
    routes = dict(reader.routes(document.get("routes", {})))
    fallbacks = dict(reader.fallbacks(document))
    choices = Choices(presets=presets, routes=routes, fallbacks=fallbacks)
    mistakes = tuple(sorted(reader.mistakes, key=lambda mistake: mistake.line or 0))
    return choices, mistakes


class _Reader:
    """Reads the three tables and collects what is wrong with them."""

    def __init__(self, fleet: Fleet, lines: Sequence[str], judge: Judgement) -> None:
        self.mistakes: list[Mistake] = []
        self._file = fleet.file
        self._lines = lines
        self._judge = judge
        self._labels = {entry.label.lower(): entry.label for entry in fleet.entries}

    # Presets...

    def presets(self, tables: object) -> Iterator[tuple[str, Tiers]]:
        for name, table in self._tables(tables, "presets"):
            line = self._line("presets", name)
            self._check_keys(table, TIERS, f"preset {name}", line)
            given = {tier: table[tier] for tier in TIERS if tier in table}
            if not table:
                text = f"the preset {name} names no model"
                self._mistake(line, text, f"add big = {_EXAMPLE}")
            for tier, model in given.items():
                self._check_model(model, f"{tier} of preset {name}", self._line(tier, after=line))
            yield name, Tiers(**given)

    # ...routes...

    def routes(self, tables: object) -> Iterator[tuple[str, Routing]]:
        for name, table in self._tables(tables, "routes"):
            line = self._line("routes", name)
            if name.lower() not in self._labels:
                self._unknown_route(name, table, line)
                continue
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

    def _unknown_route(self, name: str, table: Mapping[str, Any], line: int | None) -> None:
        dotted = next(
            (f"{name}.{key}" for key in table if f"{name}.{key}".lower() in self._labels), ""
        )
        if dotted:
            text = f"a label with a dot must be quoted: {dotted}"
            self._mistake(line, text, f'write [routes."{self._labels[dotted.lower()]}"]')
        else:
            self._check_label(name, f"routes.{name}", line)

    def _agents(self, label: str, agents: object, line: int | None) -> dict[str, str]:
        if not isinstance(agents, dict):
            place = self._line("agents", after=line)
            self._mistake(place, "agents must be a table", f"write Explore = {_EXAMPLE} below it")
            return {}
        start = self._line("routes", label, "agents") or self._line("agents", after=line)
        for agent, model in agents.items():
            place = self._line(agent, after=start) or start
            self._check_model(model, f"agent {agent}", place, home=label)
        return {agent.lower(): model for agent, model in agents.items()}

    def _long_context(self, label: str, given: object, line: int | None) -> LongContext | None:
        if given is None:
            return None
        place = self._line("long_context", after=line)
        table = {"model": given} if isinstance(given, str) else given
        if not isinstance(table, dict) or "model" not in table:
            fix = "write long_context = { over = 60000, model = " + _EXAMPLE + " }"
            self._mistake(place, "long_context must name a model", fix)
            return None
        self._check_keys(table, ("over", "model"), "long_context", place)
        self._check_model(table["model"], "long_context", place, home=label)
        over = table.get("over")
        if over is not None and (type(over) is not int or over < 1):
            text = f'over of long_context must be a number of tokens, got "{over}"'
            self._mistake(place, text, "write for example over = 60000")
        return LongContext(model=table["model"], over=over)

    # ...and fallbacks: of [fallback], and of [[proxy]].

    def fallbacks(self, document: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
        short = document.get("fallback", {})
        if not isinstance(short, dict):
            self._mistake(self._line("fallback"), "fallback must be a table", "write [fallback]")
            short = {}
        line = self._line("fallback")
        for label, others in short.items():
            place = self._line(label, after=line) or line
            if self._check_label(label, "fallback", place):
                yield label.lower(), self._others(label, others, place)
        long = document.get("proxy", [])
        heads = [i for i, text in enumerate(self._lines, 1) if re.match(r"\s*\[\[\s*proxy\b", text)]
        for number, table in enumerate(long if isinstance(long, list) else ()):
            if isinstance(table, dict) and "fallback" in table:
                label = str(table.get("label", ""))
                head = heads[number] if number < len(heads) else None
                place = self._line("fallback", after=head)
                yield label.lower(), self._others(label, table["fallback"], place)

    def _others(self, label: str, others: object, line: int | None) -> tuple[str, ...]:
        given = [others] if isinstance(others, str) else others
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            self._mistake(line, f"fallback of {label} must be a list of labels", '["GLM-4.6"]')
            return ()
        names: list[str] = given
        for name in names:
            if name.lower() == label.lower():
                self._mistake(line, f"{label} cannot be its own fallback", "name another label")
            else:
                self._check_label(name, f"fallback of {label}", line)
        return tuple(self._labels.get(name.lower(), name) for name in names)

    # What is checked everywhere.

    def _tables(self, tables: object, what: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        if not isinstance(tables, dict):
            self._mistake(self._line(what), f"{what} must be tables", f"begin each: [{what}.NAME]")
            return
        for name, table in tables.items():
            if isinstance(table, dict):
                yield name, table
            else:
                line = self._line(name, after=self._line(what))
                self._mistake(line, f"{what}.{name} must be a table", f"write [{what}.{name}]")

    def _check_keys(
        self, table: Mapping[str, Any], known: Sequence[str], what: str, line: int | None
    ) -> None:
        for name in table.keys() - set(known):
            meant = get_close_matches(name, known, n=1)
            hint = f" (did you mean {meant[0]}?)" if meant else ""
            place = self._line(name, after=line) or line
            self._mistake(place, f"{name} is not known in {what}{hint}", f"use {', '.join(known)}")

    def _check_model(
        self, model: object, what: str, line: int | None, *, home: str | None = None
    ) -> None:
        """Check a *model*; at *home*, a name without a label is that entry's own."""
        if not isinstance(model, str) or not model.strip():
            text = f'{what} must name a model, got "{model}"'
            self._mistake(line, text, f"write for example {_EXAMPLE}")
            return
        text = unknown_place(model, self._labels)
        if text:
            self._mistake(line, f"{what}: {text}", f"labels are {', '.join(self._labels.values())}")
            return
        place = place_of(model, self._labels)
        if place is None and home is not None:
            place = Place(self._labels[home.lower()], without_mark(model))
        if place is not None and (wrong := self._judge(place)) is not None:
            text, fix = wrong
            self._mistake(line, f"{what}: {text}", fix)

    def _check_label(self, label: str, what: str, line: int | None) -> bool:
        if label.lower() in self._labels:
            return True
        meant = get_close_matches(label.lower(), self._labels, n=1)
        hint = f" (did you mean {self._labels[meant[0]]}?)" if meant else ""
        labels = ", ".join(self._labels.values())
        self._mistake(line, f'{what}: there is no proxy "{label}"{hint}', f"labels are {labels}")
        return False

    # Where things stand; tomllib does not tell.

    def _line(self, *names: str, after: int | None = None) -> int | None:
        """Find the head of a table by all its *names*, or the line that sets a name."""
        key = r"\s*\.\s*".join(rf"""["']?{re.escape(name)}["']?""" for name in names)
        head = re.compile(rf"\s*\[\s*{key}\s*[\].]", re.IGNORECASE)
        setting = re.compile(rf"\s*{key}\s*[=.]", re.IGNORECASE)
        rows = list(enumerate(self._lines, 1))
        behind = [(number, row) for number, row in rows if after is None or number >= after]
        for pattern in (setting, head) if after is not None else (head, setting):
            for number, row in behind:
                if pattern.match(row):
                    return number
        inline = re.compile(rf"""^[^#]*[{{,]\s*{key}\s*=""", re.IGNORECASE)
        return next((number for number, row in behind if inline.match(row)), after)

    def _mistake(self, line: int | None, text: str, fix: str) -> None:
        self.mistakes.append(Mistake(file=shown(self._file), line=line, text=text, fix=fix))


def unknown_place(name: str, labels: Mapping[str, str]) -> str:
    """
    Say what is wrong with the label of *name*; empty if it has one that is known, or none.

    A colon may belong to a model, but never one before a tier's name.
    """
    head, colon, model = name.rpartition(":")
    if not colon or place_of(name, labels) is not None or tier_named(model.strip()) is None:
        return ""
    meant = get_close_matches(head.lower(), labels, n=1)
    hint = f" (did you mean {labels[meant[0]]}?)" if meant else ""
    return f'there is no proxy "{head}"{hint}'
