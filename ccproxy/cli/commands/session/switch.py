"""Change the models a proxy uses."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ccproxy.cli.command import DURATION, Command, Options
from ccproxy.cli.render.terminal import notify, show, show_json
from ccproxy.cli.selection import complete_label, open_entry
from ccproxy.cli.session.completions import complete_model, complete_model_preset
from ccproxy.cli.session.model_switch import apply_switch
from ccproxy.errors import ConfigError, UsageError
from ccproxy.text import format_duration, printable

if TYPE_CHECKING:
    from ccproxy.config.fleet_check import CheckedFleet
    from ccproxy.routing.switching import ModelSwitch

Function = TypeVar("Function", bound=Callable[..., Any])


def _model_option(name: str, text: str) -> Callable[[Function], Function]:
    return click.option(name, metavar="MODEL", help=text, shell_complete=complete_model)


@click.command(
    cls=Command,
    examples=[
        "ccproxy switch kimi                                # current models and presets",
        "ccproxy switch kimi cross_premium",
        "ccproxy switch kimi --big GLM-4.6:big --small DeepSeek:deepseek-chat",
        "ccproxy switch kimi cross_premium --wait 30m       # at the next compaction",
        "ccproxy switch kimi --reset                        # use the models of its env file",
    ],
)
@click.argument("label", shell_complete=complete_label)
@click.argument("preset", required=False, shell_complete=complete_model_preset)
@_model_option("--big", "For opus and unknown model names.")
@_model_option("--middle", "For sonnet.")
@_model_option("--small", "For haiku.")
@click.option("--reset", is_flag=True, help="Use the models of the env file again.")
@click.option(
    "--wait",
    type=DURATION,
    help="Let running sessions change at their next compaction, at the latest after this time.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON (schema 1).")
@click.pass_obj
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

    fleet, entry = open_entry(options, label)
    label = entry.label
    checked = check_fleet(fleet.file)
    if label not in checked.workers:
        raise ConfigError(checked.mistakes)
    new_models = {name: value for name, value in models.items() if value}
    if reset and new_models:
        raise UsageError("--reset cannot be combined with models\n  fix: leave the models out")
    if wait is not None and not (reset or new_models):
        raise UsageError("--wait needs new models\n  fix: name a preset or models, or --reset")
    result = _Result(
        label=label, switch=apply_switch(checked, label, new_models, reset=reset, wait=wait)
    )
    tiers = result.tiers(checked)
    if as_json:
        show_json(result.as_json(tiers))
        return
    show("\n".join(result.lines(tiers)))
    for text in switch_warnings(result.switch, label=label, entries=checked.workers):
        notify(options, f"warning: {printable(text)}")
    if not (reset or new_models):
        presets = usable_presets(checked.tables.presets, label=label, entries=checked.workers)
        show(f"model presets: {', '.join(presets) or 'none that this fleet can run'}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    label: str
    switch: ModelSwitch

    def tiers(self, checked: CheckedFleet) -> dict[str, str | None]:
        """Return the model of each tier: of the switch, else of the env file."""
        from ccproxy.routing.tiers import TIERS

        own = checked.workers[self.label].models
        return {tier: getattr(self.switch.tiers, tier) or own.tier(tier) for tier in TIERS}

    def as_json(self, tiers: Mapping[str, str | None]) -> dict[str, object]:
        return {"schema": 1, "label": self.label, "preset": self.switch.preset, "models": tiers}

    def lines(self, tiers: Mapping[str, str | None]) -> list[str]:
        source = "uses the models in its env file"
        if self.switch.name:
            preset = self.switch.preset
            source = f"is switched to {preset}" if preset else "is switched"
        models = {
            tier: printable(model or "as the client requests") for tier, model in tiers.items()
        }
        lines = [f"{self.label} {source}", *(f"  {tier:<6}  {models[tier]}" for tier in models)]
        if (seconds := self.switch.until - time.time()) > 0:
            wait = format_duration(seconds)
            lines.append(f"  running sessions change at their next compaction, within {wait}")
        return lines
