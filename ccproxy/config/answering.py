"""
Who answers to a name in the end: through every entry whose tier is another entry's model.

    A: BIG_MODEL=B:big      B: BIG_MODEL=glm-5      A:big -> B:big -> glm-5 at B
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

from ccproxy.config.fleet import Fleet
from ccproxy.config.switches import read_switch, switch_path
from ccproxy.config.worker import WorkerConfig, load_worker
from ccproxy.errors import ConfigError
from ccproxy.providers.quirks import Target
from ccproxy.routing.names import NO_TIERS, Place, Tiers, model_behind_label, place_of
from ccproxy.routing.tiers import TIERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """The entries that a name leads through."""

    places: tuple[Place, ...]
    config: WorkerConfig | None = field(default=None, repr=False)
    """Of who answers; None if nobody does, because of a circle or of settings that are wrong."""
    model: str = ""
    circle: tuple[Place, ...] = ()
    """The places that lead to each other, if some do."""

    @property
    def target(self) -> Target | None:
        """What is known of the model."""
        return None if self.config is None else self.config.target(self.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """What must be known of a fleet to find the way."""

    labels: Mapping[str, str]
    """By lower case."""
    config: Callable[[str], WorkerConfig | None]
    """Returns the settings of an entry; None where they cannot be read."""
    tiers: Callable[[str], Tiers] = lambda _: NO_TIERS
    """Returns what an entry is switched to."""

    def way(self, start: Place, *, asked: str = "") -> Way:
        """Follow *start*; *asked* is the client's own word."""
        places = [start]
        while True:
            place = places[-1]
            config = self.config(place.label)
            if config is None:
                return Way(places=tuple(places))
            tiers = self.tiers(place.label)
            name = model_behind_label(config.models, tiers, place.model, asked=asked)
            further = place_of(name, self.labels)
            if further is None:
                return Way(places=tuple(places), config=config, model=name)
            if further in places:
                circle = tuple(places[places.index(further) :])
                return Way(places=tuple(places), circle=circle)
            places.append(further)

    def ways(self, label: str) -> list[Way]:
        """Return the way of every tier of the entry *label* that has a model."""
        config = self.config(label)
        if config is None:
            return []
        own = config.models
        env = {"big": own.big, "middle": own.middle, "small": own.small}
        given = [tier for tier in TIERS if self.tiers(label).of(tier) or env[tier]]
        return [self.way(Place(label, tier)) for tier in given]


def map_of(fleet: Fleet) -> Map:
    """Return the map of *fleet* as its files are now; an env file is read when it is needed."""

    @cache
    def config(label: str) -> WorkerConfig | None:
        entry = fleet.entry(label)
        try:
            return None if entry is None else load_worker(entry.env_file, entry=entry)
        except ConfigError:
            return None

    return Map(
        labels={entry.label.lower(): entry.label for entry in fleet.entries},
        config=config,
        tiers=cache(lambda label: read_switch(switch_path(fleet.state, label)).tiers),
    )
