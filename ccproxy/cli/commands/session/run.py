"""Run a command, such as claude, with a provider."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from ccproxy.cli.command import Command, Options
from ccproxy.cli.render.terminal import notify, short_path
from ccproxy.cli.selection import choose_one, complete_label, open_fleet
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, UsageError

if TYPE_CHECKING:
    from ccproxy.cli.session.claude_environment import Session

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class CommandNotFound(click.ClickException):
    """The command does not exist. Exits like a shell."""

    exit_code = 127


@click.command(
    cls=Command,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    examples=[
        "ccproxy run kimi -- claude",
        'ccproxy run glm -- claude -p "What does this project do?"',
        "ccproxy run kimi -- bash      # a shell that uses Kimi",
    ],
)
@click.argument("label", shell_complete=complete_label)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] [CMD]...")
@click.pass_obj
def run(options: Options, label: str, command: tuple[str, ...]) -> None:
    """
    Run CMD (default: claude) with every setting that makes it use LABEL.

    The worker is started if it is not running. Claude Code also gets the settings through
    --settings, so that its own settings.json does not override them. The exit code is that of CMD.
    """
    words = [*(command[1:] if command[:1] == ("--",) else command)] or ["claude"]
    program = shutil.which(words[0])
    if program is None:
        raise CommandNotFound(f"command not found: {words[0]}\n  fix: install it, or correct PATH")
    fleet = open_fleet(options)
    session = _prepare(options, fleet, label)
    environ = {name: value for name, value in os.environ.items() if name not in session}
    environ |= {name: value for name, value in session.items() if value is not None}
    if not is_claude(program, words[0]):
        sys.stdout.flush()
        os.execve(program, words, environ)  # noqa: S606 - the command is the user's own
    with _settings_file(_claude_env(options, session), words[1:]) as arguments:
        sys.exit(_run_child([program, *arguments], environ))


def _prepare(options: Options, fleet: Fleet, label: str) -> Session:
    """Start the proxy of *label* and return the variables of a session on it."""
    # Reads presets and conversion settings: too slow to load for --help and completion.
    from ccproxy.cli.commands.fleet.start import bring_up
    from ccproxy.cli.session.claude_environment import session
    from ccproxy.cli.session.notices import is_bypassed, warn_about_proxy
    from ccproxy.config.answering import map_of
    from ccproxy.config.worker import load_worker

    entry = choose_one(fleet, label)
    if fleet.home != Path.cwd():
        notify(options, f"Config   {short_path(fleet.file)}")
    config = load_worker(entry.env_file, entry=entry)
    fleet_map = map_of(fleet)
    bypassed = is_bypassed(fleet, entry)
    warn_about_proxy(options, config, fleet_map, bypassed=bypassed)
    bring_up(options, fleet, entry)
    return session(config, os.environ, fleet_map=fleet_map, is_bypassed=bypassed)


def is_claude(program: str, typed: str) -> bool:
    """Return True if the command is Claude Code, by the typed name or by the resolved path."""
    names = {Path(typed).name, Path(program).name}
    return bool(names & {"claude", "claude.exe", "claude.cmd"})


# Settings for Claude Code: its own settings files override the environment, but not --settings.


def _claude_env(options: Options, session: Session) -> dict[str, str]:
    """Return `env` for --settings, and note which settings files it overrides."""
    from ccproxy.cli.session.claude_settings import find_conflicts

    env = {name: value for name, value in session.items() if value is not None}
    for conflict in find_conflicts(session, environ=os.environ, cwd=Path.cwd()):
        text = f"{short_path(conflict.file)} sets {conflict.variable}"
        if conflict.is_managed:
            fix = "ask the administrator to remove it"
            notify(options, f"warning: {text}, which nothing can override\n  fix: {fix}")
            continue
        # A settings file cannot unset a variable, only set it to an empty value.
        env.setdefault(conflict.variable, "")
        notify(options, f"note: {text}; this session overrides it with --settings")
    return env


@contextmanager
def _settings_file(env: Mapping[str, str], arguments: Sequence[str]) -> Iterator[list[str]]:
    """
    Return Claude Code's *arguments* with a temporary --settings file in front.

    It is a file of mode 0600 because every user of the machine can read a process's arguments. The
    user's own --settings are merged into it.
    """
    own, rest = _split_settings(arguments)
    merged = {**own, "env": {**_mapping(own.get("env")), **env}}
    with tempfile.NamedTemporaryFile("w", prefix="ccproxy-", suffix=".json") as file:
        json.dump(merged, file)
        file.flush()
        yield ["--settings", file.name, *rest]


def _split_settings(arguments: Sequence[str]) -> tuple[Mapping[str, Any], list[str]]:
    """Split the user's own --settings from *arguments*."""
    rest = list(arguments)
    for number, argument in enumerate(rest):
        if argument == "--":
            break
        if argument == "--settings" and number + 1 < len(rest):
            value = rest[number + 1]
            del rest[number : number + 2]
            return _read_settings(value), rest
        if argument.startswith("--settings="):
            del rest[number]
            return _read_settings(argument.removeprefix("--settings=")), rest
    return {}, rest


def _read_settings(value: str) -> Mapping[str, Any]:
    """Read the value of --settings: JSON, or the path of a JSON file."""
    text = value if value.lstrip().startswith("{") else Path(value).read_text(encoding="utf-8")
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise UsageError(f"the value of --settings is not JSON: {error}") from error
    return _mapping(settings)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


# The child process.


def _run_child(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run *command*, forward signals to it, and return its exit code."""
    try:
        child = subprocess.Popen(command, env=environ)  # noqa: S603 - the user's own
    except OSError as error:
        raise CcproxyError(f"cannot run {command[0]}: {error.strerror}") from error

    def forward(number: int, _frame: FrameType | None) -> None:
        # The terminal sends the keyboard's signals to the whole group: the child has them already.
        if number not in (signal.SIGINT, signal.SIGQUIT) or not _is_foreground():
            child.send_signal(number)

    previous = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        code = child.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _is_foreground() -> bool:
    """Return True if this process is in the foreground group of a terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
