"""
The fleet's models in Claude Code's model picker (`/model`). Pure.

Claude Code sends the name of a row unchanged, and every proxy of the fleet forwards such a request
to the entry with that label.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ccproxy.cli.session.claude_environment import session_window
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.routing.entry_references import FleetModels
from ccproxy.routing.model_listing import ListedModel, by_title, list_models
from ccproxy.routing.tiers import TIERS, without_mark

_TEXT_FIELDS = ("label", "description", "behavesAs")
"""The optional text fields of a row; Claude Code reports other types of values in a dialog."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPicker:
    """The models of a session on the entry `label`, its own first."""

    label: str = ""
    rows: tuple[ListedModel, ...] = ()
    """Every tier and every other model; tiers with the same model have the same title."""

    def find(self, name: str) -> str | None:
        """
        Return the name under which the picker shows *name*, or None.

        *name* is a `LABEL:model` in upper or lower case. Tiers with the same model share a row.
        """
        name = without_mark(name).lower()
        match = next((row for row in self.rows if row.name.lower() == name), None)
        return None if match is None else by_title(self.rows)[match.title].name

    def listed(self) -> tuple[ListedModel, ...]:
        """Return the rows that the picker shows."""
        return tuple(by_title(self.rows).values())

    def own_rows(self) -> tuple[ListedModel, ...]:
        """Return the rows of the session's own entry."""
        return tuple(row for row in self.rows if row.ref.label == self.label)


NO_PICKER = FleetPicker()
"""For a bypassed entry: Anthropic answers and accepts none of the names."""


def fleet_picker(
    models: FleetModels[WorkerConfig],
    label: str,
    others: Iterable[str],
    *,
    running: Collection[str],
) -> FleetPicker:
    """Return the models of *label* and of the *others*; *running* lists the running labels."""
    listed = list_models(models, label, others, running=running)
    rows = (replace(row, window=session_window(models.chain(row.ref))) for row in listed)
    return FleetPicker(label=label, rows=tuple(rows))


def picker_setting(picker: FleetPicker, own: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    Return Claude Code's `modelPicker`: the user's *own* rows, then those of the fleet.

    Of two rows with the same model, Claude Code shows the first. Its built-in rows stay if the
    session's entry has no models of its own and forwards the names of Claude models.
    """
    options = [*own]
    options += [
        {"model": row.name, "label": row.title, "description": row.description}
        for row in picker.listed()
    ]
    replaces = any(row.ref.model in TIERS for row in picker.own_rows())
    return {"options": options, "replaceBuiltInOptions": replaces}


def valid_rows(setting: object) -> list[dict[str, Any]]:
    """Return the rows of a `modelPicker` setting that Claude Code accepts."""
    options = setting.get("options") if isinstance(setting, Mapping) else None
    return [row for row in options if _is_valid(row)] if isinstance(options, list) else []


def _is_valid(row: object) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("model"), str) or not row["model"]:
        return False
    return all(isinstance(row.get(name, ""), str) for name in _TEXT_FIELDS)
