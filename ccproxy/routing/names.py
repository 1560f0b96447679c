"""
Model names: `LABEL:model`, a tier, or a plain model name.

Rules:
    1. The part before the first colon is a label only if the table has an entry with that name,
       ignoring case; otherwise the colon belongs to the model (`qwen3:8b`).
    2. A label is followed by a model of that entry, which is requested unchanged, or by big, middle
       or small, which selects the current model of that tier.
    3. A Claude name (`claude-…`) after a label selects a tier, just as it does without a label.
    4. A name without a label selects a model of the receiving entry, as described in
       `routing/tiers.py`. A switch replaces the models of tiers, but not models that are requested
       by their own names.
    5. `anthropic/` may precede a label, because Claude Code's model discovery drops ids that do not
       contain "claude" or "anthropic".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from ccproxy.providers.quirks import Target
from ccproxy.routing.tiers import TIERS, ModelMap, Tier, tier_named_in, without_mark
from ccproxy.text import did_you_mean

DISCOVERY_PREFIX = "anthropic/"
"""Prefix of the ids that `GET /v1/models` lists for Claude Code."""

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
    """A model name for each tier; None means the model in the env file."""

    big: str | None = None
    middle: str | None = None
    small: str | None = None

    def of(self, tier: Tier) -> str | None:
        """Return the model for *tier*."""
        return cast("str | None", getattr(self, tier))


NO_TIERS = Tiers()


class RoutingEntry(Protocol):
    """The settings of an entry that routing uses; implemented in `config/worker_config.py`."""

    @property
    def label(self) -> str:
        """The entry's label in the table."""

    @property
    def provider(self) -> str:
        """The name of the provider preset, or empty."""

    @property
    def models(self) -> ModelMap:
        """The models of the tiers and the model cards."""

    @property
    def long_context_threshold(self) -> int | None:
        """The number of tokens above which a request is long, unless the table overrides it."""

    def target(self, model: str) -> Target:
        """Return the properties of *model*, the provider's model name."""


def parse_ref(name: str, labels: Mapping[str, str]) -> ModelRef | None:
    """
    Parse `LABEL:model`; return None if *name* has no label.

    *labels* are the labels of the table, by their lower-case form.
    """
    head, colon, model = name.partition(":")
    head = head.strip().lower().removeprefix(DISCOVERY_PREFIX)
    label = labels.get(head) if colon else None
    model = without_mark(model)
    return ModelRef(label, model) if label is not None and model else None


def unknown_label(name: str, labels: Mapping[str, str]) -> str:
    """
    Return an error message if the label of *name* is unknown, otherwise an empty string.

    A colon may belong to a model (`qwen3:8b`), unless the name of a tier follows it.
    """
    head, colon, model = name.rpartition(":")
    if not colon or parse_ref(name, labels) is not None or tier_named(model.strip()) is None:
        return ""
    return no_such_label(head, labels)


def no_such_label(label: str, labels: Mapping[str, str]) -> str:
    """Return the error message for a *label* that is not in the table."""
    return f'there is no proxy "{label}"{did_you_mean(label, labels.values())}'


def tier_named(name: str) -> Tier | None:
    """Return the tier called *name*, or None."""
    lower = name.lower()
    return next((tier for tier in TIERS if tier == lower), None)


def tier_of(models: ModelMap, name: str) -> Tier:
    """
    Return the tier of *name*.

    *name* can be the tier's model, or the name of a tier after a label. Otherwise the words of a
    Claude name determine the tier.
    """
    lower = without_mark(name).lower()
    for tier in TIERS:
        if (models.tier(tier) or "").lower() == lower:
            return tier
    return tier_named(lower.rpartition(":")[2]) or tier_named_in(lower)


def is_own_name(models: ModelMap, name: str) -> bool:
    """Return True if *name* selects one specific provider model rather than a tier."""
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
    Return the model that answers the *name* after the entry's label.

    *requested* is the client's original model name, which is sent if a tier has no model (the
    `anthropic` preset).
    """
    tier = tier_named(name)
    if tier is not None:
        return switched.of(tier) or models.tier(tier) or models.pick(requested or name)
    if name.lower().startswith(_CLAUDE):
        return model_for(models, switched, name)
    return name
