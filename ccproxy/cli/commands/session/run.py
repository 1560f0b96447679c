"""`ccproxy run`: one command on one provider."""

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
from typing import Any

import click

from ccproxy.cli.render.terminal import clean, near, say
from ccproxy.cli.selection import choose_one, complete_label, open_fleet
from ccproxy.cli.verb import Options, Verb
from ccproxy.errors import CcproxyError, UsageError

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class NoSuchCommand(click.ClickException):
    """The command is not there; a shell's exit code for it."""

    exit_code = 127


@click.command(
    cls=Verb,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    examples=[
        "ccproxy run kimi -- claude",
        'ccproxy run glm -- claude -p "What does this project do?"',
        "ccproxy run kimi -- bash      # a shell that talks to Kimi",
    ],
)
@click.argument("label", shell_complete=complete_label)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] [CMD]...")
@click.pass_obj
def run(options: Options, label: str, command: tuple[str, ...]) -> None:
    """
    Run CMD (default: claude) with everything that makes it talk to LABEL.

    The worker is started if it does not run. Claude Code also gets the settings by --settings, so
    that its own settings.json does not win. The exit code is that of CMD.
    """
    # Reads presets and conversion settings: too slow to load for --help and completion.
    from ccproxy.cli.commands.fleet.start import bring_up
    from ccproxy.cli.session.bypass_notice import is_off, warn_of_passing
    from ccproxy.cli.session.environment import session, window_note
    from ccproxy.config.answering import map_of
    from ccproxy.config.worker import load_worker

    words = [*(command[1:] if command[:1] == ("--",) else command)] or ["claude"]
    program = shutil.which(words[0])
    if program is None:
        raise NoSuchCommand(f"there is no command {words[0]}\n  fix: install it, or correct PATH")
    fleet = open_fleet(options)
    entry = choose_one(fleet, label)
    if fleet.home != Path.cwd():
        say(options, f"Config   {near(fleet.file)}")
    config = load_worker(entry.env_file, entry=entry)
    passes_by = is_off(fleet, entry)
    settings = session(config, os.environ, known=map_of(fleet), is_off=passes_by)
    if passes_by:
        warn_of_passing(options, config, os.environ)
    elif note := window_note(config, known=map_of(fleet)):
        say(options, f"note: {clean(note)}")
    bring_up(options, fleet, entry)
    environ = {name: value for name, value in os.environ.items() if name not in settings}
    environ |= {name: value for name, value in settings.items() if value is not None}
    if not is_claude(program, words[0]):
        sys.stdout.flush()
        os.execve(program, words, environ)  # noqa: S606 - the command is the user's own
    overriding = _overriding(options, settings)
    with _settings_file(overriding, words[1:]) as arguments:
        sys.exit(_wait_for([program, *arguments], environ))


def is_claude(program: str, typed: str) -> bool:
    """Tell whether a command is Claude Code, as it was typed or as what the link leads to."""
    names = {Path(typed).name, Path(program).name}
    return bool(names & {"claude", "claude.exe", "claude.cmd"})


# What Claude Code is told by --settings, because its own files win over the environment...


def _overriding(options: Options, settings: Mapping[str, str | None]) -> dict[str, str]:
    from ccproxy.cli.session.settings_files import find_shadows

    env = {name: value for name, value in settings.items() if value is not None}
    for shadow in find_shadows(settings, environ=os.environ, here=Path.cwd()):
        if shadow.managed:
            what = "and nothing overrides it\n  fix: ask the administrator to remove it"
            say(options, f"warning: {near(shadow.file)} sets {shadow.key}, {what}")
            continue
        env.setdefault(shadow.key, "")  # a settings file cannot remove a variable, only empty it
        what = "and would win over the shell; using --settings for this session."
        say(options, f"note: {near(shadow.file)} sets {shadow.key} {what}")
    return env


@contextmanager
def _settings_file(env: Mapping[str, str], arguments: Sequence[str]) -> Iterator[list[str]]:
    """
    Return Claude Code's *arguments* with a settings file of ours, which is removed at the end.

    A file of mode 0600, because arguments are there for every user of the machine to read. The
    user's own --settings go into it.
    """
    own, rest = _split_settings(arguments)
    merged = {**own, "env": {**_mapping(own.get("env")), **env}}
    with tempfile.NamedTemporaryFile("w", prefix="ccproxy-", suffix=".json") as file:
        json.dump(merged, file)
        file.flush()
        yield ["--settings", file.name, *rest]


def _split_settings(arguments: Sequence[str]) -> tuple[Mapping[str, Any], list[str]]:
    """Take the user's own --settings out of *arguments*."""
    rest = list(arguments)
    for number, word in enumerate(rest):
        if word == "--":
            break
        if word == "--settings" and number + 1 < len(rest):
            value = rest[number + 1]
            del rest[number : number + 2]
            return _read_settings(value), rest
        if word.startswith("--settings="):
            del rest[number]
            return _read_settings(word.removeprefix("--settings=")), rest
    return {}, rest


def _read_settings(value: str) -> Mapping[str, Any]:
    """Read what may follow --settings: JSON, or the path of a file that holds it."""
    text = value if value.lstrip().startswith("{") else Path(value).read_text(encoding="utf-8")
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise UsageError(f"what follows --settings is not JSON: {error}") from error
    return _mapping(settings)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


# ...and waiting for it, as if we were not there.


def _wait_for(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run *command* until it ends and return its exit code; signals to us are meant for it."""
    try:
        child = subprocess.Popen(command, env=environ)  # noqa: S603 - the user's own
    except OSError as error:
        raise CcproxyError(f"{command[0]} cannot be run: {error.strerror}") from error

    def forward(number: int, _frame: FrameType | None) -> None:
        # The keyboard's signals reach the whole foreground group: the child has them already.
        if number not in (signal.SIGINT, signal.SIGQUIT) or not _has_terminal():
            child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _has_terminal() -> bool:
    """Tell whether we are the foreground job of a terminal."""
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
