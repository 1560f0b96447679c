"""`ccproxy init`: a first proxy, or one more, without an editor."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ccproxy.cli.hidden import read_hidden_lines
from ccproxy.cli.keys import REFUSALS
from ccproxy.cli.pasting import pasted
from ccproxy.cli.terminal import clean, complain, near, say, show
from ccproxy.cli.verb import Options, Verb
from ccproxy.config.fleet import Fleet
from ccproxy.config.places import place_for_config
from ccproxy.errors import CcproxyError, UsageError

if TYPE_CHECKING:
    from ccproxy.cli.newproxy import NewProxy
    from ccproxy.config.worker import WorkerConfig

KEY_BYTES = 32
"""256 bits: nobody guesses a client key."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What the options say; None where they say nothing."""

    preset: str | None
    base_url: str | None
    model: str | None
    label: str | None
    port: str | None
    key_stdin: bool
    asks: bool
    """Whether somebody can be asked for what is missing."""

    def get(
        self, option: str, question: str, read: Callable[[str], T], *, default: str | None = None
    ) -> T:
        """
        Return what *option* says, else what the user answers, else the *default*.

        Raises:
            CcproxyError: If what was said cannot be, or nothing was and there is no default.

        """
        typed: str | None = getattr(self, option)
        if typed is None and self.asks:
            return _ask(question, read, default=default)
        if typed is None:
            typed = default
        if typed is None:
            name = f"--{option.replace('_', '-')}"
            raise UsageError(f"{name} is missing\n  fix: add {name}, or leave out --no-input")
        return read(typed)


