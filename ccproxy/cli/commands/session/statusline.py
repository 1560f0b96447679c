"""Install Claude Code's status line, or print it."""

from __future__ import annotations

import os
import sys

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.confirmation import confirm
from ccproxy.cli.render.terminal import show, tilde
from ccproxy.cli.selection import open_fleet
from ccproxy.errors import UsageError


@command(
    "ccproxy statusline --install     # for sessions that `ccproxy run` does not start",
    "ccproxy statusline --uninstall",
)
@click.option(
    "--install",
    is_flag=True,
    help="Add the status line to Claude Code's settings.json; asks first.",
)
@click.option("--uninstall", is_flag=True, help="Restore the setting that --install replaced.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def statusline(options: Options, *, install: bool, uninstall: bool, yes: bool) -> None:
    """
    Print the status line of a Claude Code session. The session's JSON is read from stdin.

    The line shows which model answers and why, what a request is waiting for, how full the model's
    context window is, cost, keys and cache hits. Sessions started with `ccproxy run` show it
    without being installed. Your own status line is kept and shown first.
    """
    from ccproxy.cli.session.claude_settings import (
        read_user_settings,
        user_settings_file,
        write_user_settings,
    )
    from ccproxy.cli.session.status_line_backup import keep_status_line, remove_status_line
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
        raise UsageError("--install and --uninstall cannot be combined\n  fix: use one of them")
    settings = user_settings_file(os.environ)
    line = read_user_settings(settings).get("statusLine")
    if is_ours(line) is install:
        done = "already installed" if install else "not installed"
        show(f"The status line is {done} in {tilde(settings)}.")
        return
    fix = f"ccproxy statusline {'--install' if install else '--uninstall'} --yes"
    confirm(f"Change statusLine in {tilde(settings)}?", yes=yes, fix=fix)
    if install:
        document = read_user_settings(settings)  # the file may have changed in the meantime
        line = document.get("statusLine")
        keep_status_line(fleet.state, settings, line)
        program = status_program(sys.executable, fleet.home)
        document["statusLine"] = status_setting(program, status_command(line))
        write_user_settings(settings, document)
    else:
        remove_status_line(fleet.state, settings)
    undo = "ccproxy statusline --uninstall" if install else "ccproxy statusline --install"
    show(f"Changed statusLine in {tilde(settings)}.  To undo:  {undo}")
