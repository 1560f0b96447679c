"""Saves a model switch, which the workers of the entry detect."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ccproxy.config.fleet_check import CheckedFleet
    from ccproxy.routing.switching import ModelSwitch


def apply_switch(
    checked: CheckedFleet,
    label: str,
    new_models: Mapping[str, str],
    *,
    reset: bool,
    wait: float | None,
) -> ModelSwitch:
    """
    Save *new_models* for the entry *label* and return the switch in effect.

    *reset* removes the switch. Running sessions may keep their models for *wait* seconds. Without
    *reset* or *new_models*, nothing changes.

    Raises:
        UsageError: If a preset or a model is unknown.
    """
    from ccproxy.routing.switching import NO_SWITCH, resolve_switch
    from ccproxy.store.overrides import read_switch, switch_path, write_switch

    path = switch_path(checked.fleet.state, label)
    before = read_switch(path)
    current = NO_SWITCH if reset else before
    if new_models:
        workers, presets = checked.workers, checked.tables.presets
        current = resolve_switch(
            new_models, label=label, entries=workers, presets=presets, current=current
        )
    if reset or new_models:
        if wait:
            current = current.waiting(before, until=time.time() + wait)
        write_switch(path, current)
    return current
