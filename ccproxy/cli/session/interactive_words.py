"""
The words of `ccproxy interactive`, row H15: each is one of ccproxy's verbs on the chosen proxy.

A word that fails says why and leaves the prompt open.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from ccproxy.cli.render.pasted import pasted
from ccproxy.cli.render.terminal import address, clean, complain, counted, near, show
from ccproxy.cli.selection import choose_one
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.errors import CcproxyError, UsageError


@dataclass(slots=True, kw_only=True)
class Desk:
    """Where the words are said: the fleet, and the proxy that they are about."""

    fleet: Fleet
    entry: Entry
    run: Callable[..., int]
    """Runs a verb of ccproxy's and returns its exit code."""
    is_over: bool = False

    def say(self, line: str) -> bool:
        """Do what *line* says; False if that failed."""
        try:
            words = shlex.split(line, comments=True)
            return self._do(words) if words else True
        except (CcproxyError, OSError) as error:
            complain("\n".join(map(clean, f"error: {error}".splitlines())))
        except ValueError as error:
            complain(f"error: this line cannot be read: {error}")
        return False

    def _do(self, words: list[str]) -> bool:
        name, *rest = words
        word = WORDS.get(_ALIASES.get(name.lower(), name.lower()))
        if word is None:
            close = get_close_matches(name.lower(), WORDS, n=1)
            meant = f' (did you mean "{close[0]}"?)' if close else ""
            raise UsageError(f'"{name}" is not a word{meant}; `help` lists them')
        if len(rest) > word.most:
            raise UsageError(f"{name} takes {counted(word.most, 'word')} at most")
        return word.deed(self, *rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word: what it does, and how many others may follow it."""

    deed: Callable[..., bool]
    meaning: str
    takes: str = ""
    most: int = 0


# What the proxy is...


def _config(desk: Desk) -> bool:
    from ccproxy.config.worker import load_worker

    config = load_worker(desk.entry.env_file, entry=desk.entry)
    models = config.models
    rows = {
        "provider": config.provider_name,
        "base URL": config.base_url,
        "API": config.api,
        "address": f"http://{config.host}:{config.port}",
        "env file": near(desk.entry.env_file),
        "keys": str(len(config.api_keys)),
        "client key": "asked for" if config.client_keys else "not asked for",
        "big, middle, small": ", ".join(
            name or "as asked" for name in (models.big, models.middle, models.small)
        ),
        "history": "on" if config.history else "off",
    }
    for name, value in rows.items():
        show(f"{name:<18}  {clean(value)}")
    return True


def _providers(desk: Desk, label: str = "") -> bool:
    if not label:
        return desk.run("status") in (0, 1, 3)  # it tells by its code what it shows
    desk.entry = choose_one(desk.fleet, label)
    show(f"The words are about {desk.entry.label} from now on.")
    return True


def _test(desk: Desk) -> bool:
    from ccproxy.cli.test_connection import try_connection
    from ccproxy.config.worker import load_worker

    config = load_worker(desk.entry.env_file, entry=desk.entry)
    try:
        said = try_connection(config)
    except (OSError, ValueError) as error:
        text = f"{address(config)} does not answer: {getattr(error, 'reason', error)}"
        raise CcproxyError(f"{text}\n  fix: ccproxy start") from error
    show(clean(str(said.get("message", said))))
    for advice in said.get("suggestions", ()):
        show(pasted(f"  fix: {clean(str(advice))}"))
    return said.get("status") == "success"


# ...and how it is switched.


def _presets(desk: Desk) -> bool:
    from ccproxy.config.choices import read_choices

    choices, mistakes = read_choices(desk.fleet)
    for name, tiers in sorted(choices.presets.items()):
        models = (tiers.big, tiers.middle, tiers.small)
        show(f"{clean(name):<18}  {clean(', '.join(model for model in models if model))}")
    for mistake in mistakes:
        complain(f"error: {clean(str(mistake))}")
    return not mistakes


def _preset(desk: Desk, name: str = "") -> bool:
    if not name:
        return _presets(desk)
    return desk.run("switch", desk.entry.label, name) == 0


def _toggle(desk: Desk, deed: str = "toggle") -> bool:
    return desk.run("toggle", desk.entry.label, deed) == 0


def _record(desk: Desk, deed: str = "") -> bool:
    if not deed:
        from ccproxy.supervisor.control.session_actions import switch_session

        deed = "off" if switch_session(desk.fleet, desk.entry.label).history else "on"
    return desk.run("history", desk.entry.label, _on_or_off(deed)) == 0


def _on_or_off(deed: str) -> Literal["on", "off"]:
    match deed:
        case "on" | "off":
            return deed
        case _:
            raise UsageError(f'"{deed}" is neither on nor off')


def _load(desk: Desk, name: str = "") -> bool:
    return desk.run("history", desk.entry.label, "import", *([name] if name else [])) == 0


def _logs(desk: Desk, count: str = "20") -> bool:
    return desk.run("logs", desk.entry.label, "-n", count) == 0


def _env(desk: Desk) -> bool:
    show(pasted(f'# in a shell: eval "$(ccproxy env {desk.entry.label})"'))
    return desk.run("env", desk.entry.label) == 0


def _help(_desk: Desk) -> bool:
    for name, word in WORDS.items():
        show(f"{f'{name} {word.takes}':<22}  {word.meaning}")
    return True


def _quit(desk: Desk) -> bool:
    desk.is_over = True
    return True


WORDS: Mapping[str, Word] = {
    "preset": Word(deed=_preset, takes="[NAME]", most=1, meaning="use the models of a preset"),
    "config": Word(deed=_config, meaning="what the proxy is set up with"),
    "toggle": Word(
        deed=_toggle, takes="[on|off]", most=1, meaning="let requests pass by, to Anthropic"
    ),
    "test": Word(deed=_test, meaning="ask the provider for a word"),
    "record": Word(deed=_record, takes="[on|off]", most=1, meaning="keep what is said"),
    "load": Word(deed=_load, takes="NAME", most=1, meaning="take over a file of exports/"),
    "logs": Word(deed=_logs, takes="[COUNT]", most=1, meaning="the last lines of the log"),
    "providers": Word(
        deed=_providers, takes="[LABEL]", most=1, meaning="who runs; with a label: go there"
    ),
    "presets": Word(deed=_presets, meaning="which presets there are"),
    "env": Word(deed=_env, meaning="what points a shell here; nothing is edited"),
    "help": Word(deed=_help, meaning="this"),
    "quit": Word(deed=_quit, meaning="leave"),
}
_ALIASES = {"exit": "quit", "q": "quit", "?": "help"}
