"""Run a command, such as claude, on one of the providers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.render.terminal import notify, print_error, short_path
from ccproxy.cli.selection import choose_one, complete_label, open_fleet, pick_entry
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.errors import CcproxyError, UsageError
from ccproxy.text import printable

if TYPE_CHECKING:
    from ccproxy.cli.session.preparation import SessionPlan

_PACKAGES = {"claude": "@anthropic-ai/claude-code", "codex": "@openai/codex"}
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class CommandNotFound(click.ClickException):
    """The command does not exist; the exit code is the one that shells use."""

    exit_code = 127


@command(
    "ccproxy run kimi -- claude",
    'ccproxy run glm -- claude -p "What does this project do?"',
    "ccproxy run kimi -- codex     # OpenAI's Codex CLI on Kimi",
    "ccproxy run kimi -- bash      # a shell that uses Kimi",
    "ccproxy run                   # choose the provider from a list",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("label", required=False, shell_complete=complete_label)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] [CMD]...")
@click.option(
    "--pane", is_flag=True, help="Add /ccproxy and a line above the prompt to Claude Code."
)
def run(options: Options, label: str | None, command: tuple[str, ...], *, pane: bool) -> None:
    """
    Run CMD (default: claude) with the settings that make it use LABEL.

    The worker is started if it is not running. Claude Code also gets the settings through
    --settings, so that its own settings.json does not override them; Codex CLI gets them as -c
    overrides. Without LABEL on a terminal, a list of entries is shown to choose from. The exit code
    is that of CMD.
    """
    fleet = open_fleet(options)
    entry, words = _entry_and_words(fleet, label, command)
    program = _find_program(words, entry)
    from ccproxy.cli.commands.fleet.start import bring_up
    from ccproxy.cli.session.preparation import plan_session

    if fleet.home != Path.cwd():
        notify(options, f"Config   {short_path(fleet.file)}")
    name = known_program(program, words[0])
    if name == "claude":
        sys.exit(_run_claude(options, fleet, entry, [program, *words[1:]], pane=pane))
    if pane:
        raise UsageError(f"--pane is for Claude Code, not for {words[0]}\n  fix: omit --pane")
    plan = plan_session(fleet, entry)
    environ = plan.environ()
    if name == "codex":
        from ccproxy.cli.session.codex_session import codex_environment, codex_overrides

        plan.warn_about_proxy(options)
        model = plan.config.models.big
        overrides = codex_overrides(plan.session, plan.limits, label=entry.label, model=model)
        words = [words[0], *overrides, *words[1:]]
        environ = codex_environment(plan.session, environ)
    else:
        plan.warn(options, is_claude=False)
    bring_up(options, fleet, entry)
    sys.stdout.flush()
    os.execve(program, words, environ)  # noqa: S606 - the command is the user's own


def _entry_and_words(
    fleet: Fleet, label: str | None, command: Sequence[str]
) -> tuple[Entry, list[str]]:
    """Return the entry *label* and the command; without a label, let the user choose an entry."""
    words = [*(command[1:] if command[:1] == ("--",) else command)]
    fix = "ccproxy run LABEL -- claude"
    if label is None:
        return pick_entry(fleet, fix=fix), ["claude"]
    try:
        return choose_one(fleet, label), words or ["claude"]
    except UsageError:
        if shutil.which(label) is None:
            raise
        # The label was omitted: `ccproxy run claude`, or `ccproxy run -- claude`.
        words = [label, *words]
        return pick_entry(fleet, fix=f"ccproxy run LABEL -- {' '.join(words)}"), words


def _find_program(words: Sequence[str], entry: Entry) -> str:
    program = shutil.which(words[0])
    if program is not None:
        return program
    fix = "install it, or fix your PATH"
    if words[0].startswith("-"):  # options for claude, without the name claude itself
        fix = f"ccproxy run {entry.label} -- claude {' '.join(words)}"
    elif package := _PACKAGES.get(words[0]):
        fix = f"npm install -g {package}, or fix your PATH"
    raise CommandNotFound(f"command not found: {words[0]}\n  fix: {fix}")


def known_program(program: str, typed: str) -> str:
    """Return `claude` or `codex` if the typed name or resolved path is that program's, else ""."""
    names = {Path(path).name.removesuffix(".exe").removesuffix(".cmd") for path in (typed, program)}
    return next((name for name in _PACKAGES if name in names), "")


