"""
How a model is named anywhere in the fleet: `LABEL:model`.

Rules:
    1. The part before the first colon is a label only if the table has one of that name, without
       regard to case; otherwise the colon belongs to the model (`qwen3:8b`).
    2. Behind the label stands a model of that entry, which is asked for as it is written, or one
       of the words big, middle and small: what the entry uses for that tier just then.
    3. A name of Claude's (`claude-…`) behind a label means the tier that it means anywhere.
    4. A name without a label means a model of the entry that is asked, as `routing/tiers.py`
       describes; a switch replaces the tiers, not the models requested by their own names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from ccproxy.routing.tiers import TIERS, ModelMap, Tier, tier_named_in, without_mark

_CLAUDE = "claude-"


@dataclass(frozen=True, slots=True)
class Place:
    """A model of one entry."""

    label: str
    model: str
    """The model's own name, or a tier's."""

    def __str__(self) -> str:
        return f"{self.label}:{self.model}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiers:
    """A model for each tier, by any of the names above; None: as the env file says."""

    big: str | None = None
    middle: str | None = None
    small: str | None = None

    def of(self, tier: Tier) -> str | None:
        """Return the model of *tier*."""
        return cast("str | None", getattr(self, tier))


NO_TIERS = Tiers()


def place_of(name: str, labels: Mapping[str, str]) -> Place | None:
    """
    Read `LABEL:model`; None if *name* has no label.

    *labels* are those of the table by their lower-case forms.
    """
    head, colon, model = name.partition(":")
    label = labels.get(head.strip().lower()) if colon else None
    model = without_mark(model)
    return Place(label, model) if label is not None and model else None


def tier_named(word: str) -> Tier | None:
    """Return the tier that *word* is the name of."""
    wanted = word.lower()
    return next((tier for tier in TIERS if tier == wanted), None)


def tier_of(models: ModelMap, name: str) -> Tier:
    """Return the tier that *name* stands for: its model's own name, or a word of Claude's."""
    wanted = without_mark(name).lower()
    for tier in TIERS:
        if (Tiers.of(_tiers(models), tier) or "").lower() == wanted:
            return tier
    return tier_named_in(wanted)


def is_own_name(models: ModelMap, name: str) -> bool:
    """Tell whether *name* asks for one model and nothing else: known, and no tier's."""
    wanted = without_mark(name).lower()
    if wanted.startswith(_CLAUDE) or wanted in (tier.lower() for tier in models.tiers()):
        return False
    return models.knows(name)


def model_for(models: ModelMap, switched: Tiers, name: str) -> str:
    """Return who answers for a *name* without a label."""
    if switched == NO_TIERS or is_own_name(models, name):
        return models.pick(name)
    return switched.of(tier_of(models, name)) or models.pick(name)


def model_behind_label(models: ModelMap, switched: Tiers, name: str, *, asked: str = "") -> str:
    """
    Return who answers for a *name* that stood behind the entry's label.

    *asked* is the client's own word: it goes on where a tier has no model (the `anthropic` preset).
    """
    tier = tier_named(name)
    if tier is not None:
        found = switched.of(tier) or _tiers(models).of(tier)
        return found or models.pick(asked or name)
    if name.lower().startswith(_CLAUDE):
        return model_for(models, switched, name)
    return name


def _tiers(models: ModelMap) -> Tiers:
    return Tiers(big=models.big, middle=models.middle, small=models.small)
