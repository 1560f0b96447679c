"""Apply changes in ccproxy.toml and the env files."""

from __future__ import annotations

import time

import click

from ccproxy.cli.command import Options, command, drain_option, timeout_option
from ccproxy.cli.render.outcome import finish
from ccproxy.cli.render.terminal import show
from ccproxy.cli.selection import open_checked
from ccproxy.supervisor.control.client import request
from ccproxy.text import printable

_ROUTING_CHANGED = "Updated routes and fallbacks; no proxy was restarted."
_UNCHANGED = "="
_COLORS = {"~": "yellow", "+": "green", "-": "red"}


@command("ccproxy reload", "ccproxy reload --dry-run")
@click.option("--dry-run", is_flag=True, help="Show what would change.")
@drain_option
@timeout_option
def reload(options: Options, *, dry_run: bool, drain: float, timeout: float) -> None:
    """
    Apply changes in ccproxy.toml and the env files to the running fleet.

    All files are checked first; if one has an error, nothing changes. Changed proxies (~) get new
    workers without any connection being refused, new ones (+) are started, and removed ones (-) are
    stopped.
    """
    fleet = open_checked(options).fleet
    changes = [one for one in request(fleet, "plan").plan if one.change != _UNCHANGED]
    for one in changes:
        show(f"  {click.style(one.change, fg=_COLORS.get(one.change))} {printable(one.label)}")
    if dry_run:
        if not changes:
            show("No proxy would be restarted.")
        return
    begin = time.monotonic()
    answer = request(fleet, "reload", timeout=timeout, drain=drain)
    if not changes:
        show(_ROUTING_CHANGED if answer.routing_changed else "Nothing has changed.")
    raise SystemExit(finish(answer, seconds=time.monotonic() - begin))
