"""Install ccproxy's status line in Claude Code, or print it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from ccproxy.cli.command import Command, Options
from ccproxy.cli.render.terminal import show, tilde
from ccproxy.cli.selection import open_fleet
from ccproxy.errors import UsageError
from ccproxy.files import read_json, write_atomically


@click.command(
    cls=Command,
    examples=[
        "ccproxy statusline --install     # for sessions that `ccproxy run` does not start",
        "ccproxy statusline --uninstall",
    ],
)
@click.option("--install", is_flag=True, help="Add it to Claude Code's settings.json; asks first.")
@click.option("--uninstall", is_flag=True, help="Put the setting back that --install replaced.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def statusline(options: Options, *, install: bool, uninstall: bool, yes: bool) -> None:
    """
    Print the status line of a Claude Code session, whose JSON is read from stdin.

    It names the model that really answers and why, what a request waits for, the context in percent
    of the model's window, cost, keys and cache hits. Sessions of `ccproxy run` have it already. A
    status line of your own is kept: its lines are shown first.
    """
    from ccproxy.cli.session.claude_settings import (
        read_user_settings,
        user_settings_file,
        write_user_settings,
    )
    from ccproxy.cli.session.status_setting import (
        is_ours,
        status_command,
        status_program,
        status_setting,
    )

    fleet = open_fleet(options)
    if not install and not uninstall:
        from ccproxy.statusline.__main__ import main

        main(["--home", str(fleet.home)])
        return
    if install and uninstall:
        raise UsageError("--install and --uninstall contradict each other\n  fix: use one of them")
    settings = user_settings_file(os.environ)
    document = read_user_settings(settings)
    line = document.pop("statusLine", None)
    if is_ours(line) is install:
        done = "already installed" if install else "not installed"
        show(f"The status line is {done} in {tilde(settings)}.")
        return
    if not yes and not sys.stdin.isatty():
        fix = f"ccproxy statusline {'--install' if install else '--uninstall'} --yes"
        raise UsageError(f"stdin is not a terminal, so statusline cannot ask\n  fix: {fix}")
    if not yes:
        click.confirm(f"Change statusLine in {tilde(settings)}?", abort=True, err=True)
    replaced = ReplacedLine(fleet.state / "claude", settings)
    if install:
        replaced.keep(line)
        program = status_program(sys.executable, fleet.home)
        document["statusLine"] = status_setting(program, status_command(line))
    elif (before := replaced.take()) is not None:
        document["statusLine"] = before
    write_user_settings(settings, document)
    undo = "ccproxy statusline --uninstall" if install else "ccproxy statusline --install"
    show(f"Changed statusLine in {tilde(settings)}.  Undo:  {undo}")


class ReplacedLine:
    """The `statusLine` of a settings file that --install has replaced."""

    def __init__(self, folder: Path, settings: Path) -> None:
        self._path = folder / "statusline.saved"
        self._name = str(settings)

    def keep(self, line: object) -> None:
        """Save *line*; None if there was none."""
        write_atomically(self._path, json.dumps({**self._read(), self._name: line}) + "\n")

    def take(self) -> object:
        """Return the saved line; None if there is none."""
        return self._read().get(self._name)

    def _read(self) -> dict[str, Any]:
        try:
            lines = read_json(self._path)
        except (OSError, ValueError):
            return {}
        return lines if isinstance(lines, dict) else {}
