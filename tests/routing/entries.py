"""A fleet of entries without env files."""

from __future__ import annotations

from dataclasses import dataclass

from ccproxy.providers.quirks import Target
from ccproxy.routing.entry_references import FleetModels
from ccproxy.routing.tiers import ModelMap


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A `RoutingEntry`."""

    label: str
    models: ModelMap
    window: int | None = None
    provider: str = ""
    long_context_threshold: int | None = None

    def target(self, model: str) -> Target:
        """Return the properties of the target *model*."""
        return Target(provider=self.label, model=model, window=self.window)


def labels_of(entries):
    """Return the labels of *entries* and of an entry with an unreadable env file."""
    return {name.lower(): name for name in [*entries, "Gone"]}


def fleet_models(entries, **more):
    """Return the models of *entries*."""
    return FleetModels(labels=labels_of(entries), config=entries.get, **more)
