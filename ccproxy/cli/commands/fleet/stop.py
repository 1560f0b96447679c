"""Stop the fleet or the given proxies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from ccproxy.cli.command import Options, command, drain_option
from ccproxy.cli.render.terminal import notify, print_error
from ccproxy.cli.selection import complete_label, known_labels, open_readable_part
from ccproxy.cli.single_proxy import has_table
from ccproxy.config.fleet import Fleet
from ccproxy.errors import NotRunning, UsageError
from ccproxy.supervisor.control.client import fleet_status, request
from ccproxy.supervisor.control.protocol import ControlReply, Progress
from ccproxy.supervisor.control.status import Row
from ccproxy.text import counted, printable


@command(
    "ccproxy stop",
    "ccproxy stop kimi --drain 5m",
    "ccproxy stop --now",
)
@click.argument("labels", nargs=-1, metavar="[LABEL]...", shell_complete=complete_label)
@drain_option
@click.option("--now", is_flag=True, help="Abort running requests.")
def stop(options: Options, labels: tuple[str, ...], *, drain: float, now: bool) -> None:
    """
    Stop the proxies named by LABEL, or all of them and the supervisor.

    Running requests are given time to finish; requests that are aborted end with an error event.
    """
    # A mistake in the table must not prevent running proxies from being stopped.
    fleet, _ = open_readable_part(options)
    status = fleet_status(fleet)
    chosen = known_labels(fleet, [row.label for row in status.proxies], labels)
    running = [row for row in status.proxies if row.pids and row.label in chosen]
    if running and not has_table(fleet):
        pids = " ".join(str(pid) for row in running for pid in row.pids)
        text = "proxies started with `ccproxy up --port` have no supervisor to stop them"
        raise UsageError(f"{text}\n  fix: kill {pids}")
    has_target = running or (not labels and status.supervisor is not None)
    answer = None
    if has_target:
        seconds = 0.0 if now else drain
        answer = _stop(options, fleet, chosen if labels else [], drain=seconds)
    if answer is None:
        notify(options, "Nothing to stop.")
        return
    raise SystemExit(_report(options, running, answer))


def _stop(
    options: Options, fleet: Fleet, labels: Sequence[str], *, drain: float
) -> ControlReply | None:
    """Stop the workers; Ctrl-C cuts the drain short. Return None if nothing is running."""
    try:
        try:
            progress = _reporter(options)
            return request(fleet, "stop", labels=labels, drain=drain, on_progress=progress)
        except KeyboardInterrupt:
            return request(fleet, "stop", labels=labels, drain=0.0)
    except NotRunning:
        return None


def _reporter(options: Options) -> Callable[[Progress], None]:
    """Return a function that reports how many requests a drain is waiting for."""
    last = ""

    def report(progress: Progress) -> None:
        nonlocal last
        count = progress.in_flight
        text = f"Waiting for {counted(count, 'request')} to finish (Ctrl-C aborts them) …"
        if count and text != last:
            notify(options, text)
            last = text

    return report


def _report(options: Options, running: Sequence[Row], answer: ControlReply) -> int:
    remaining = {row.label: row for row in answer.proxies if row.pids}
    for row in remaining.values():
        reason = printable(row.reason or row.state)
        print_error(
            f"Error: {row.label} is still running: {reason}\n  fix: ccproxy stop {row.label} --now"
        )
    stopped = [row.label for row in running if row.label not in remaining]
    if stopped:
        notify(options, f"Stopped {counted(len(stopped), 'worker')}: {', '.join(stopped)}")
    elif not remaining:
        notify(options, "Stopped the supervisor; no worker was running.")
    return 0 if answer.ok and not remaining else 1
