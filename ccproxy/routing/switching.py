"""
Switch the tiers of a running entry to other models.

Rules for a model name:
    1. `LABEL:model` is a model of that entry; the name of a tier after a label stays a reference.
    2. The name of a tier without a label is the tier's model in the entry's own env file.
    3. Any other name is a model of the entry itself if it has that model, otherwise of the first
       entry in the table that does. Entries that list the model precede those that only pass the
       name to their provider.
    4. A model that no entry has is an error that lists all models; nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from ccproxy.errors import UsageError
from ccproxy.providers.presets import load_presets
from ccproxy.routing.names import (
    NO_TIERS,
    ModelRef,
    RoutingEntry,
    Tiers,
    no_such_label,
    parse_ref,
    tier_named,
    unknown_label,
)
from ccproxy.routing.tiers import TIERS, ModelMap, Tier, without_mark
from ccproxy.text import did_you_mean

Entries = Mapping[str, RoutingEntry]
"""The settings of the fleet's entries by label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSwitch:
    """The models that replace those of the env file, and the model preset that defines them."""

    tiers: Tiers = NO_TIERS
    preset: str | None = None
    before: Tiers = NO_TIERS
    """The models that running sessions keep until the prefix of their prompt changes."""
    until: float = 0.0
    """When those sessions must switch, in seconds since the epoch; 0: every request switches."""

    def waiting(self, before: ModelSwitch, *, until: float) -> ModelSwitch:
        """Return this switch, but running sessions keep *before* until *until* at the latest."""
        return replace(self, before=before.tiers, until=until)

    @property
    def name(self) -> str:
        """The name that `status` shows, or empty if nothing is switched."""
        if self.tiers == NO_TIERS:
            return ""
        return self.preset or "switched"


NO_SWITCH = ModelSwitch()


def resolve_switch(
    request: Mapping[str, str],
    *,
    label: str,
    entries: Entries,
    presets: Mapping[str, Tiers],
    current: ModelSwitch,
) -> ModelSwitch:
    """
    Return the switch for a *request* with either a `preset` or models for some tiers.

    Raises:
        UsageError: If *request* has both or neither, or a name is unknown.
    """
    preset = request.get("preset")
    tiers = Tiers(**{tier: request[tier] for tier in TIERS if tier in request})
    if (preset is None) == (tiers == NO_TIERS):
        raise UsageError("name either a model preset, or models for big, middle or small")
    if preset is not None:
        return _switch_to_preset(preset, label=label, entries=entries, presets=presets)
    resolved = _resolve_tiers(tiers, label=label, entries=entries)
    merged = {tier: resolved.of(tier) or current.tiers.of(tier) for tier in TIERS}
    return ModelSwitch(tiers=Tiers(**merged))


def usable_presets(
    presets: Mapping[str, Tiers], *, label: str, entries: Entries
) -> dict[str, Tiers]:
    """Return the model presets whose models all exist in the fleet."""
    usable = {}
    for name, tiers in presets.items():
        try:
            _resolve_tiers(tiers, label=label, entries=entries)
        except UsageError:
            continue
        usable[name] = tiers
    return usable


def switch_warnings(switch: ModelSwitch, *, label: str, entries: Entries) -> list[str]:
    """Return a warning for each model of *switch* that is not known to exist at its provider."""
    labels = {name.lower(): name for name in entries}
    warnings = []
    for name in dict.fromkeys(filter(None, map(switch.tiers.of, TIERS))):
        ref = parse_ref(name, labels) or ModelRef(label, name)
        models = entries[ref.label].models if ref.label in entries else None
        if models is None or tier_named(ref.model) or _is_listed(models, ref.model):
            continue
        listed = models.listed()
        if not listed:
            continue
        hint = did_you_mean(ref.model, listed)
        text = f"{ref.model} is not in the list of known models of {ref.label}{hint}"
        warnings.append(f"{text}; known models: {', '.join(listed)}")
    return warnings


