"""
Chains of entries: the model of a tier can be a reference to the model of another entry.

    A: BIG_MODEL=B:big      B: BIG_MODEL=glm-5      A:big -> B:big -> glm-5 at B
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ccproxy.providers.quirks import Target
from ccproxy.routing.names import (
    NO_TIERS,
    ModelRef,
    RoutingEntry,
    Tiers,
    model_after_label,
    parse_ref,
)
from ccproxy.routing.tiers import TIERS

EntryT_co = TypeVar("EntryT_co", bound=RoutingEntry, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChain(Generic[EntryT_co]):
    """The references from a name to the model that answers."""

    refs: tuple[ModelRef, ...]
    config: EntryT_co | None = field(default=None, repr=False)
    """The entry that answers, or None if the chain is a cycle or an env file cannot be read."""
    model: str = ""
    """The provider's name of the model that answers."""
    cycle: tuple[ModelRef, ...] = ()
    """The references that form a cycle."""

    @property
    def target(self) -> Target | None:
        """The properties of the model that answers."""
        return None if self.config is None else self.config.target(self.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetModels(Generic[EntryT_co]):
    """The models of all entries, with the references between them."""

    labels: Mapping[str, str]
    """The labels of the table, by their lower-case form."""
    config: Callable[[str], EntryT_co | None]
    """Returns the settings of an entry, or None if they cannot be read."""
    tiers: Callable[[str], Tiers] = lambda _: NO_TIERS
    """Returns the switched tiers of an entry."""

    def chain(self, start: ModelRef, *, requested: str = "") -> ModelChain[EntryT_co]:
        """Follow the references from *start*; *requested* is the client's original model name."""
        refs = [start]
        while True:
            ref = refs[-1]
            config = self.config(ref.label)
            if config is None:
                return ModelChain(refs=tuple(refs))
            tiers = self.tiers(ref.label)
            name = model_after_label(config.models, tiers, ref.model, requested=requested)
            following = parse_ref(name, self.labels)
            if following is None:
                return ModelChain(refs=tuple(refs), config=config, model=name)
            if following in refs:
                return ModelChain(refs=tuple(refs), cycle=tuple(refs[refs.index(following) :]))
            refs.append(following)

    def chains(self, label: str) -> list[ModelChain[EntryT_co]]:
        """Return the chains of the entry *label*, one for each tier with a model."""
        config = self.config(label)
        if config is None:
            return []
        switched = self.tiers(label)
        tiers = [tier for tier in TIERS if switched.of(tier) or config.models.tier(tier)]
        return [self.chain(ModelRef(label, tier)) for tier in tiers]
