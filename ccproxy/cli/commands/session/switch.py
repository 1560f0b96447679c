"""Change the models that a proxy uses."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ccproxy.cli.command import DURATION, Options, command
from ccproxy.cli.render.terminal import notify, show, show_json
from ccproxy.cli.selection import complete_label, open_entry
from ccproxy.cli.session.completions import complete_model, complete_model_preset
from ccproxy.cli.session.model_switch import apply_switch
from ccproxy.cli.single_proxy import require_table
from ccproxy.errors import ConfigError, UsageError
from ccproxy.text import format_duration, printable

if TYPE_CHECKING:
    from ccproxy.routing.switching import ModelSwitch
    from ccproxy.routing.tiers import Tier

Function = TypeVar("Function", bound=Callable[..., Any])


def _model_option(name: str, text: str) -> Callable[[Function], Function]:
    return click.option(name, metavar="MODEL", help=text, shell_complete=complete_model)


@command(
    "ccproxy switch kimi                                # current models and presets",
    "ccproxy switch kimi cross_premium",
    "ccproxy switch kimi --big GLM-4.6:big --small DeepSeek:deepseek-chat",
    "ccproxy switch kimi cross_premium --wait 30m       # at the next compaction",
    "ccproxy switch kimi --reset                        # use the models of its env file",
)
@click.argument("label", shell_complete=complete_label)
@click.argument("preset", required=False, shell_complete=complete_model_preset)
@_model_option("--big", "The model for opus and unknown model names.")
@_model_option("--middle", "The model for sonnet.")
@_model_option("--small", "The model for haiku.")
@click.option("--reset", is_flag=True, help="Use the models of the env file again.")
@click.option(
    "--wait",
    type=DURATION,
    help="Let running sessions change at their next compaction, or after this time at the latest.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON (schema 1).")
def switch(
    options: Options,
    /,
    label: str,
    *,
    reset: bool,
    wait: float | None,
    as_json: bool,
    **models: str | None,
) -> None:
    """
    Use other models for LABEL, from its own provider or from another entry.

    PRESET is the name of a [presets.NAME] table in ccproxy.toml or of a built-in preset. MODEL is
    LABEL:model, LABEL:big, LABEL:middle or LABEL:small. Running streams are not affected, and the
    switch stays in effect after a restart. With --wait, a running session keeps its models while
    the provider has its prompt cached; new conversations change at once.
    """
    from ccproxy.config.fleet_check import check_fleet
    from ccproxy.routing.switching import switch_warnings, usable_presets
    from ccproxy.routing.tiers import TIERS

    fleet, entry = open_entry(options, label)
    require_table(fleet)
    label = entry.label
    checked = check_fleet(fleet.file)
    if label not in checked.workers:
        raise ConfigError(checked.mistakes)
    new_models = {name: value for name, value in models.items() if value}
    if reset and new_models:
        raise UsageError("--reset cannot be combined with models\n  fix: omit the models")
    if wait is not None and not (reset or new_models):
        raise UsageError(
            "--wait requires a change of models\n  fix: name a preset or models, or add --reset"
        )
    new_switch = apply_switch(checked, label, new_models, reset=reset, wait=wait)
    own = checked.workers[label].models
    tiers = {tier: getattr(new_switch.tiers, tier) or own.tier(tier) for tier in TIERS}
    if as_json:
        show_json({"schema": 1, "label": label, "preset": new_switch.preset, "models": tiers})
        return
    show("\n".join(_lines(label, new_switch, tiers)))
    for text in switch_warnings(new_switch, label=label, entries=checked.workers):
        notify(options, f"warning: {printable(text)}")
    if not (reset or new_models):
        presets = usable_presets(checked.tables.presets, label=label, entries=checked.workers)
        names = printable(", ".join(presets))
        show(f"model presets: {names or 'none that this fleet can run'}")


def _lines(label: str, switch: ModelSwitch, tiers: Mapping[Tier, str | None]) -> list[str]:
    source = "uses the models in its env file"
    if switch.name:
        source = "is switched" + (f" to {printable(switch.preset)}" if switch.preset else "")
    lines = [f"{label} {source}"]
    lines += [
        f"  {tier:<6}  {printable(model or 'as the client requests')}"
        for tier, model in tiers.items()
    ]
    if (seconds := switch.until - time.time()) > 0:
        wait = format_duration(seconds)
        lines.append(f"  running sessions change at their next compaction, within {wait}")
    return lines