def has_model(entry: RoutingEntry, name: str) -> bool:
    """
    Return True if *entry* may offer the model *name*.

    This includes servers whose models are unknown: servers without a preset, servers that run the
    user's own models, and servers with more models than a list can contain.
    """
    preset = load_presets().get(entry.provider)
    if preset is None or not preset.lists_all_models or entry.models.knows(name):
        return True
    # PASS_MODELS only selects names that no tier's model replaces, which may be fewer than the
    # models that the provider offers. The preset's patterns are used instead.
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in preset.pass_models)


def _is_listed(models: ModelMap, name: str) -> bool:
    """Return True if a tier uses *name*, or a model card specifically describes it."""
    card = models.card(name)
    described = card is not models.unknown and card.pattern not in models.pass_patterns
    return models.lists(name) or described or card.facts is not None


def _model_lines(entries: Entries) -> Iterator[str]:
    """Yield a line with the models of each entry."""
    for label, entry in entries.items():
        yield f"{label}: {', '.join([*entry.models.listed(), *TIERS])}"


def _switch_to_preset(
    name: str, *, label: str, entries: Entries, presets: Mapping[str, Tiers]
) -> ModelSwitch:
    by_key = {preset.lower(): preset for preset in presets}
    preset = by_key.get(name.lower())
    if preset is None:
        hint = did_you_mean(name, presets)
        names = ", ".join(presets)
        text = f'there is no model preset "{name}"{hint}'
        raise UsageError(f"{text}\n  fix: use one of: {names}")
    tiers = _resolve_tiers(presets[preset], label=label, entries=entries)
    # A model preset without a middle model uses its big model for sonnet.
    middle = tiers.middle or tiers.big
    return ModelSwitch(tiers=Tiers(big=tiers.big, middle=middle, small=tiers.small), preset=preset)


def _resolve_tiers(tiers: Tiers, *, label: str, entries: Entries) -> Tiers:
    """Return *tiers* with labels for all models. Raises UsageError with all unknown names."""
    resolved: dict[str, str] = {}
    errors: dict[str, None] = {}
    for tier in TIERS:
        if (name := tiers.of(tier)) is None:
            continue
        try:
            resolved[tier] = _resolve_name(name, label, entries)
        except UsageError as error:
            errors[str(error)] = None
    if errors:
        lines = "\n".join(f"    {line}" for line in _model_lines(entries))
        raise UsageError(f"{'; '.join(errors)}\n  fix: use one of these, as LABEL:model:\n{lines}")
    return Tiers(**resolved)


def _resolve_name(name: str, label: str, entries: Entries) -> str:
    labels = {entry_label.lower(): entry_label for entry_label in entries}
    name = without_mark(name)
    ref = parse_ref(name, labels)
    if ref is None:
        return _resolve_unlabelled(name, label, entries, labels)
    entry = entries[ref.label]
    tier = tier_named(ref.model)
    if tier is not None:
        return _own_tier(entry, tier) if ref.label == label else str(ModelRef(ref.label, tier))
    if not has_model(entry, ref.model):
        hint = did_you_mean(ref.model, entry.models.listed())
        raise UsageError(f'{ref.label} has no model "{ref.model}"{hint}')
    return str(ref)


def _resolve_unlabelled(name: str, label: str, entries: Entries, labels: Mapping[str, str]) -> str:
    if text := unknown_label(name, labels):
        raise UsageError(text)
    if (tier := tier_named(name)) is not None:
        return _own_tier(entries[label], tier)
    order = [label, *(other for other in entries if other != label)]
    for has in (ModelMap.lists, ModelMap.knows):
        for other in order:
            if has(entries[other].models, name):
                return str(ModelRef(other, name))
    listed = [model for entry in entries.values() for model in entry.models.listed()]
    text = f"no provider here offers {name}{did_you_mean(name, listed)}"
    if ":" in name:
        text = f"{no_such_label(name.partition(':')[0], labels)}, and {text}"
    raise UsageError(text)


def _own_tier(entry: RoutingEntry, tier: Tier) -> str:
    """Return the tier's model in the env file; a reference to its own tier would be a cycle."""
    model = entry.models.tier(tier)
    if model is None:
        raise UsageError(f"{entry.label} has no {tier.upper()}_MODEL")
    return model
