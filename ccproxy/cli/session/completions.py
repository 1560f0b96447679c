"""Values for shell completion: models, model presets, and the words of `ccproxy keys`."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from ccproxy.cli.command import Options
from ccproxy.cli.selection import choose_one, complete_label, open_readable_part
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, UsageError

_KEY_ACTIONS = {
    "list": "show the keys",
    "test": "send a test request with each key",
    "enable": "use a disabled key again",
    "disable": "do not use a key",
    "reset": "clear all cooldowns",
    "add": "add keys to the env file",
    "remove": "remove a key from the env file",
}


def complete_model(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return `LABEL:tier` and `LABEL:model` of every entry."""
    from ccproxy.config.worker_config import load_worker
    from ccproxy.routing.tiers import TIERS

    items: dict[str, str] = {}
    fleet = _fleet(ctx)
    for entry in fleet.entries if fleet else ():
        try:
            models = load_worker(entry.env_file, entry=entry).models
        except CcproxyError:
            continue
        tiers = {tier: models.tier(tier) for tier in TIERS}
        items |= {f"{entry.label}:{tier}": model for tier, model in tiers.items() if model}
        items |= {f"{entry.label}:{model}": "" for model in tiers.values() if model}
    return _matching(items, incomplete)


def complete_model_preset(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the model presets of the table and the built-in ones."""
    from ccproxy.config.routing_tables import read_routing_tables

    fleet = _fleet(ctx)
    if fleet is None:
        return []
    tables, _ = read_routing_tables(fleet)
    models = {
        name: ", ".join(filter(None, (tiers.big, tiers.middle, tiers.small)))
        for name, tiers in tables.presets.items()
    }
    return _matching(models, incomplete)


def complete_key_words(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return labels, actions or key ids, depending on the position in `ccproxy keys`."""
    words = [*(ctx.params.get("words") or ())]
    labels = [CompletionItem(label) for label in complete_label(ctx, param, incomplete)]
    match words:
        case []:
            return labels + _matching(_KEY_ACTIONS, incomplete)
        case [_]:
            return _matching(_KEY_ACTIONS, incomplete)
        case [label, ("test" | "enable" | "disable" | "remove"), *used]:
            return _key_ids(ctx, label, used, incomplete)
    return []


def _key_ids(
    ctx: click.Context, label: str, used: list[str], incomplete: str
) -> list[CompletionItem]:
    from ccproxy.cli.setup.config_edit import read_keys
    from ccproxy.text import mask_key

    fleet = _fleet(ctx)
    try:
        keys = read_keys(choose_one(fleet, label).env_file) if fleet else ()
    except (UsageError, OSError, ValueError):
        return []
    ids = {f"k{number}": mask_key(key) for number, key in enumerate(keys, 1)}
    return _matching({name: tail for name, tail in ids.items() if name not in used}, incomplete)


def _fleet(ctx: click.Context) -> Fleet | None:
    try:
        fleet, _ = open_readable_part(ctx.find_object(Options) or Options())
    except CcproxyError:
        return None
    return fleet


def _matching(items: dict[str, str], incomplete: str) -> list[CompletionItem]:
    start = incomplete.lower()
    return [
        CompletionItem(value, help=text or None)
        for value, text in items.items()
        if value.lower().startswith(start)
    ]
