"""Stop the fleet or the given proxies."""

from __future__ import annotations

import click

from ccproxy.cli.command import DURATION, Command, Options
from ccproxy.cli.render.terminal import notify, print_error
from ccproxy.cli.selection import complete_label, known_labels, open_what_can_be_read
from ccproxy.errors import NotRunning
from ccproxy.supervisor.control.client import fleet_status, request
from ccproxy.text import counted, printable


@click.command(
    cls=Command,
    examples=["ccproxy stop", "ccproxy stop kimi --drain 5m", "ccproxy stop --now"],
)
@click.argument("labels", nargs=-1, metavar="[LABEL]...", shell_complete=complete_label)
@click.option(
    "--drain",
    type=DURATION,
    default="30s",
    show_default=True,
    help="How long running requests may take to finish.",
)
@click.option("--now", is_flag=True, help="Cut running requests off.")
@click.pass_obj
def stop(options: Options, labels: tuple[str, ...], *, drain: float, now: bool) -> None:
    """
    Stop the workers named by LABEL, all and the supervisor if none is named.

    Running requests get time to finish; those that are cut off are told so.
    """
    fleet = open_what_can_be_read(options)
    status = fleet_status(fleet)
    chosen = known_labels(fleet, [row.label for row in status.proxies], labels)
    before = [row for row in status.proxies if row.pids and (not labels or row.label in chosen)]
    if not before and (labels or status.supervisor is None):
        notify(options, "Nothing to stop.")
        return
    try:
        answer = request(
            fleet, "stop", labels=chosen if labels else (), drain=0.0 if now else drain
        )
    except NotRunning:
        notify(options, "Nothing to stop.")
        return
    left = [row for row in answer.proxies if row.pids]
    for row in left:
        print_error(f"Error: {row.label} is still there: {printable(row.reason or row.state)}")
    stopped = [row.label for row in before if row.label not in {one.label for one in left}]
    if stopped:
        notify(options, f"Stopped {counted(len(stopped), 'worker')}: {', '.join(stopped)}")
    elif not left:
        notify(options, "Stopped the supervisor; no worker ran.")
    raise SystemExit(0 if answer.ok and not left else 1)
