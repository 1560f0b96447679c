"""
Settings that are changed while an entry runs, each stored in a small file in `state/`.

The files outlive workers and the supervisor: a bypassed proxy must stay bypassed after a restart,
because its requests would otherwise go to a provider that must not receive them. They are replaced
atomically and read by every process of the entry. An unreadable file is ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ccproxy.files import locked, read_json, write_atomically
from ccproxy.routing.names import NO_TIERS, Tiers
from ccproxy.routing.switching import NO_SWITCH, ModelSwitch
from ccproxy.routing.tiers import TIERS

_UNREADABLE = (OSError, ValueError, TypeError, AttributeError, OverflowError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """The settings of an entry that are changed at run time."""

    is_bypassed: bool = False
    """Requests go to Anthropic instead of the provider."""
    history: bool | None = None
    """Whether conversations are recorded; None: the env file decides."""
    export: str = ""
    """The name of the export file to which turns are appended."""
    records_until: float = 0.0
    """Seconds since the epoch until which exchanges are recorded."""


NO_OVERRIDES = Overrides()
# The field names in the file, unchanged since the first version.
_FIELDS = {
    "is_off": "is_bypassed",
    "history": "history",
    "file": "export",
    "records_until": "records_until",
}


def overrides_path(state: Path, label: str) -> Path:
    """Return the file with the overrides of the entry *label*."""
    return state / f"{label.lower()}.standing.json"


def read_overrides(path: Path) -> Overrides:
    """Read overrides; `NO_OVERRIDES` if the file is missing or unreadable."""
    try:
        return _overrides(read_json(path))
    except _UNREADABLE:
        return NO_OVERRIDES


def change_overrides(path: Path, changes: Mapping[str, Any]) -> Overrides:
    """
    Change the fields in *changes* and return the result; other fields are kept.

    Raises:
        OSError: If the file cannot be written.
    """
    # Two processes may change different fields at the same time.
    with locked(path.with_name(f"{path.name}.lock")):
        old = read_overrides(path)
        new = replace(old, **changes)
        if new == NO_OVERRIDES:
            path.unlink(missing_ok=True)
        elif new != old:
            fields = {name: getattr(new, field) for name, field in _FIELDS.items()}
            write_atomically(path, json.dumps(fields))
        return new


def _overrides(fields: Mapping[str, Any]) -> Overrides:
    overrides = Overrides(**{_FIELDS.get(name, name): value for name, value in fields.items()})
    checks = (
        (overrides.is_bypassed, bool),
        (overrides.history, bool | None),
        (overrides.export, str),
        (overrides.records_until, float | int),
    )
    if not all(isinstance(value, kind) for value, kind in checks):
        raise TypeError("a field has the wrong type")
    return overrides


# The model switch.


def switch_path(state: Path, label: str) -> Path:
    """Return the file with the model switch of the entry *label*."""
    return state / f"{label.lower()}.switch.json"


def read_switch(path: Path) -> ModelSwitch:
    """Read a switch; `NO_SWITCH` if the file is missing or unreadable."""
    try:
        return _switch(read_json(path))
    except _UNREADABLE:
        return NO_SWITCH


def write_switch(path: Path, switch: ModelSwitch) -> None:
    """Write *switch*; delete the file if it is empty and no session waits for it."""
    if switch.tiers == NO_TIERS and not switch.until:
        path.unlink(missing_ok=True)
        return
    fields: dict[str, Any] = {tier: switch.tiers.of(tier) for tier in TIERS}
    fields["preset"] = switch.preset
    if switch.until:
        fields |= {f"before_{tier}": switch.before.of(tier) for tier in TIERS}
        fields["until"] = switch.until
    write_atomically(path, json.dumps(fields))


def _switch(fields: dict[str, Any]) -> ModelSwitch:
    models = {tier: fields.get(tier) for tier in TIERS}
    before = {tier: fields.get(f"before_{tier}") for tier in TIERS}
    names = [*models.values(), *before.values(), fields.get("preset")]
    if not all(name is None or isinstance(name, str) for name in names):
        raise TypeError("a field has the wrong type")
    return ModelSwitch(
        tiers=Tiers(**models),
        preset=fields.get("preset"),
        before=Tiers(**before),
        until=float(fields.get("until", 0.0)),
    )
