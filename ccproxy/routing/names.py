"""
Model names: `LABEL:model`, a tier, or a plain model name.

Rules:
    1. The part before the first colon is a label only if the table has an entry of that name, in
       any case; otherwise the colon belongs to the model (`qwen3:8b`).
    2. After a label comes a model of that entry, which is requested unchanged, or big, middle or
       small: the current model of that tier.
    3. A Claude name (`claude-…`) after a label selects a tier as it does without a label.
    4. A name without a label is a model of the entry that receives the request, as
       `routing/tiers.py` describes. A switch replaces the models of tiers, not models that are
       requested by their own names.
    5. `anthropic/` may precede a label: Claude Code's model discovery drops ids without the names
       "claude" and "anthropic".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from ccproxy.providers.quirks import Target
from ccproxy.routing.tiers import TIERS, ModelMap, Tier, tier_named_in, without_mark
from ccproxy.text import did_you_mean

DISCOVERY_PREFIX = "anthropic/"
"""Precedes `LABEL:model` in the ids that `GET /v1/models` lists for Claude Code."""

_CLAUDE = "claude-"


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model of one entry, written `LABEL:model`."""

    label: str
    model: str
    """The model's own name, or the name of a tier."""

    def __str__(self) -> str:
        return f"{self.label}:{self.model}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiers:
    """A model name for each tier; None: the model of the env file."""

    big: str | None = None
    middle: str | None = None
    small: str | None = None

    def of(self, tier: Tier) -> str | None:
        """Return the model of *tier*."""
        return cast("str | None", getattr(self, tier))


NO_TIERS = Tiers()


class RoutingEntry(Protocol):
    """What routing reads of an entry's settings; `config.worker.WorkerConfig` is one."""

    @property
    def label(self) -> str:
        """The entry's label in the table."""

    @property
    def provider(self) -> str:
        """The name of the provider preset; empty if there is none."""

    @property
    def models(self) -> ModelMap:
        """The models of the tiers and the model cards."""

    @property
    def long_context_threshold(self) -> int | None:
        """Tokens above which a request is long, unless the table has its own threshold."""

    def target(self, model: str) -> Target:
        """Return the properties of *model*, a name at the provider."""


def parse_ref(name: str, labels: Mapping[str, str]) -> ModelRef | None:
    """
    Parse `LABEL:model`; return None if *name* has no label.

    *labels* are those of the table by their lower-case forms.
    """
    head, colon, model = name.partition(":")
    head = head.strip().lower().removeprefix(DISCOVERY_PREFIX)
    label = labels.get(head) if colon else None
    model = without_mark(model)
    return ModelRef(label, model) if label is not None and model else None


def unknown_label(name: str, labels: Mapping[str, str]) -> str:
    """
    Return an error text if the label of *name* is unknown, otherwise an empty string.

    A colon may belong to a model (`qwen3:8b`), but not one before the name of a tier.
    """
    head, colon, model = name.rpartition(":")
    if not colon or parse_ref(name, labels) is not None or tier_named(model.strip()) is None:
        return ""
    return no_such_label(head, labels)


def no_such_label(label: str, labels: Mapping[str, str]) -> str:
    """Return the error text for a *label* that is not in the table."""
    return f'there is no proxy "{label}"{did_you_mean(label, labels.values())}'


def tier_named(name: str) -> Tier | None:
    """Return the tier if *name* is the name of one."""
    lower = name.lower()
    return next((tier for tier in TIERS if tier == lower), None)


def tier_of(models: ModelMap, name: str) -> Tier:
    """
    Return the tier of *name*.

    It is found by the tier's model, by the name of a tier after a label, or else by the words in a
    Claude name.
    """
    lower = without_mark(name).lower()
    for tier in TIERS:
        if (models.tier(tier) or "").lower() == lower:
            return tier
    return tier_named(lower.rpartition(":")[2]) or tier_named_in(lower)


def is_own_name(models: ModelMap, name: str) -> bool:
    """Return True if *name* selects exactly one model of the provider and not a tier."""
    lower = without_mark(name).lower()
    if lower.startswith(_CLAUDE) or lower in (model.lower() for model in models.tiers()):
        return False
    return models.knows(name)


def model_for(models: ModelMap, switched: Tiers, name: str) -> str:
    """Return the model that answers a *name* without a label."""
    if switched == NO_TIERS or is_own_name(models, name):
        return models.pick(name)
    return switched.of(tier_of(models, name)) or models.pick(name)


def model_after_label(models: ModelMap, switched: Tiers, name: str, *, requested: str = "") -> str:
    """
    Return the model that answers a *name* that followed the entry's label.

    *requested* is the client's own model name, which is sent if a tier has no model (the
    `anthropic` preset).
    """
    tier = tier_named(name)
    if tier is not None:
        return switched.of(tier) or models.tier(tier) or models.pick(requested or name)
    if name.lower().startswith(_CLAUDE):
        return model_for(models, switched, name)
    return name
