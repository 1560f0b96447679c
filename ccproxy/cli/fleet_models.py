"""The addresses and models of a fleet's entries, from its current files and switches."""

from __future__ import annotations

from functools import cache

from ccproxy.cli.session.claude_environment import base_url
from ccproxy.config.fleet import Fleet
from ccproxy.config.worker_config import WorkerConfig, load_worker
from ccproxy.errors import ConfigError
from ccproxy.routing.entry_references import FleetModels
from ccproxy.store.overrides import read_switch, switch_path


def entry_url(fleet: Fleet, label: str) -> str:
    """Return the URL of the proxy *label* for a client on this machine."""
    entry = fleet.entry(label)
    if entry is None:
        return "http://127.0.0.1:PORT"
    try:
        return base_url(load_worker(entry.env_file, entry=entry))
    except ConfigError:
        return f"http://127.0.0.1:{entry.port}"


def fleet_models(fleet: Fleet) -> FleetModels[WorkerConfig]:
    """Return the models of *fleet*; each env file is read only when it is first needed."""

    @cache
    def config(label: str) -> WorkerConfig | None:
        entry = fleet.entry(label)
        try:
            return None if entry is None else load_worker(entry.env_file, entry=entry)
        except ConfigError:
            return None

    return FleetModels(
        labels=fleet.labels,
        config=config,
        tiers=cache(lambda label: read_switch(switch_path(fleet.state, label)).tiers),
    )
