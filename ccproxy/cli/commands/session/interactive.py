"""
Manage a proxy at a prompt.

The twelve commands of the prompt act on the current proxy. Every other command of ccproxy works as
on the command line, with the current label if it needs one and none is typed. If a command fails,
the prompt reports why and continues.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import click

from ccproxy.cli.command import ALIASES as COMMAND_ALIASES
from ccproxy.cli.command import Options, command, commands
from ccproxy.cli.render.command_lines import callable_here
from ccproxy.cli.render.error_text import error_text
from ccproxy.cli.render.terminal import address, notify, print_error, short_path, show
from ccproxy.cli.selection import choose_one, complete_label, open_fleet
from ccproxy.cli.single_proxy import table_arguments
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.errors import CcproxyError, UsageError
from ccproxy.text import counted, did_you_mean, printable

_WITH_LABEL = ("history", "keys", "logs", "route", "run", "switch")
"""The ccproxy commands that get the current label if none is typed."""


@command(
    "ccproxy interactive",
    "ccproxy interactive kimi",
    "printf 'config\\ntest\\n' | ccproxy interactive kimi",
)
@click.argument("label", required=False, shell_complete=complete_label)
def interactive(options: Options, label: str | None) -> None:
    """
    Manage the proxy LABEL at a prompt; `help` lists the commands.

    Without a terminal, commands are read from stdin, one per line, and the exit code is 1 if one
    of them failed. Shell start-up files are never edited.
    """
    fleet = open_fleet(options)
    entry = choose_one(fleet, label) if label else _default_entry(fleet)
    prompt = Prompt(fleet=fleet, entry=entry, run_verb=_verb_runner(options, fleet))
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        notify(options, "Type help for a list of commands, quit to leave.")
    failed = False
    for line in _typed_lines(prompt) if is_terminal else sys.stdin:
        with suppress(CcproxyError, OSError):  # the command reports it
            prompt.fleet = open_fleet(options)  # the previous command may have added an entry
        failed = not prompt.execute(line) or failed
        if prompt.is_closed:
            break
    raise SystemExit(1 if failed and not is_terminal else 0)


def _default_entry(fleet: Fleet) -> Entry:
    """Return the entry that this shell uses, or else the newest one that is not the demo entry."""
    active = fleet.entry(os.environ.get("CCPROXY_ACTIVE", ""))
    if active is not None:
        return active
    from ccproxy.config.worker_config import load_worker

    for entry in reversed(fleet.entries):
        try:
            if not load_worker(entry.env_file, entry=entry).serves_demo:
                return entry
        except CcproxyError:
            continue
    return fleet.entries[-1]


def _verb_runner(options: Options, fleet: Fleet) -> Callable[..., int]:
    """Return a function that runs another ccproxy command and returns its exit code."""
    group = click.get_current_context().find_root().command

    def run_verb(*arguments: str) -> int:
        common = [*table_arguments(fleet), *(["--no-color"] if options.no_color else [])]
        try:
            group.main([*common, *arguments])
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
        return 0

    return run_verb


@dataclass(slots=True, kw_only=True)
class Prompt:
    """The state of the prompt, with the fleet and the current proxy."""

    fleet: Fleet
    entry: Entry
    run_verb: Callable[..., int]
    """Runs a ccproxy command and returns its exit code."""
    is_closed: bool = False

    def execute(self, line: str) -> bool:
        """Run the command in *line*; return False if it failed."""
        try:
            words = shlex.split(line, comments=True)
            return self._execute(words) if words else True
        except (CcproxyError, OSError) as error:
            print_error(error_text(error))
        except ValueError as error:
            print_error(f"Error: cannot parse this line: {error}")
        return False

    def _execute(self, words: list[str]) -> bool:
        name, arguments = words[0], words[1:]
        key = _ALIASES.get(name.lower(), name.lower())
        if (command := COMMANDS.get(key)) is not None:
            most = 1 if command.metavar else 0
            if len(arguments) > most:
                raise UsageError(f"{name} takes at most {counted(most, 'argument')}")
            return command.action(self, *arguments)
        verb = COMMAND_ALIASES.get(key, key)
        if verb not in commands() or verb == "interactive":
            hint = did_you_mean(key, [*COMMANDS, *commands()])
            raise UsageError(f'unknown command "{name}"{hint}; type help')
        return self._run(verb, arguments)

    def _run(self, verb: str, arguments: list[str]) -> bool:
        has_label = bool(arguments) and self.fleet.entry(arguments[0]) is not None
        if verb in _WITH_LABEL and not has_label:
            arguments = [self.entry.label, *arguments]
        # `status` exits with an error for a stopped fleet; at the prompt, that is not a failure.
        return self.run_verb(verb, *arguments) in ((0, 1, 3) if verb == "status" else (0,))


class PromptCommand(NamedTuple):
    """One command of the prompt."""

    action: Callable[..., bool]
    """Takes the prompt and the argument; returns False on failure."""
    help: str
    metavar: str = ""
    """The name of the optional argument; empty if there is none."""


# Commands that show the current proxy...


def _config(prompt: Prompt) -> bool:
    from ccproxy.cli.session.claude_environment import base_url
    from ccproxy.config.worker_config import load_worker
    from ccproxy.routing.tiers import TIERS

    config = load_worker(prompt.entry.env_file, entry=prompt.entry)
    models = config.models
    rows = {
        "provider": config.provider_name,
        "base URL": config.base_url,
        "API": config.api,
        "address": base_url(config),
        "env file": short_path(prompt.entry.env_file),
        "keys": str(len(config.api_keys)),
        "client key": "required" if config.client_keys else "not required",
        "big, middle, small": ", ".join(models.tier(tier) or "as requested" for tier in TIERS),
        "history": "on" if config.history else "off",
    }
    for name, value in rows.items():
        show(f"{name:<18}  {printable(value)}")
    return True


def _providers(prompt: Prompt, label: str = "") -> bool:
    if not label:
        return prompt.run_verb("status") in (0, 1, 3)
    prompt.entry = choose_one(prompt.fleet, label)
    show(f"Now managing {prompt.entry.label}.")
    return True


def _test(prompt: Prompt) -> bool:
    from ccproxy.cli.connection_test import try_connection
    from ccproxy.config.worker_config import load_worker

    config = load_worker(prompt.entry.env_file, entry=prompt.entry)
    try:
        report = try_connection(config)
    except (OSError, ValueError) as error:
        text = f"{address(config)} does not respond: {getattr(error, 'reason', error)}"
        raise CcproxyError(f"{text}\n  fix: ccproxy start") from error
    show(printable(str(report.get("message", report))))
    for suggestion in report.get("suggestions", ()):
        show(callable_here(f"  fix: {printable(str(suggestion))}"))
    return report.get("status") == "success"


def _logs(prompt: Prompt, count: str = "20") -> bool:
    return prompt.run_verb("logs", prompt.entry.label, "-n", count) == 0


def _env(prompt: Prompt) -> bool:
    show(callable_here(f'# in a shell: eval "$(ccproxy env {prompt.entry.label})"'))
    return prompt.run_verb("env", prompt.entry.label) == 0


# ...and commands that change it.


def _presets(prompt: Prompt) -> bool:
    from ccproxy.config.routing_tables import read_routing_tables

    tables, mistakes = read_routing_tables(prompt.fleet)
    for name, tiers in sorted(tables.presets.items()):
        models = (tiers.big, tiers.middle, tiers.small)
        show(f"{printable(name):<18}  {printable(', '.join(model for model in models if model))}")
    for mistake in mistakes:
        print_error(f"Error: {printable(str(mistake))}")
    return not mistakes


def _preset(prompt: Prompt, name: str = "") -> bool:
    if not name:
        return _presets(prompt)
    return prompt.run_verb("switch", prompt.entry.label, name) == 0


def _toggle(prompt: Prompt, action: str = "toggle") -> bool:
    return prompt.run_verb("toggle", prompt.entry.label, action) == 0


def _record(prompt: Prompt, action: str = "") -> bool:
    if not action:
        from ccproxy.supervisor.control.worker_requests import switch_session

        action = "off" if switch_session(prompt.fleet, prompt.entry.label).history else "on"
    if action not in ("on", "off"):
        raise UsageError(f'record takes on or off, not "{action}"')
    return prompt.run_verb("history", prompt.entry.label, action) == 0


def _load(prompt: Prompt, name: str = "") -> bool:
    arguments = [name] if name else []
    return prompt.run_verb("history", prompt.entry.label, "import", *arguments) == 0


def _help(_prompt: Prompt) -> bool:
    for name, one in COMMANDS.items():
        show(f"{f'{name} {one.metavar}':<22}  {one.help}")
    others = [verb for verb in commands() if verb not in COMMANDS and verb != "interactive"]
    show("The other ccproxy commands work here as well:")
    show(click.wrap_text(", ".join(others), 78, "  ", "  "))
    return True


def _quit(prompt: Prompt) -> bool:
    prompt.is_closed = True
    return True


COMMANDS: Mapping[str, PromptCommand] = {
    "preset": PromptCommand(_preset, "use the models of a preset", "[NAME]"),
    "config": PromptCommand(_config, "show the proxy's configuration"),
    "toggle": PromptCommand(
        _toggle, "bypass the proxy (send requests to Anthropic), or end the bypass", "[on|off]"
    ),
    "test": PromptCommand(_test, "send a test request to the provider"),
    "record": PromptCommand(_record, "record conversations", "[on|off]"),
    "load": PromptCommand(_load, "import a file from exports/", "NAME"),
    "logs": PromptCommand(_logs, "show the last lines of the log", "[COUNT]"),
    "providers": PromptCommand(
        _providers, "show all proxies; with a label, manage that proxy", "[LABEL]"
    ),
    "presets": PromptCommand(_presets, "list the presets"),
    "env": PromptCommand(_env, "print the settings for a shell"),
    "help": PromptCommand(_help, "show this list"),
    "quit": PromptCommand(_quit, "leave"),
}
_ALIASES = {"exit": "quit", "q": "quit", "?": "help"}


# Reading lines from a terminal.


def _typed_lines(prompt: Prompt) -> Iterator[str]:
    """Yield lines until the end of input; Ctrl-C discards the line."""
    read_line = _line_reader(prompt)
    while True:
        try:
            yield read_line(f"{prompt.entry.label}> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _line_reader(prompt: Prompt) -> Callable[[str], str]:
    """Return a reader with completion and history if prompt_toolkit is installed, else `input`."""
    try:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import NestedCompleter
        from prompt_toolkit.history import FileHistory
    except ImportError:
        return input
    labels = dict.fromkeys(entry.label for entry in prompt.fleet.entries)
    on_or_off = {"on": None, "off": None}
    arguments = {"providers": labels, "toggle": on_or_off, "record": on_or_off}
    names = {name: arguments.get(name) for name in [*COMMANDS, *commands()]}
    session: PromptSession[str] = PromptSession(
        completer=NestedCompleter.from_nested_dict(names),
        history=FileHistory(_history_file(prompt.fleet)),
    )
    return session.prompt


def _history_file(fleet: Fleet) -> str:
    """Create the history file, readable only by the user, and return its path."""
    fleet.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = fleet.state / "interactive.history"
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(path, flags, 0o600))
    return str(path)
