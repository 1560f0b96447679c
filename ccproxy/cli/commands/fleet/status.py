"""Show the state of every proxy (aliases: ps, ls)."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.render.fleet_table import status_text
from ccproxy.cli.render.terminal import notify, print_error, show, show_json
from ccproxy.cli.selection import complete_label, known_labels, open_readable_part
from ccproxy.cli.single_proxy import has_table
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError
from ccproxy.supervisor.control.client import FleetStatus, fleet_status
from ccproxy.supervisor.control.status import Row

if TYPE_CHECKING:
    from ccproxy.store.usage_totals import Totals

WATCH_SECONDS = 2.0
NOT_RUNNING = 3
_CLEAR_SCREEN = "\x1b[H\x1b[J"


@command(
    "ccproxy status",
    "ccproxy status kimi -v",
    "ccproxy status --json | jq -r '.proxies[] | select(.state != \"ready\").label'",
    "ccproxy status --watch",
)
@click.argument("labels", nargs=-1, metavar="[LABEL]...", shell_complete=complete_label)
@click.option("--json", "as_json", is_flag=True, help="Print JSON (schema 1).")
@click.option("--watch", is_flag=True, help="Refresh every two seconds.")
def status(options: Options, labels: tuple[str, ...], *, as_json: bool, watch: bool) -> None:
    """
    Show the state, address, keys and model of every proxy. Starts nothing.

    The states are ready, starting, degraded, crash-loop, stopping, stopped, failed and foreign
    (another program uses the port). Exits with 0 if all are ready, 3 if nothing is running, 78 if
    the table is invalid, or 1 otherwise.
    """
    fleet, mistakes = open_readable_part(options)
    if watch and mistakes is not None:
        print_error(f"Error: the table is invalid:\n{mistakes}")
    code = _print_status(options, fleet, labels, as_json=as_json, clear=watch)
    while watch:
        time.sleep(WATCH_SECONDS)
        code = _print_status(options, fleet, labels, as_json=as_json, clear=True)
    if mistakes is not None:
        raise mistakes
    raise SystemExit(code)


def _print_status(
    options: Options, fleet: Fleet, labels: Sequence[str], *, as_json: bool, clear: bool
) -> int:
    result = fleet_status(fleet)
    if not has_table(fleet):  # these proxies need no supervisor
        result = replace(result, note="")
    chosen = known_labels(fleet, [row.label for row in result.proxies], labels)
    rows = [row for row in result.proxies if row.label in chosen]
    if as_json:
        totals = _today(fleet)
        proxies = [{**row.as_json(), **_usage_fields(totals, row.label)} for row in rows]
        show_json({**result.as_json(), "proxies": proxies})
    else:
        text = status_text(
            result,
            fleet,
            rows=rows,
            changed=[row.label for row in rows if row.changed],
            verbose=options.verbose,
        )
        show(_CLEAR_SCREEN + text if clear and sys.stdout.isatty() else text)
    code = exit_code(result, rows)
    if code == NOT_RUNNING and not as_json:
        notify(options, "Nothing is running.  Next:  ccproxy start")
    return code


def _today(fleet: Fleet) -> Mapping[str, Totals] | None:
    """Return today's statistics by label; None if they cannot be read."""
    from ccproxy.store.usage_totals import today  # imports SQLite

    try:
        return today(fleet.state)
    except CcproxyError:  # the fleet's state is shown without statistics
        return None


def _usage_fields(totals: Mapping[str, Totals] | None, label: str) -> dict[str, object]:
    """Return the `status --json` fields that come from the statistics; unknown values are None."""
    if totals is None:
        return {"requests_today": None, "errors_today": None, "cost_today": None}
    one = totals.get(label)
    if one is None:
        return {"requests_today": 0, "errors_today": 0, "cost_today": 0.0}
    cost = None if one.known_cost is None else round(one.known_cost, 6)
    return {"requests_today": one.requests, "errors_today": one.errors, "cost_today": cost}


def exit_code(result: FleetStatus, rows: Sequence[Row]) -> int:
    """Return 0 if all proxies are ready, 3 if none is running, else 1."""
    if all(row.state == "ready" for row in rows):
        return 1 if result.note else 0
    if all(row.state in ("stopped", "foreign") and not row.pids for row in rows):
        return NOT_RUNNING
    return 1
