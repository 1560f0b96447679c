"""
What `ccproxy init` asks: each thing that no option says, until the answer can be read.

The key is asked for before the model: whoever has copied one pastes it at the first chance, and
what is typed as a model is seen. It is not taken for a model's name, either.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import click

from ccproxy.cli.render.terminal import clean, complain
from ccproxy.cli.session.environment import window_note
from ccproxy.cli.setup import new_proxy as newproxy
from ccproxy.cli.setup.hidden_input import read_hidden_lines
from ccproxy.cli.setup.new_proxy import CUSTOM, NewProxy, preset_of
from ccproxy.cli.setup.offered_models import offered_models
from ccproxy.config import settings
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, UsageError
from ccproxy.providers.presets import Preset, generic_preset, load_presets

KEY_BYTES = 32
"""256 bits: nobody guesses a client key."""
_MOST_EMPTY_PASTES = 2
_MOST_NAMES = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the options say; None where they say nothing."""

    preset: str | None
    base_url: str | None
    model: str | None
    label: str | None
    port: str | None
    context_window: str | None
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


def describe(given: Given, fleet: Fleet) -> NewProxy:
    """
    Put the proxy together from the options and the user's answers.

    Raises:
        CcproxyError: If an option says what cannot be, nobody can be asked for what is missing, or
            all of it together cannot be.
        click.Abort: If the user gives up.

    """
    if given.asks and given.preset is None:
        complain(_menu())
    word = CUSTOM if given.base_url else None
    word = given.get("preset", "Provider, its name or number", newproxy.read_preset, default=word)
    preset, is_custom = preset_of(word), word == CUSTOM
    base_url = _base_url(given, preset, is_custom=is_custom)
    keys = _keys(given, preset)
    name = given.model or ""
    if name or is_custom or preset.big:
        name = _model(given, preset, base_url=base_url, keys=keys)
    proxy = NewProxy(
        preset=word,
        base_url=base_url,
        model="" if name == preset.big and not is_custom else name,
        keys=keys,
        label=given.get(
            "label",
            "Label",
            lambda typed: newproxy.read_label(typed, fleet),
            default=newproxy.propose_label(word, fleet) if given.asks else word,
        ),
        port=_port(given, fleet),
        client_key=f"ccp_{secrets.token_urlsafe(KEY_BYTES)}",
    )
    return _with_window(given, proxy, fleet)


def agrees(question: str, *, default: bool = True) -> bool:
    """Ask a question that is answered with yes or no."""
    return click.confirm(question, default=default, err=True)


def _menu() -> str:
    """Return the presets in two columns, numbered as `read_preset` counts them."""
    titles = {name: preset.title for name, preset in load_presets().items()}
    titles[CUSTOM] = "any other server"
    cells = [f"{n:>3} {name:<10} {title}" for n, (name, title) in enumerate(titles.items(), 1)]
    half = (len(cells) + 1) // 2
    width = max(map(len, cells[:half])) + 2
    columns = zip(cells[:half], [*cells[half:], ""], strict=False)
    return "\n".join(f"{left:<{width}}{right}".rstrip() for left, right in columns)


def _ask(question: str, read: Callable[[str], T], *, default: str | None) -> T:
    """Ask until the answer can be read."""

    def convert(typed: str) -> T:
        try:
            return read(typed)
        except CcproxyError as error:
            raise click.UsageError(clean(str(error).partition("\n")[0])) from error

    answer: T = click.prompt(
        question, default=default, show_default=bool(default), value_proc=convert, err=True
    )
    return answer


def _base_url(given: Given, preset: Preset, *, is_custom: bool) -> str:
    """Return where the provider answers; empty: where the preset says."""
    if not (given.base_url or is_custom or not preset.base_url):
        return ""
    hint = f" (such as {preset.example_url})" * bool(preset.example_url)

    def read(typed: str) -> str:
        return newproxy.read_setting(settings.PROVIDER_BASE_URL, typed, "the base URL")

    return given.get("base_url", f"Base URL{hint}", read)


def _model(given: Given, preset: Preset, *, base_url: str, keys: Sequence[str]) -> str:
    """Return the model; whoever has a server of their own sees what it offers."""
    is_custom = preset is generic_preset()
    names = offered_models(base_url, keys) if is_custom and given.asks and not given.model else []
    hint = f" (such as {', '.join(map(clean, names[:_MOST_NAMES]))})" * bool(names)
    default = None if is_custom else preset.big
    return given.get("model", f"Model{hint}", newproxy.read_model, default=default)


def _port(given: Given, fleet: Fleet) -> int:
    proposed = newproxy.propose_port(fleet)

    def read(typed: str) -> int:
        # What was found free just now is not asked for again: it might not be a moment later.
        return proposed if typed == str(proposed) else newproxy.read_port(typed, fleet)

    return given.get("port", "Port", read, default=str(proposed))


def _with_window(given: Given, proxy: NewProxy, fleet: Fleet) -> NewProxy:
    """Add the window of the model; unless it is known, or the user does not know it either."""
    config = proxy.config(fleet)
    if given.context_window is None and window_note(config) is None:
        return proxy

    def read(typed: str) -> int | None:
        setting = settings.CONTEXT_WINDOW
        return newproxy.read_setting(setting, typed, "the context window") if typed else None

    question = f"Context window of {config.models.big} in tokens (empty: I do not know)"
    window = given.get("context_window", question, read, default="")
    return replace(proxy, context_window=window)


def _keys(given: Given, preset: Preset) -> tuple[str, ...]:
    """Read the provider's keys; none where none are needed."""
    if given.key_stdin:
        return _read_keys(sys.stdin, "stdin")
    if not preset.needs_key:
        return ()
    if not given.asks:
        text = f"--key-stdin is missing: {preset.title} asks for a key"
        where = f"; get one at {preset.key_page}" * bool(preset.key_page)
        raise UsageError(f"{text}\n  fix: hand it over on stdin with --key-stdin{where}")
    if preset.key_page:
        complain(f"Keys are at {preset.key_page}")
    empty = 0
    while True:
        typed = read_hidden_lines("Key, or several, one a line (not shown; an empty line ends):")
        empty += not typed
        try:
            return _read_keys(typed, "what was pasted")
        except UsageError as error:
            if empty == _MOST_EMPTY_PASTES:
                raise
            complain(f"Error: {str(error).partition(chr(10))[0]}")


def _read_keys(lines: Iterable[str], source: str) -> tuple[str, ...]:
    said = ",".join(line for line in lines if line.strip())
    if not said:
        fix = "give the provider's key; a server that asks for none takes any word"
        raise UsageError(f"no key was given\n  fix: {fix}")
    return newproxy.read_setting(settings.PROVIDER_API_KEY, said, source)
