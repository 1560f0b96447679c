"""Start the fleet or the given proxies."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from ccproxy.cli.command import DURATION, Command, Options
from ccproxy.cli.render.outcome import UP, exit_code, failure, report, show_last_words
from ccproxy.cli.render.terminal import notify, short_path
from ccproxy.cli.selection import choose, complete_label
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.config.locations import find_config
from ccproxy.supervisor.control.client import fleet_status, request
from ccproxy.supervisor.control.row import Row
from ccproxy.text import counted


@click.command(
    cls=Command,
    examples=[
        "ccproxy start",
        "ccproxy start kimi 'glm*'      # only these; patterns work",
        "ccproxy start --timeout 60s",
    ],
)
@click.argument("labels", nargs=-1, metavar="[LABEL]...", shell_complete=complete_label)
@click.option("--wait/--no-wait", default=True, help="Return when all are ready, or at once.")
@click.option(
    "--timeout", type=DURATION, default="15s", show_default=True, help="How long to wait for them."
)
@click.pass_obj
def start(options: Options, labels: tuple[str, ...], *, wait: bool, timeout: float) -> None:
    """
    Start the workers named by LABEL, all if none is named.

    Every env file is checked first: with a mistake in one of them, nothing is started. A worker
    that runs already is left alone. Exits with 1 if some did not come up, with 5 if their ports are
    taken, with 7 if they were not ready in time.
    """
    # Reads presets and conversion settings: too slow to load for --help and completion.
    from ccproxy.config.check import load_all

    fleet = load_all(find_config(options.config)).fleet
    entries = choose(fleet, labels)
    notify(
        options, f"Config   {short_path(fleet.file)} ({counted(len(fleet.entries), 'provider')})"
    )
    begun = time.monotonic()
    answer = request(
        fleet,
        "start",
        labels=[entry.label for entry in entries] if labels else (),
        timeout=timeout if wait else 0.0,
    )
    seconds = time.monotonic() - begun
    rows = answer.proxies
    report(rows, seconds=seconds)
    up = [row for row in rows if row.state in UP]
    if not wait:
        raise SystemExit(0 if all(row.state in (*UP, "starting") for row in rows) else 1)
    notify(options, f"{len(up)} of {len(rows)} running after {seconds:.1f} s.{_next(up)}")
    code = exit_code(rows)
    show_last_words(fleet, rows)
    raise SystemExit(code)


def bring_up(options: Options, fleet: Fleet, entry: Entry) -> None:
    """
    Start the worker of *entry* if it does not run.

    Raises:
        CcproxyError: If it does not come up.

    """

    def found() -> bool:
        rows = fleet_status(fleet).proxies
        return any(row.label == entry.label and row.state in UP for row in rows)

    if found():
        return
    notify(options, f"Starting {entry.label} …")
    rows = request(fleet, "start", labels=[entry.label]).proxies
    for row in rows:
        if row.label == entry.label and row.state not in UP:
            raise failure(row)


def _next(up: Sequence[Row]) -> str:
    return f"  Next:  ccproxy run {up[0].label} -- claude" if up else ""
