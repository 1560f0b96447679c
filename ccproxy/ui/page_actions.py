"""
The actions of the page's buttons; they call the same functions as the commands.

Each action is a typed message. These functions block; they run in threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal

import msgspec

from ccproxy.cli.session.model_switch import apply_switch
from ccproxy.cli.setup.route_edit import preview_rule, write_rule
from ccproxy.cli.single_proxy import require_table
from ccproxy.config.fleet import Fleet
from ccproxy.config.fleet_check import check_fleet
from ccproxy.errors import ConfigError, UsageError
from ccproxy.ipc.control_messages import KeyAction
from ccproxy.routing.switching import switch_warnings
from ccproxy.supervisor.control.client import request
from ccproxy.supervisor.control.worker_requests import ask_about_keys, switch_session
from ccproxy.ui.page_data import RULES, known_entry

Result = dict[str, Any]


class KeyCommand(msgspec.Struct, forbid_unknown_fields=True):
    """`ccproxy keys LABEL ACTION ID`."""

    label: str
    action: KeyAction
    id: str | None = None

    def run(self, fleet: Fleet) -> Result:
        """Apply the action and return the resulting keys."""
        if self.action == "disable" and self.id is None:
            raise UsageError("disable needs a key")
        label = known_entry(fleet, self.label)
        return asdict(ask_about_keys(fleet, label, self.action, key_id=self.id))


class EntryCommand(msgspec.Struct, forbid_unknown_fields=True):
    """`ccproxy start`, `stop` and `restart LABEL`, and `ccproxy reload`."""

    action: Literal["start", "stop", "restart", "reload"]
    label: str = ""

    def run(self, fleet: Fleet) -> Result:
        """Run the action and wait until it has finished."""
        require_table(fleet)
        if (self.action == "reload") == bool(self.label):
            raise UsageError("reload takes no label; start, stop and restart each require one")
        labels = [known_entry(fleet, self.label)] if self.label else []
        reply = request(fleet, self.action, labels=labels)
        states = {row.label: row.reason or row.state for row in reply.proxies}
        return {"ok": reply.ok, "error": reply.error, "notes": reply.notes, "states": states}


class SwitchCommand(msgspec.Struct, forbid_unknown_fields=True):
    """`ccproxy switch LABEL`."""

    label: str
    preset: str | None = None
    models: dict[Literal["big", "middle", "small"], str] = {}
    reset: bool = False

    def run(self, fleet: Fleet) -> Result:
        """Save the switch and return it with any warnings."""
        require_table(fleet)
        label = known_entry(fleet, self.label)
        checked = check_fleet(fleet.file)
        if label not in checked.workers:
            raise ConfigError(checked.mistakes)
        models: dict[str, str] = {tier: name for tier, name in self.models.items() if name}
        if self.preset:
            models["preset"] = self.preset
        if self.reset == bool(models):
            raise UsageError("name a preset or models, or set reset")
        switch = apply_switch(checked, label, models, reset=self.reset, wait=None)
        warnings = switch_warnings(switch, label=label, entries=checked.workers)
        return {"name": switch.name, "warnings": warnings, **asdict(switch.tiers)}


class ToggleCommand(msgspec.Struct, forbid_unknown_fields=True):
    """`ccproxy toggle LABEL`, and recording of conversations."""

    label: str
    proxy: Literal["on", "off"] | None = None
    history: Literal["on", "off"] | None = None

    def run(self, fleet: Fleet) -> Result:
        """Set the switches and return all of them."""
        label = known_entry(fleet, self.label)
        return asdict(switch_session(fleet, label, proxy=self.proxy, history=self.history))


class RouteCommand(msgspec.Struct, forbid_unknown_fields=True):
    """A rule of `[routes.LABEL]` in the table; without `write` it is only previewed."""

    label: str
    rule: str
    model: str | None = None
    write: bool = False

    def run(self, fleet: Fleet) -> Result:
        """Return the new content of the table; write it if requested."""
        require_table(fleet)
        label = known_entry(fleet, self.label)
        if self.rule not in RULES:
            raise UsageError(f"rule must be one of {', '.join(RULES)}")
        if self.model is not None and not 0 < len(self.model) <= 256:
            raise UsageError("model must be a name of at most 256 characters")
        change = preview_rule(fleet, label, self.rule, self.model)
        if self.write:
            write_rule(fleet, label, self.rule, self.model)
        return {"toml": change.toml, "diff": change.diff, "written": self.write}


COMMANDS: dict[str, Callable[[bytes], Any]] = {
    "keys": msgspec.json.Decoder(KeyCommand).decode,
    "entries": msgspec.json.Decoder(EntryCommand).decode,
    "switch": msgspec.json.Decoder(SwitchCommand).decode,
    "toggle": msgspec.json.Decoder(ToggleCommand).decode,
    "routes": msgspec.json.Decoder(RouteCommand).decode,
}
"""The decoder of each action, by the last part of the path, `/api/NAME`."""
