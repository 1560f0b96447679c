"""
From what the user wants an entry's tiers to be, to a switch that can be kept.

Rules for a name:
    1. `LABEL:model` is that entry's model; a tier's name behind it stays one.
    2. A tier's name alone is the model that the entry's own env file gives it.
    3. Any other name is the entry's own model if it has it, else that of the first entry of the
       table that has; one that is listed counts before one that merely passes.
    4. What nobody has is a mistake that says what there is; then nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase

from ccproxy.config.choices import Choices, unknown_place
from ccproxy.config.switches import Switch
from ccproxy.config.worker import WorkerConfig
from ccproxy.errors import UsageError
from ccproxy.providers.presets import load_presets
from ccproxy.routing.names import NO_TIERS, Place, Tiers, place_of, tier_named
from ccproxy.routing.tiers import TIERS, Tier, without_mark

Workers = Mapping[str, WorkerConfig]
"""The settings of the fleet's entries by label."""


def wanted_switch(
    given: Mapping[str, str], *, label: str, workers: Workers, choices: Choices, current: Switch
) -> Switch:
    """
    Return the switch for a `preset`, or for a model for some of `big`, `middle` and `small`.

    Raises:
        UsageError: If that is not what is *given*, or a name means nothing.

    """
    preset = given.get("preset")
    tiers = Tiers(**{tier: given[tier] for tier in TIERS if tier in given})
    if (preset is None) == (tiers == NO_TIERS):
        raise UsageError("name either a preset, or models for big, middle or small")
    if preset is not None:
        return switch_to_preset(preset, label=label, workers=workers, choices=choices)
    return switch_to_models(tiers, label=label, workers=workers, current=current)


def switch_to_preset(name: str, *, label: str, workers: Workers, choices: Choices) -> Switch:
    """
    Return what the preset *name* means for the entry *label*.

    Raises:
        UsageError: If there is no such preset, or nobody has one of its models.

    """
    by_key = {known.lower(): known for known in choices.presets}
    known = by_key.get(name.lower())
    if known is None:
        meant = get_close_matches(name.lower(), by_key, n=1)
        hint = f" (did you mean {by_key[meant[0]]}?)" if meant else ""
        names = ", ".join(choices.presets)
        raise UsageError(f'there is no preset "{name}"{hint}\n  fix: use one of: {names}')
    tiers = resolved(choices.presets[known], label=label, workers=workers)
    # A preset of two models, as the ancestors have them, means its big one for sonnet, too.
    middle = tiers.middle or tiers.big
    return Switch(tiers=Tiers(big=tiers.big, middle=middle, small=tiers.small), preset=known)


def switch_to_models(wanted: Tiers, *, label: str, workers: Workers, current: Switch) -> Switch:
    """
    Return the *current* switch of the entry *label* with the *wanted* models in it.

    Raises:
        UsageError: If nobody has one of them.

    """
    new = resolved(wanted, label=label, workers=workers)
    merged = {tier: new.of(tier) or current.tiers.of(tier) for tier in TIERS}
    return Switch(tiers=Tiers(**merged))


def resolved(tiers: Tiers, *, label: str, workers: Workers) -> Tiers:
    """
    Return *tiers* with every model's place found.

    Raises:
        UsageError: With every name that means nothing.

    """
    found: dict[str, str] = {}
    wrong: list[str] = []
    for tier in TIERS:
        name = tiers.of(tier)
        if name is None:
            continue
        try:
            found[tier] = _resolved(name, label, workers)
        except UsageError as error:
            if str(error) not in wrong:
                wrong.append(str(error))
    if wrong:
        listed = "\n".join(f"    {line}" for line in listing(workers))
        raise UsageError(f"{'; '.join(wrong)}\n  fix: use one of these, as LABEL:model:\n{listed}")
    return Tiers(**found)


def has_model(config: WorkerConfig, name: str) -> bool:
    """
    Tell whether an entry may be asked for *name*.

    It may where nobody knows: at a server without a preset, at one that runs what its user gave
    it, at one with more models than anybody lists.
    """
    preset = load_presets().get(config.provider)
    if preset is None or not preset.lists_all_models or config.models.knows(name):
        return True
    # PASS_MODELS says what is not exchanged for a tier's model, not what there is.
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in preset.pass_models)


def listing(workers: Workers) -> Iterator[str]:
    """Say which models there are, a line for each entry."""
    for label, config in workers.items():
        names = [*config.models.listed(), *TIERS]
        yield f"{label}: {', '.join(names)}"


def _resolved(name: str, label: str, workers: Workers) -> str:
    labels = {known.lower(): known for known in workers}
    name = without_mark(name)
    place = place_of(name, labels)
    if place is None:
        return _unlabelled(name, label, workers, labels)
    config = workers[place.label]
    tier = tier_named(place.model)
    if tier is not None:
        return _own_tier(config, tier) if place.label == label else str(Place(place.label, tier))
    if not has_model(config, place.model):
        raise UsageError(f'{place.label} has no model "{place.model}"')
    return str(place)


def _unlabelled(name: str, label: str, workers: Workers, labels: Mapping[str, str]) -> str:
    if wrong := unknown_place(name, labels):
        raise UsageError(wrong)
    if (tier := tier_named(name)) is not None:
        return _own_tier(workers[label], tier)
    order = [label, *(other for other in workers if other != label)]
    for has in (_lists, _passes):
        for other in order:
            if has(workers[other], name):
                return str(Place(other, name))
    raise UsageError(f'nobody has a model "{name}"')


def _own_tier(config: WorkerConfig, tier: Tier) -> str:
    """Return the env file's model: a switch that named its own tier would lead in circles."""
    models: Mapping[Tier, str | None] = {
        "big": config.models.big,
        "middle": config.models.middle,
        "small": config.models.small,
    }
    model = models[tier]
    if model is None:
        raise UsageError(f"{config.label} has no {tier.upper()}_MODEL")
    return model


def _lists(config: WorkerConfig, name: str) -> bool:
    return config.models.lists(name)


def _passes(config: WorkerConfig, name: str) -> bool:
    return config.models.knows(name)
