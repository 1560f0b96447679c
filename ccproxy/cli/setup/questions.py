"""
The prompts of `ccproxy init`, one for each value not set by an option, repeated until valid.

The key comes before the model: a user who has just copied a key pastes it at the first prompt, and
the answer to "Model" is echoed. The model prompt rejects keys as well.
"""

from __future__ import annotations

import sys
import termios
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import click

from ccproxy.cli.render.terminal import print_error
from ccproxy.cli.session.claude_environment import window_note
from ccproxy.cli.setup import new_proxy
from ccproxy.cli.setup.new_proxy import CUSTOM, NewProxy, preset_of
from ccproxy.cli.setup.server_models import list_models, server_window
from ccproxy.config import settings
from ccproxy.config.env_text import masked_key, secret_of
from ccproxy.config.fleet import Fleet
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.errors import CcproxyError, UsageError
from ccproxy.providers.presets import Endpoint, Preset, generic_preset, load_presets
from ccproxy.text import counted, printable

_MAX_EMPTY_PASTES = 2
_MAX_SUGGESTIONS = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class InitOptions:
    """The values of the options; None for each missing option."""

    preset: str | None
    endpoint: str | None
    base_url: str | None
    model: str | None
    label: str | None
    port: str | None
    context_window: str | None
    api: str | None
    key_stdin: bool
    is_interactive: bool
    """True if the user can be asked for missing values."""

    def get(
        self, option: str, question: str, parse: Callable[[str], T], *, default: str | None = None
    ) -> T:
        """
        Return the value of *option*, or else the user's answer, or else *default*.

        Raises:
            CcproxyError: If the value is not valid, or is missing and has no default.

        """
        typed: str | None = getattr(self, option)
        if typed is None and self.is_interactive:
            return _ask(question, parse, default=default)
        if typed is None:
            typed = default
        if typed is None:
            name = f"--{option.replace('_', '-')}"
            raise UsageError(f"{name} is missing\n  fix: add {name}, or omit --no-input")
        return parse(typed)


def describe(options: InitOptions, fleet: Fleet) -> NewProxy:
    """
    Build the new proxy from the options and the user's answers.

    Raises:
        CcproxyError: If an option or the combination is not valid, or a value is missing and the
            user cannot be asked.
        click.Abort: If the user aborts.

    """
    if options.is_interactive and options.preset is None:
        print_error(_menu())
    name = CUSTOM if options.base_url else None
    name = options.get("preset", "Provider (name or number)", new_proxy.parse_preset, default=name)
    endpoint = _endpoint(options, preset_of(name))
    preset, is_custom = preset_of(name), name == CUSTOM
    if endpoint.name:
        preset = preset.at(endpoint)
    base_url = "" if endpoint.name else _base_url(options, preset, is_custom=is_custom)
    keys = _keys(options, preset)
    model = options.model or ""
    if model or is_custom or preset.big:
        model = _model(options, preset, base_url=base_url, keys=keys)
    proxy = NewProxy(
        preset=name,
        base_url=base_url,
        endpoint=endpoint_name(preset_of(name), endpoint),
        model="" if model == preset.big and not is_custom else model,
        keys=keys,
        label=options.get(
            "label",
            "Label",
            lambda typed: new_proxy.parse_label(typed, fleet),
            default=new_proxy.propose_label(name, fleet) if options.is_interactive else name,
        ),
        port=_port(options, fleet),
        client_key=new_proxy.new_client_key(),
        api=options.api or "",
    )
    return _with_window(options, proxy, fleet)


def ask_endpoint(preset: Preset) -> Endpoint:
    """Ask for a region or plan of the provider."""
    width = max(len(endpoint.name) for endpoint in preset.endpoints)
    for number, endpoint in enumerate(preset.endpoints, 1):
        print_error(f"{number:>3} {endpoint.name:<{width}}  {preset.at(endpoint).base_url}")

    def parse(typed: str) -> Endpoint:
        return new_proxy.parse_endpoint(typed, preset)

    question = "Region or plan (name or number)"
    return _ask(question, parse, default=preset.endpoints[0].name)


def endpoint_name(preset: Preset, endpoint: Endpoint) -> str:
    """Return the name of *endpoint* for the env file; empty for the first one of *preset*."""
    return "" if endpoint in preset.endpoints[:1] else endpoint.name


def paste_keys() -> tuple[str, ...]:
    """
    Ask for keys without echo until they are valid.

    Raises:
        UsageError: If the input is empty twice.
        click.Abort: If the user aborts.

    """
    empty_pastes = 0
    while True:
        count = 0

        def acknowledge(line: str) -> None:
            nonlocal count
            for key in filter(None, map(str.strip, line.split(","))):
                count += 1
                print_error(f"  {counted(count, 'key')}: {masked_key(key)}")

        question = "Paste one or more keys, one per line; finish with an empty line (not shown):"
        lines = _read_hidden_lines(question, on_line=acknowledge)
        empty_pastes += not lines
        try:
            return parse_keys(lines, "the input")
        except UsageError as error:
            if empty_pastes == _MAX_EMPTY_PASTES:
                raise
            print_error(f"Error: {str(error).partition(chr(10))[0]}")


def _read_hidden_lines(question: str, *, on_line: Callable[[str], None]) -> list[str]:
    """
    Return the typed or pasted lines up to an empty one. None of them is echoed.

    *on_line* is called with each line, for feedback. `getpass` cannot be used: it reads one line
    and discards the other pasted lines.

    Raises:
        click.Abort: If the terminal is closed, or the user ends the input.

    """
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    silent = [*before]
    silent[3] &= ~termios.ECHO
    lines: list[str] = []
    try:
        termios.tcsetattr(terminal, termios.TCSADRAIN, silent)
        print_error(question)
        while line := sys.stdin.readline():
            if not line.strip():
                return lines
            lines.append(line.strip())
            on_line(line.strip())
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
    raise click.Abort


