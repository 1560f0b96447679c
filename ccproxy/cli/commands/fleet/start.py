"""Start the fleet or the given proxies."""

from __future__ import annotations

import time

import click

from ccproxy.cli.command import WAIT, Options, command
from ccproxy.cli.render.next_step import next_step
from ccproxy.cli.render.outcome import (
    UP,
    exit_code,
    failure,
    report,
    show_last_lines,
    warn_about_changes,
)
from ccproxy.cli.render.terminal import notify, short_path
from ccproxy.cli.selection import choose, complete_label, open_checked
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.supervisor.control.client import fleet_status, request
from ccproxy.text import counted


@command(
    "ccproxy start",
    "ccproxy start kimi 'glm*'      # only these; patterns work",
    "ccproxy start --timeout 60s",
)
@click.argument("labels", nargs=-1, metavar="[LABEL]...", shell_complete=complete_label)
@click.option("--wait/--no-wait", default=True, help="Wait until the proxies are ready.")
@click.option("--timeout", type=WAIT, default="15s", show_default=True, help="How long to wait.")
def start(options: Options, labels: tuple[str, ...], *, wait: bool, timeout: float) -> None:
    """
    Start the proxies named by LABEL, or all proxies.

    Every env file is checked first; if one has an error, nothing is started. Proxies that are
    already running are left alone. Exits with 1 if some did not start, with 5 if their ports are in
    use, or with 7 if they were not ready in time.
    """
    checked = open_checked(options)
    fleet = checked.fleet
    chosen = [entry.label for entry in choose(fleet, labels)] if labels else []
    providers = counted(len(fleet.entries), "provider")
    notify(options, f"Config   {short_path(fleet.file)} ({providers})")
    begin = time.monotonic()
    rows = request(fleet, "start", labels=chosen, timeout=timeout if wait else 0.0).proxies
    seconds = time.monotonic() - begin
    report(rows, seconds=seconds)
    if not wait:
        raise SystemExit(0 if all(row.state in (*UP, "starting") for row in rows) else 1)
    up = [row.label for row in rows if row.state in UP]
    summary = f"{len(up)} of {len(rows)} running after {seconds:.1f} s."
    notify(options, f"{summary}  {next_step(up, checked.workers)}".rstrip())
    show_last_lines(fleet, rows)
    raise SystemExit(exit_code(rows))


def bring_up(options: Options, fleet: Fleet, entry: Entry) -> None:
    """Start the proxy of *entry* if it is not running, or raise; warn if its files changed."""
    for row in fleet_status(fleet).proxies:
        if row.label == entry.label and row.state in UP:
            warn_about_changes(options, row)
            return
    notify(options, f"Starting {entry.label} …")
    for row in request(fleet, "start", labels=[entry.label]).proxies:
        if row.label == entry.label and row.state not in UP:
            raise failure(row)
