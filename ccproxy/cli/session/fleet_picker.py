"""
The fleet's models in Claude Code's model picker (`/model`). Pure.

A row names its model `LABEL:tier` or `LABEL:model`. Claude Code sends these names unchanged, and
every proxy of the fleet sends such a request to the entry that has the label. Claude Code shows ten
rows and scrolls through the rest, so the models of the session's own entry come first. It shows
about 28 characters of a title and 60 of a description on one line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ccproxy.cli.session.claude_environment import session_window
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.routing.chains import FleetModels, ModelChain
from ccproxy.routing.names import ModelRef
from ccproxy.routing.tiers import TIERS, without_mark
from ccproxy.text import counted, format_tokens, printable

_TEXT_FIELDS = ("label", "description", "behavesAs")
"""The optional fields of a row; a row with a value of another type is reported by a dialog."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PickerRow:
    """One model of the fleet."""

    ref: ModelRef
    title: str
    description: str
    window: int | None
    """Tokens; None if it is unknown."""

    @property
    def name(self) -> str:
        """The name that Claude Code sends."""
        return str(self.ref)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPicker:
    """The models of a session on the entry `label`, its own first."""

    label: str = ""
    rows: tuple[PickerRow, ...] = ()
    """Every tier and every further model; tiers with the same model have the same title."""

    def find(self, name: str) -> str | None:
        """
        Return the name under which the picker shows *name*, a `LABEL:model` in any case.

        None if there is no such row. Tiers with the same model have one row together.
        """
        name = without_mark(name).lower()
        match = next((row for row in self.rows if row.name.lower() == name), None)
        return None if match is None else self._listed()[match.title].name

    def listed(self) -> tuple[PickerRow, ...]:
        """Return the rows that the picker shows."""
        return tuple(self._listed().values())

    def _listed(self) -> dict[str, PickerRow]:
        by_title: dict[str, PickerRow] = {}
        for row in self.rows:
            by_title.setdefault(row.title, row)
        return by_title

    def own_rows(self) -> tuple[PickerRow, ...]:
        """Return the rows of the session's own entry."""
        return tuple(row for row in self.rows if row.ref.label == self.label)


NO_PICKER = FleetPicker()
"""For a bypassed entry: Anthropic answers, and knows none of the names."""


def fleet_picker(
    models: FleetModels[WorkerConfig],
    label: str,
    others: Iterable[str],
    *,
    running: Collection[str],
) -> FleetPicker:
    """
    Return the models of the entry *label*, then those of the *others*.

    Entries that are not *running* come last, and their rows have the command that starts them.
    """
    rows = [*_tier_rows(models, label), *_model_rows(models, label)]
    others = sorted(others, key=lambda other: other not in running)
    for rows_of in (_tier_rows, _model_rows):
        for other in others:
            rows += rows_of(models, other)
    return FleetPicker(
        label=label,
        rows=tuple(
            row
            if row.ref.label == label or row.ref.label in running
            else replace(row, description=f"not running: ccproxy start {row.ref.label}")
            for row in rows
        ),
    )


def picker_setting(picker: FleetPicker, own: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    Return Claude Code's `modelPicker`: the user's *own* rows, then those of the fleet.

    Of two rows with the same model, Claude Code shows the first. Its built-in rows stay if the
    session's entry has no models of its own and sends the names of Claude models on.
    """
    options = [*own]
    options += [
        {"model": row.name, "label": row.title, "description": row.description}
        for row in picker.listed()
    ]
    replaces = any(row.ref.model in TIERS for row in picker.own_rows())
    return {"options": options, "replaceBuiltInOptions": replaces}


def valid_rows(setting: object) -> list[dict[str, Any]]:
    """Return those rows of a `modelPicker` setting that Claude Code accepts."""
    options = setting.get("options") if isinstance(setting, Mapping) else None
    return [row for row in options if _is_valid(row)] if isinstance(options, list) else []


def _is_valid(row: object) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("model"), str) or not row["model"]:
        return False
    return all(isinstance(row.get(name, ""), str) for name in _TEXT_FIELDS)


def _tier_rows(models: FleetModels[WorkerConfig], label: str) -> Iterator[PickerRow]:
    """Yield one row for each tier of *label* that has a model."""
    for chain in models.chains(label):
        if chain.config is not None:
            yield _row(chain, chain.config, tier=chain.refs[0].model)


def _model_rows(models: FleetModels[WorkerConfig], label: str) -> Iterator[PickerRow]:
    """Yield the further models that the preset of *label* lists."""
    config = models.config(label)
    if config is None:
        return
    tiers = {name.lower() for name in config.models.tiers()}
    for name in config.models.listed():
        if name.lower() not in tiers:
            chain = models.chain(ModelRef(label, name))
            yield _row(chain, config, tier="")


def _row(chain: ModelChain[WorkerConfig], config: WorkerConfig, *, tier: str) -> PickerRow:
    ref = chain.refs[0]
    model = printable(chain.model)
    own = config.label == ref.label
    title = f"{ref.label} · {model}" if own else f"{ref.label} · {config.label}:{model}"
    window = None if chain.target is None else chain.target.window
    price = config.models.price(chain.model)
    facts = [
        tier,
        f"{format_tokens(window)} window" if window else "window unknown",
        f"${price.input:.4g}/${price.output:.4g} per Mtok" if price is not None else "",
        counted(len(config.api_keys), "key") if config.api_keys else "",
    ]
    description = " · ".join(filter(None, facts))
    return PickerRow(ref=ref, title=title, description=description, window=session_window(chain))
