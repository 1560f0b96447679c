"""`ccproxy init`: a first proxy, or one more, without an editor."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from textwrap import indent
from typing import TYPE_CHECKING, Any

import click

from ccproxy.cli.commands.session.keys import KEY_ERRORS
from ccproxy.cli.render.pasted import pasted
from ccproxy.cli.render.terminal import clean, complain, near, say, show
from ccproxy.cli.verb import Options, Verb
from ccproxy.config.fleet import Fleet
from ccproxy.config.locations import place_for_config
from ccproxy.errors import UsageError

if TYPE_CHECKING:
    from ccproxy.cli.setup.new_proxy import NewProxy
    from ccproxy.config.worker import WorkerConfig


def _presets(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    from ccproxy.cli.setup.new_proxy import CUSTOM
    from ccproxy.providers.presets import load_presets

    return [name for name in [*load_presets(), CUSTOM] if name.startswith(incomplete.lower())]


@click.command(
    cls=Verb,
    examples=[
        "ccproxy init",
        'echo "$KEY" | ccproxy init --no-input --preset kimi --key-stdin',
        "ccproxy init --preset custom --base-url http://10.0.0.5:8000/v1 --model qwen3-coder",
    ],
)
@click.option(
    "--preset",
    metavar="NAME",
    shell_complete=_presets,
    help="The provider; custom: any other server.",
)
@click.option("--base-url", metavar="URL", help="Where it answers.  [default: as the preset says]")
@click.option(
    "--model", metavar="NAME", help="The model that answers.  [default: as the preset says]"
)
@click.option(
    "--label", metavar="LABEL", help="What the proxy is called.  [default: as the preset is]"
)
@click.option(
    "--port", metavar="PORT", help="Where it listens.  [default: the first free one from 8081 on]"
)
@click.option(
    "--context-window", metavar="N", help="The model's, in tokens, for servers that only you know."
)
@click.option("--key-stdin", is_flag=True, help="Read the provider's keys, one a line, from stdin.")
@click.option("--no-input", is_flag=True, help="Ask nothing.")
@click.option("--test/--no-test", default=None, help="Ask the provider for a word first.")
@click.option("--json", "as_json", is_flag=True, help="As JSON (schema 1).")
@click.pass_obj
def init(
    options: Options,
    /,
    *,
    no_input: bool,
    test: bool | None,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - click's values, the fields of Given
) -> None:
    """
    Add a proxy: an env file with its keys, and its entry in the table.

    Asks for what no option says, keys unseen. A table that is not there yet is begun; what is there
    stays as it is. Clients of the proxy need a key, which is made here and which `ccproxy run` and
    `ccproxy env` hand out. Exits with 4 if the provider refuses the key.
    """
    asks = not (no_input or given["key_stdin"])
    if asks and not sys.stdin.isatty():
        fix = 'echo "$KEY" | ccproxy init --no-input --preset NAME --key-stdin'
        raise UsageError(pasted(f"stdin is no terminal, so nobody can be asked\n  fix: {fix}"))
    # Reads presets and conversion settings: too slow to load for --help and completion.
    from ccproxy.cli.setup.new_proxy import open_or_begin
    from ccproxy.cli.setup.questions import Given, agrees, describe

    fleet = open_or_begin(place_for_config(options.config))
    say(options, f"Config   {near(fleet.file)}{'' if fleet.file.exists() else ' (new)'}")
    proxy = describe(Given(asks=asks, **given), fleet)
    if test or (test is None and asks and agrees("Ask the provider for a word now?")):
        _try(options, proxy, fleet, asks=asks)
    entry = proxy.write(fleet)
    _report(proxy, fleet, entry, as_json=as_json)
    say(options, f"Next:  ccproxy run {proxy.label} -- claude")


# The trial...

_ADVICE = {
    "authentication_error": "check the key, and that it is one of this provider's",
    "not_found_error": "check the model, and the address (--base-url)",
    "invalid_request_error": "check the provider and the model (--preset, --model)",
    "rate_limit_error": "wait, or add a second key",
}
_OTHER_ADVICE = "check the address (--base-url), and that the provider can be reached from here"


def _try(options: Options, proxy: NewProxy, fleet: Fleet, *, asks: bool) -> None:
    """Ask for a word with each key; a failure ends the command, unless the user goes on."""
    from ccproxy.cli.setup.questions import agrees

    failed = [said for said in _trials(options, proxy, fleet) if said.get("status") != "success"]
    if not failed or (asks and agrees("Add the proxy all the same?", default=False)):
        return
    say(options, "Nothing was written.")
    raise SystemExit(4 if any(said.get("error_type") in KEY_ERRORS for said in failed) else 1)


def _trials(options: Options, proxy: NewProxy, fleet: Fleet) -> Iterator[Mapping[str, Any]]:
    """Return what comes of a request by each key, and tell it; also of one without a key."""
    from ccproxy.cli.setup.trial import try_out
    from ccproxy.config.parsers import masked

    count = len(proxy.keys)
    for number, key in enumerate(proxy.keys or ("",), 1):
        alone = replace(proxy, keys=(key,) if key else ())
        config = alone.config(fleet)
        which = f"key {number} of {count} ({masked(key)}): " if count > 1 else ""
        begun = time.monotonic()
        said = try_out(config, alone.env_text)
        if said.get("status") == "success":
            model = str(said.get("model_used"))
            took = f"{time.monotonic() - begun:.1f} s"
            say(options, clean(f"  ✓ {which}{model} answers after {took}{_price(config, model)}"))
        else:
            text = clean(f"{which}{said.get('message', said)}")
            complain(f"error: {text}\n  fix: {_advice(said)}")
        yield said


def _price(config: WorkerConfig, model: str) -> str:
    price = config.models.price(model)
    return "" if price is None else f" (${price.input:g} in, ${price.output:g} out per 1M tokens)"


def _advice(said: Mapping[str, Any]) -> str:
    """Return what mends it, in the words of what was just asked: no file is there yet."""
    return _ADVICE.get(str(said.get("error_type")), _OTHER_ADVICE)


# ...and what came of it.


def _report(proxy: NewProxy, fleet: Fleet, entry: str, *, as_json: bool) -> None:
    from ccproxy.cli.setup.user_files import without_secrets

    env_file = fleet.home / proxy.env_name
    if as_json:
        row = {
            "label": proxy.label,
            "port": proxy.port,
            "env_file": str(env_file),
            "table": str(fleet.file),
        }
        show(json.dumps({"schema": 1, "proxy": row}, indent=2))
    else:
        show(f"Wrote {near(env_file)}\n{without_secrets(proxy.env_text)}")
        show(f"and in {near(fleet.file)}\n{indent(entry, '  ')}")