def _run_claude(
    options: Options, fleet: Fleet, entry: Entry, command: Sequence[str], *, pane: bool
) -> int:
    """Run Claude Code and return its exit code; save the model chosen in it for *entry*."""
    from ccproxy.cli.commands.fleet.start import bring_up
    from ccproxy.cli.render.outcome import UP
    from ccproxy.cli.session.claude_environment import MODEL
    from ccproxy.cli.session.claude_settings import split_settings_argument, user_settings_file
    from ccproxy.cli.session.preparation import plan_claude_session
    from ccproxy.cli.session.saved_model import SavedModel
    from ccproxy.supervisor.control.client import fleet_status

    settings = user_settings_file(os.environ)
    saved = SavedModel(fleet.state / "claude", settings, fleet.labels)
    if name := saved.clean():
        text = f'an earlier session saved the model "{printable(name)}" in {short_path(settings)}'
        notify(options, f"note: {text}; your own model was restored")
    program, *words = command
    user_settings, arguments = split_settings_argument(words)
    bring_up(options, fleet, entry)
    running = [row.label for row in fleet_status(fleet).proxies if row.state in UP]
    choice = saved.choice(entry.label)
    plan = plan_claude_session(fleet, entry, choice=choice, running=running)
    plan.warn(options, is_claude=True)
    if (model := plan.session[MODEL]) and not model.startswith(f"{entry.label}:"):
        notify(options, f"note: this session starts with {model}, your last choice in /model")
    if pane:
        plan = _with_pane(fleet, plan)
    _note_overridden(options, plan)
    path = _write_settings(fleet, plan, user_settings)
    arguments = ["--settings", str(path), *arguments]
    code = 1
    try:
        with saved.session(entry.label):
            code = _run_child([program, *arguments], plan.environ())
    except OSError as error:
        text = f"the model in {short_path(settings)} could not be restored: {error.strerror}"
        print_error(f"{text}\n  fix: remove the model there if its name begins with a label")
    return code


def _with_pane(fleet: Fleet, plan: SessionPlan) -> SessionPlan:
    """Return *plan* with the variables that load ccproxy's mod into Claude Code."""
    from ccproxy.cli.session.claude_settings import effective_environment
    from ccproxy.cli.session.pane_environment import copy_pane, pane_environment
    from ccproxy.cli.session.status_setting import status_program
    from ccproxy.cli.single_proxy import table_arguments

    variables = pane_environment(
        effective_environment(os.environ, plan.files),
        copy_pane(fleet.state / "claude"),
        python=sys.executable,
        table=table_arguments(fleet),
        status_line=status_program(sys.executable, fleet.home, plan.entry.label),
    )
    return replace(plan, session={**plan.session, **variables})


def _note_overridden(options: Options, plan: SessionPlan) -> None:
    """Print a note for each variable of Claude Code's settings that the session overrides."""
    from ccproxy.cli.session.claude_settings import find_conflicts

    for file, variable in find_conflicts(plan.session, plan.files):
        text = f"{short_path(file.path)} sets {variable}"
        if file.is_managed:
            fix = "ask the administrator to remove it"
            notify(options, f"warning: {text}, which nothing can override\n  fix: {fix}")
        else:
            notify(options, f"note: {text}; this session overrides it with --settings")


def _write_settings(fleet: Fleet, plan: SessionPlan, user_settings: Mapping[str, Any]) -> Path:
    """
    Write the session's --settings, merged with the user's, to a file and return its path.

    The file has mode 0600; a process's arguments can be read by every user of the machine.
    """
    from ccproxy.cli.session.claude_settings import session_settings, write_session_settings
    from ccproxy.cli.session.status_setting import status_program

    return write_session_settings(
        fleet.state / "claude",
        plan.entry.label,
        session_settings(
            plan.session,
            plan.limits,
            plan.files,
            user_settings,
            picker=plan.picker,
            status_line=status_program(sys.executable, fleet.home, plan.entry.label),
        ),
        json.dumps(user_settings, sort_keys=True) if user_settings else "",
    )


# The child process.


def _run_child(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run *command*, forward signals to it, and return its exit code."""
    try:
        child = subprocess.Popen(command, env=environ)  # noqa: S603 - the user's own
    except OSError as error:
        raise CcproxyError(f"cannot run {command[0]}: {error.strerror}") from error

    def forward(number: int, _frame: FrameType | None) -> None:
        # The terminal sends keyboard signals to the whole process group, including the child.
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