def _menu() -> str:
    """Return the provider presets in two columns, with the numbers that `parse_preset` accepts."""
    titles = {name: preset.title for name, preset in load_presets().items()}
    titles[CUSTOM] = "any other server"
    cells = [f"{n:>3} {name:<12} {title}" for n, (name, title) in enumerate(titles.items(), 1)]
    half = (len(cells) + 1) // 2
    width = max(map(len, cells[:half])) + 2
    columns = zip(cells[:half], [*cells[half:], ""], strict=False)
    return "\n".join(f"{name:<{width}}{text}".rstrip() for name, text in columns)


def _ask(question: str, parse: Callable[[str], T], *, default: str | None) -> T:
    """Ask until the answer is valid."""

    def convert(typed: str) -> T:
        try:
            return parse(typed)
        except CcproxyError as error:
            raise click.UsageError(printable(str(error).partition("\n")[0])) from error

    answer: T = click.prompt(
        question, default=default, show_default=bool(default), value_proc=convert, err=True
    )
    return answer


def _endpoint(options: InitOptions, preset: Preset) -> Endpoint:
    """Return the region or plan; it has no name if none can be chosen or --base-url is given."""
    if options.endpoint is not None:
        if options.base_url is not None:
            text = "--endpoint and --base-url cannot be combined"
            raise UsageError(f"{text}\n  fix: omit one of them")
        return new_proxy.parse_endpoint(options.endpoint, preset)
    if preset.endpoints and options.is_interactive and options.base_url is None:
        return ask_endpoint(preset)
    return Endpoint(name="")


def _base_url(options: InitOptions, preset: Preset, *, is_custom: bool) -> str:
    """Return the provider's base URL; empty for the preset's."""
    if not (options.base_url or is_custom or not preset.base_url):
        return ""
    hint = f" (such as {preset.example_url})" * bool(preset.example_url)

    def parse(typed: str) -> str:
        return new_proxy.parse_setting(settings.PROVIDER_BASE_URL, typed, "the base URL")

    return options.get("base_url", f"Base URL{hint}", parse)


def _model(options: InitOptions, preset: Preset, *, base_url: str, keys: Sequence[str]) -> str:
    """Return the model; the prompt suggests the models of a custom server."""
    is_custom = preset is generic_preset()
    names = []
    if is_custom and options.is_interactive and not options.model:
        models = list_models(base_url, [*map(secret_of, keys)])
        names = [one.name for one in models[:_MAX_SUGGESTIONS]]
    hint = f" (such as {', '.join(map(printable, names))})" * bool(names)
    default = None if is_custom else preset.big
    return options.get("model", f"Model{hint}", new_proxy.parse_model, default=default)


def _port(options: InitOptions, fleet: Fleet) -> int:
    proposed = new_proxy.propose_port(fleet)

    def parse(typed: str) -> int:
        # The proposed port was free a moment ago, so do not probe it again.
        return proposed if typed == str(proposed) else new_proxy.parse_port(typed, fleet)

    return options.get("port", "Port", parse, default=str(proposed))


def _with_window(options: InitOptions, proxy: NewProxy, fleet: Fleet) -> NewProxy:
    """Add the model's context window if the provider preset does not contain it."""
    config = proxy.config(fleet)
    if options.context_window is None and window_note(config) is None:
        return proxy
    asks = options.is_interactive and options.context_window is None
    reported = _reported_window(config) if asks else None

    def parse(typed: str) -> int | None:
        return new_proxy.parse_window(typed) if typed else None

    question = f"Context window of {config.models.big} in tokens, such as 200k (empty: unknown)"
    window = options.get("context_window", question, parse, default=str(reported or ""))
    return replace(proxy, context_window=window)


def with_reported_window(proxy: NewProxy, fleet: Fleet) -> NewProxy:
    """Return *proxy* with an unknown context window filled in, if its server reports it."""
    config = proxy.config(fleet)
    if window_note(config) is None:
        return proxy
    return replace(proxy, context_window=_reported_window(config))


def _reported_window(config: WorkerConfig) -> int | None:
    return server_window(config.base_url, config.api_keys, config.models.big or "")


def _keys(options: InitOptions, preset: Preset) -> tuple[str, ...]:
    """Return the provider's keys, or an empty tuple if it needs none."""
    if options.key_stdin:
        return parse_keys(sys.stdin, "stdin")
    if not preset.needs_key:
        return ()
    key_page = preset.key_page
    if not options.is_interactive:
        page = f"; get one at {key_page}" * bool(key_page)
        anything = ", or any text if the server needs no key" * (preset is generic_preset())
        text = f"--key-stdin is missing: {preset.title} needs a key"
        raise UsageError(f"{text}\n  fix: pass it on stdin with --key-stdin{page}{anything}")
    if key_page:
        print_error(f"Get a key at {key_page}")
    return paste_keys()


def parse_keys(lines: Iterable[str], source: str) -> tuple[str, ...]:
    """
    Parse keys, one per line or separated by commas; *source* is the subject of an error message.

    Raises:
        UsageError: If there is no key, or one is not valid.

    """
    text = ",".join(line for line in lines if line.strip())
    if not text:
        fix = "enter the provider's key, or any text if the server needs no key"
        raise UsageError(f"no key was entered\n  fix: {fix}")
    return new_proxy.parse_setting(settings.PROVIDER_API_KEY, text, source)
