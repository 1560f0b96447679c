"""Remove services, cron lines and, if asked, saved state."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.confirmation import confirm
from ccproxy.cli.render.terminal import notify, short_path, show
from ccproxy.cli.selection import open_readable_part
from ccproxy.config.fleet import Fleet, local_table
from ccproxy.errors import CcproxyError, NotRunning

if TYPE_CHECKING:
    from ccproxy.supervisor.control.protocol import SupervisorInfo


@command(
    "ccproxy uninstall",
    "ccproxy uninstall --dry-run",
    "ccproxy uninstall --yes --keep-state",
)
@click.option("--name", help="Among services, remove only the one with this name.")
@click.option("--keep-state", is_flag=True, help="Keep usage, history, logs and key states.")
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation; also delete the state.")
def uninstall(
    options: Options, *, name: str | None, keep_state: bool, dry_run: bool, yes: bool
) -> None:
    """
    Stop the fleet and remove what ccproxy has installed for it.

    Lists everything first, then asks twice: first about services, lines of your crontab and the
    status line in Claude Code's settings, then about usage, history and logs. The table and the env
    files with your keys are never deleted. To remove the program itself, use the tool that
    installed it.
    """
    from ccproxy.cli.service.leftovers import check_table, delete_state, state_of, traces_of
    from ccproxy.supervisor.control.client import fleet_status

    fleet, _ = open_readable_part(options)
    check_table(fleet)
    status = fleet_status(fleet)
    is_running = status.supervisor is not None or any(row.pids for row in status.proxies)
    traces = list(traces_of(fleet, name))
    state = [] if keep_state else state_of(fleet)
    listed = [f"stop the fleet of {short_path(fleet.file)}"] if is_running else []
    listed += [f"remove {trace.text}" for trace in traces]
    for line in [*listed, *(f"delete {short_path(path)}" for path in state)]:
        show(f"  {line}")
    if not dry_run:
        if listed:
            fix = "ccproxy uninstall --yes, or ccproxy uninstall --yes --keep-state"
            confirm("Stop and remove this?", yes=yes, fix=fix)
        if is_running:
            _stop(fleet, status.supervisor)
        for trace in traces:
            if note := trace.remove():
                notify(options, f"note: {note}")
        if state and _wants_state_deleted(yes=yes):
            delete_state(fleet)
    _report(fleet, is_clean=not (listed or state), dry_run=dry_run)


def _wants_state_deleted(*, yes: bool) -> bool:
    question = "Delete usage, history, logs and key states as well?"
    return yes or (sys.stdin.isatty() and click.confirm(question, err=True))


def _stop(fleet: Fleet, supervisor: SupervisorInfo | None) -> None:
    """Stop the fleet, and wait for the supervisor, which logs its exit."""
    from ccproxy.supervisor.control.client import request, wait_until_gone

    try:
        answer = request(fleet, "stop", labels=[], drain=0.0)
    except NotRunning:
        return
    if not answer.ok or any(row.pids for row in answer.proxies):
        text = "the fleet did not stop, so nothing was removed"
        raise CcproxyError(
            f"{text}\n  fix: run ccproxy stop --now, then run ccproxy uninstall again"
        )
    if supervisor is not None:
        wait_until_gone(supervisor)


def _report(fleet: Fleet, *, is_clean: bool, dry_run: bool) -> None:
    if is_clean:
        show("Nothing is installed, and there is no state.")
    elif dry_run:
        show("Nothing was removed.")
        return
    tables = short_path(fleet.file)
    if (local := local_table(fleet.file)).exists():
        tables += f", {short_path(local)}"
    show(f"Kept: {tables} and the env files, which contain your keys.")
    show("Next:  pipx uninstall ccproxy-fleet (or use pip or uv tool, or delete the clone)")
