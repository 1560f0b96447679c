"""Show the state of every proxy (also: ps, ls)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

import click

from ccproxy.cli.command import Command, Options
from ccproxy.cli.render.fleet_table import status_text
from ccproxy.cli.render.terminal import notify, print_error, show
from ccproxy.cli.selection import complete_label, known_labels, open_to_look
from ccproxy.config.fleet import Fleet
from ccproxy.supervisor.control.client import FleetStatus, fleet_status
from ccproxy.supervisor.control.row import Row

EVERY = 2.0
_TO_THE_TOP = "\x1b[H\x1b[J"


@click.command(
    cls=Command,
    examples=[
        "ccproxy status",
        "ccproxy status kimi -v",
        "ccproxy status --json | jq -r '.proxies[] | select(.state != \"ready\").label'",
        "ccproxy status --watch",
    ],
)
@click.argument("labels", nargs=-1, metavar="[LABEL]...", shell_complete=complete_label)
@click.option("--json", "as_json", is_flag=True, help="As JSON (schema 1).")
@click.option("--watch", is_flag=True, help="Look again every two seconds.")
@click.pass_obj
def status(options: Options, labels: tuple[str, ...], *, as_json: bool, watch: bool) -> None:
    """
    Show who runs where, with which keys; it only looks and starts nothing.

    States are ready, starting, degraded, crash-loop, stopping, stopped, failed and foreign (another
    program has the port). Exits with 0 if all are ready, 3 if nothing runs, 78 if the table has
    mistakes, else 1.
    """
    fleet, mistakes = open_to_look(options)
    if watch and mistakes is not None:
        print_error(f"Error: the table has mistakes:\n{mistakes}")
    code = _look(options, fleet, labels, as_json=as_json, clear=watch)
    while watch:
        time.sleep(EVERY)
        code = _look(options, fleet, labels, as_json=as_json, clear=True)
    if mistakes is not None:
        raise mistakes
    raise SystemExit(code)


def _look(
    options: Options, fleet: Fleet, labels: Sequence[str], *, as_json: bool, clear: bool
) -> int:
    found = fleet_status(fleet)
    chosen = known_labels(fleet, [row.label for row in found.proxies], labels)
    rows = [row for row in found.proxies if row.label in chosen]
    if as_json:
        answer = found.as_json()
        answer["proxies"] = [row.as_json() for row in rows]
        show(json.dumps(answer, indent=2))
    else:
        top = _TO_THE_TOP if clear and sys.stdout.isatty() else ""
        show(top + status_text(found, fleet, rows=rows, verbose=options.verbose))
    code = exit_code(found, rows)
    if code == 3 and not as_json:
        notify(options, "Nothing is running.  Next:  ccproxy start")
    return code


def exit_code(found: FleetStatus, rows: Sequence[Row]) -> int:
    """Return 0 if all is well, 3 if nothing runs, else 1."""
    if all(row.state == "ready" for row in rows):
        return 1 if found.note else 0
    if all(row.state in ("stopped", "foreign") and not row.pids for row in rows):
        return 3
    return 1