def _presets(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    from ccproxy.cli.newproxy import CUSTOM
    from ccproxy.config.presets import load_presets

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
    **given: Any,  # noqa: ANN401 - click's values, the fields of _Given
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
    from ccproxy.cli.newproxy import open_or_begin

    fleet = open_or_begin(place_for_config(options.config))
    say(options, f"Config   {near(fleet.file)}{'' if fleet.file.exists() else ' (new)'}")
    proxy = _described(_Given(asks=asks, **given), fleet)
    config = proxy.config(fleet)
    if test or (test is None and asks and _agrees("Ask the provider for a word now?")):
        _try(options, proxy, config, asks=asks)
    proxy.write(fleet)
    _report(options, proxy, fleet, as_json=as_json)


def _described(given: _Given, fleet: Fleet) -> NewProxy:
    """Put the proxy together from the options and the user's answers."""
    from ccproxy.cli import newproxy
    from ccproxy.config import settings

    if given.asks and given.preset is None:
        complain(_menu())
    word = newproxy.CUSTOM if given.base_url else None
    word = given.get("preset", "Provider, its name or number", newproxy.read_preset, default=word)
    preset = newproxy.preset_of(word)
    is_custom = word == newproxy.CUSTOM

    def address(typed: str) -> str:
        return newproxy.read_setting(settings.PROVIDER_BASE_URL, typed, "the base URL")

    def model(typed: str) -> str:
        return newproxy.read_setting(settings.BIG_MODEL, typed, "the model")

    proposed = newproxy.propose_port(fleet)

    def port(typed: str) -> int:
        # What was found free just now is not asked for again: it might not be a moment later.
        return proposed if typed == str(proposed) else newproxy.read_port(typed, fleet)

    base_url, name = given.base_url or "", given.model or ""
    if base_url or is_custom or not preset.base_url:
        hint = f" (such as {preset.example_url})" * bool(preset.example_url)
        base_url = given.get("base_url", f"Base URL{hint}", address)
    if name or is_custom or preset.big:
        name = given.get("model", "Model", model, default=None if is_custom else preset.big)
    return newproxy.NewProxy(
        preset=word,
        base_url=base_url,
        model="" if name == preset.big and not is_custom else name,
        keys=_keys(given, word),
        label=given.get(
            "label",
            "Label",
            lambda typed: newproxy.read_label(typed, fleet),
            default=newproxy.propose_label(word, fleet) if given.asks else word,
        ),
        port=given.get("port", "Port", port, default=str(proposed)),
        client_key=f"ccp_{secrets.token_urlsafe(KEY_BYTES)}",
    )


# Questions...


def _menu() -> str:
    """Return the presets in two columns, numbered as `read_preset` counts them."""
    from ccproxy.cli.newproxy import CUSTOM
    from ccproxy.config.presets import load_presets

    titles = {name: preset.title for name, preset in load_presets().items()}
    titles[CUSTOM] = "any other server"
    cells = [f"{n:>3} {name:<10} {title}" for n, (name, title) in enumerate(titles.items(), 1)]
    half = (len(cells) + 1) // 2
    columns = zip(cells[:half], [*cells[half:], ""], strict=False)
    return "\n".join(f"{left:<40}{right}".rstrip() for left, right in columns)


def _ask(question: str, read: Callable[[str], T], *, default: str | None) -> T:
    """Ask until the answer can be read."""

    def convert(typed: str) -> T:
        try:
            return read(typed)
        except CcproxyError as error:
            raise click.UsageError(clean(str(error).partition("\n")[0])) from error

    answer: T = click.prompt(question, default=default, value_proc=convert, err=True)
    return answer


def _agrees(question: str, *, default: bool = True) -> bool:
    return click.confirm(question, default=default, err=True)


def _keys(given: _Given, word: str) -> tuple[str, ...]:
    """Read the provider's keys; none where none are needed."""
    from ccproxy.cli.newproxy import preset_of, read_setting
    from ccproxy.config.settings import PROVIDER_API_KEY

    preset = preset_of(word)
    if given.key_stdin:
        lines = sys.stdin.read().split("\n")
        return read_setting(PROVIDER_API_KEY, ",".join(lines), "stdin")
    if not preset.needs_key:
        return ()
    if not given.asks:
        text = f"--key-stdin is missing: {preset.title} asks for a key"
        where = f"; get one at {preset.key_page}" * bool(preset.key_page)
        raise UsageError(f"{text}\n  fix: hand it over on stdin with --key-stdin{where}")
    if preset.key_page:
        complain(f"Keys are at {preset.key_page}")
    while True:
        typed = read_hidden_lines("Key, or several, one a line (not shown; an empty line ends):")
        try:
            return read_setting(PROVIDER_API_KEY, ",".join(typed), "what was pasted")
        except UsageError as error:
            complain(f"Error: {str(error).partition(chr(10))[0]}")


# ...the trial...


def _try(options: Options, proxy: NewProxy, config: WorkerConfig, *, asks: bool) -> None:
    """Ask the provider for a word; a failure ends the command, unless the user goes on."""
    from ccproxy.cli.trial import try_out

    begun = time.monotonic()
    said = try_out(config, proxy.env_text)
    if said.get("status") == "success":
        model = str(said.get("model_used"))
        took = f"{time.monotonic() - begun:.1f} s"
        say(options, f"  ✓ {clean(model)} answers after {took}{_price(config, model)}")
        return
    complain(f"error: {clean(str(said.get('message', said)))}\n  fix: {_advice(said)}")
    if not (asks and _agrees("Add the proxy all the same?", default=False)):
        say(options, "Nothing was written.")
        raise SystemExit(4 if said.get("error_type") in REFUSALS else 1)


def _price(config: WorkerConfig, model: str) -> str:
    price = config.models.price(model)
    return "" if price is None else f" (${price.input:g} in, ${price.output:g} out per 1M tokens)"


def _advice(said: Mapping[str, Any]) -> str:
    return clean("; ".join(map(str, said.get("suggestions") or ["try again"])))


# ...and what came of it.


def _report(options: Options, proxy: NewProxy, fleet: Fleet, *, as_json: bool) -> None:
    from ccproxy.cli.additions import without_secrets

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
        show(f"and in {near(fleet.file)}  {proxy.port}:{proxy.env_name}:{proxy.label}")
    say(options, f"Next:  ccproxy run {proxy.label} -- claude")
