"""Add a provider and its API keys."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from textwrap import indent
from typing import TYPE_CHECKING, Any

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.render.command_lines import callable_here
from ccproxy.cli.render.terminal import notify, short_path, show, show_json
from ccproxy.config.fleet import Fleet
from ccproxy.config.locations import place_for_config
from ccproxy.errors import UsageError
from ccproxy.text import counted

if TYPE_CHECKING:
    from ccproxy.cli.setup.new_proxy import NewProxy


def _complete_preset(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    from ccproxy.cli.setup.new_proxy import CUSTOM
    from ccproxy.providers.presets import load_presets

    return [name for name in [*load_presets(), CUSTOM] if name.startswith(incomplete.lower())]


@command(
    "ccproxy init",
    'echo "$KEY" | ccproxy init --no-input --preset kimi --key-stdin',
    "ccproxy init --preset zai --endpoint coding-plan",
    "ccproxy init --preset custom --base-url http://10.0.0.5:8000/v1 --model qwen3-coder",
)
@click.option(
    "--preset",
    metavar="NAME",
    shell_complete=_complete_preset,
    help="The provider; custom for any other server.",
)
@click.option(
    "--endpoint",
    metavar="NAME",
    help="Region or plan: international, china, coding-plan …  [default: the preset's]",
)
@click.option("--base-url", metavar="URL", help="The provider's address.  [default: the preset's]")
@click.option(
    "--api",
    type=click.Choice(("chat", "responses", "messages")),
    help="The server's API.  [default: detected by the test]",
)
@click.option("--model", metavar="NAME", help="The model to use.  [default: the preset's]")
@click.option("--label", metavar="LABEL", help="The proxy's label.  [default: the preset's name]")
@click.option(
    "--port", metavar="PORT", help="The proxy's port.  [default: the first free one from 8081]"
)
@click.option(
    "--context-window",
    metavar="N",
    help="The model's context window, such as 200k, if it is not in the catalogue.",
)
@click.option(
    "--key-stdin", is_flag=True, help="Read the provider's keys from stdin, one per line."
)
@click.option("--no-input", is_flag=True, help="Never prompt; use options and defaults.")
@click.option("--test/--no-test", default=None, help="Send a test request with each key first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (schema 1).")
def init(
    options: Options,
    /,
    *,
    no_input: bool,
    test: bool | None,
    as_json: bool,
    **values: Any,  # noqa: ANN401 - click's values, the fields of InitOptions
) -> None:
    """
    Add a provider: write an env file with its keys and add an entry to the table.

    Prompts for values that are not given as options; keys are not echoed. If there is no table,
    one is created; existing files are never overwritten. The proxy gets a new client key, which
    `ccproxy run` and `ccproxy env` pass to Claude Code. Exits with 4 if the provider rejects a key.
    """
    is_interactive = not (no_input or values["key_stdin"])
    if is_interactive and not sys.stdin.isatty():
        fix = 'echo "$KEY" | ccproxy init --no-input --preset NAME --key-stdin'
        raise UsageError(
            callable_here(f"stdin is not a terminal, so init cannot prompt\n  fix: {fix}")
        )
    from ccproxy.cli.setup.key_tests import test_keys
    from ccproxy.cli.setup.new_proxy import open_or_create
    from ccproxy.cli.setup.questions import InitOptions, describe, with_reported_window

    fleet = open_or_create(place_for_config(options.config))
    notify(options, f"Config   {short_path(fleet.file)}{'' if fleet.file.exists() else ' (new)'}")
    proxy = describe(InitOptions(is_interactive=is_interactive, **values), fleet)
    if test is None:
        question = "Send a test request now?"
        test = is_interactive and click.confirm(question, default=True, err=True)
    if test:
        proxy = test_keys(options, proxy, fleet, is_interactive=is_interactive)
        proxy = with_reported_window(proxy, fleet)
    entry = proxy.write(fleet)
    _report(proxy, fleet, entry, as_json=as_json)
    for note in _notes(proxy, fleet, is_tested=test):
        notify(options, note)
    notify(options, f"Next:  ccproxy run {proxy.label} -- claude")


def _notes(proxy: NewProxy, fleet: Fleet, *, is_tested: bool) -> Iterator[str]:
    """Yield notes about steps that may be needed before the first session."""
    from ccproxy.cli.session.claude_environment import window_note

    config = replace(proxy.config(fleet), env_file=fleet.home / proxy.env_name)
    if window := window_note(config):
        yield f"note: {window}"
    if proxy.keys and not is_tested:
        keys = counted(len(proxy.keys), "key")
        yield f"note: {keys} not tested; to test: ccproxy keys {proxy.label} test"


def _report(proxy: NewProxy, fleet: Fleet, entry: str, *, as_json: bool) -> None:
    from ccproxy.cli.setup.config_edit import without_secrets
    from ccproxy.cli.setup.new_proxy import table_to_extend

    env_file = fleet.home / proxy.env_name
    if as_json:
        row = {
            "label": proxy.label,
            "port": proxy.port,
            "env_file": str(env_file),
            "table": str(table_to_extend(fleet)),
        }
        show_json({"schema": 1, "proxy": row})
    else:
        show(f"Wrote {short_path(env_file)}\n{without_secrets(proxy.env_text)}")
        show(f"Added to {short_path(table_to_extend(fleet))}\n{indent(entry, '  ')}")
