"""`ccproxy switch`: other models for an entry, from its next request on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ccproxy.cli.render.terminal import clean, show
from ccproxy.cli.selection import choose_one, complete_label, open_fleet
from ccproxy.cli.verb import Options, Verb
from ccproxy.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from ccproxy.config.check import Checked
    from ccproxy.config.switches import Switch


@click.command(
    cls=Verb,
    examples=[
        "ccproxy switch kimi                                # what is, and what could be",
        "ccproxy switch kimi cross_premium",
        "ccproxy switch kimi --big GLM-4.6:big --small DeepSeek:deepseek-chat",
        "ccproxy switch kimi --reset                        # back to its env file",
    ],
)
@click.argument("label", shell_complete=complete_label)
@click.argument("preset", required=False)
@click.option("--big", metavar="MODEL", help="Who answers for opus and unknown names.")
@click.option("--middle", metavar="MODEL", help="Who answers for sonnet.")
@click.option("--small", metavar="MODEL", help="Who answers for haiku.")
@click.option("--reset", is_flag=True, help="Back to the models of the env file.")
@click.option("--json", "as_json", is_flag=True, help="As JSON (schema 1).")
@click.pass_obj
def switch(
    options: Options,
    label: str,
    preset: str | None,
    *,
    big: str | None,
    middle: str | None,
    small: str | None,
    reset: bool,
    as_json: bool,
) -> None:
    """
    Have LABEL answer with other models, its own or another entry's.

    PRESET is one of [presets.NAME] in ccproxy.toml, or one that is shipped. MODEL is LABEL:model,
    or LABEL:big, middle or small. Running streams end as they began, and no restart undoes it.
    """
    from ccproxy.config.check import check_fleet  # reads presets: too slow to load for --help

    fleet = open_fleet(options)
    name = choose_one(fleet, label).label
    checked = check_fleet(fleet.file)
    if name not in checked.workers:
        raise ConfigError(checked.mistakes)
    words = {"preset": preset, "big": big, "middle": middle, "small": small}
    given = {word: value for word, value in words.items() if value}
    if reset and given:
        raise UsageError("--reset goes alone\n  fix: leave the models out")
    now = _change(checked, name, given, reset=reset)
    models = checked.workers[name].models
    own = {"big": models.big, "middle": models.middle, "small": models.small}
    found = {tier: getattr(now.tiers, tier) or model for tier, model in own.items()}
    if as_json:
        show(json.dumps({"schema": 1, "label": name, "preset": now.preset, "models": found}))
        return
    what = f"is switched to {now.preset}" if now.preset else "is switched"
    show(f"{name} {what if now.name else 'has the models of its env file'}")
    for tier, model in found.items():
        show(f"  {tier:<6}  {clean(model or 'as the client says')}")
    if not (reset or given):
        show(f"presets: {', '.join(checked.choices.presets)}")


def _change(checked: Checked, label: str, given: Mapping[str, str], *, reset: bool) -> Switch:
    """Keep what is *given*, and return what holds then."""
    from ccproxy.config.switches import NO_SWITCH, read_switch, switch_path, write_switch
    from ccproxy.config.switching import wanted_switch

    path = switch_path(checked.fleet.state, label)
    now = NO_SWITCH if reset else read_switch(path)
    if given:
        workers, choices = checked.workers, checked.choices
        now = wanted_switch(given, label=label, workers=workers, choices=choices, current=now)
    if reset or given:
        write_switch(path, now)
    return now
