"""Watch entries, keys and requests live."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial

import click

from ccproxy.cli.command import FiniteRange, Options, command
from ccproxy.cli.render.terminal import notify, show
from ccproxy.cli.selection import complete_label, known_labels, open_fleet
from ccproxy.cli.single_proxy import table_arguments
from ccproxy.config.fleet import Fleet

REFRESH_SECONDS = 1.0
PLAIN_SECONDS = 5.0
COMMAND_SECONDS = 120.0
"""The time limit for a command started by a keystroke; long because restarts drain requests."""


@command(
    "ccproxy top",
    "ccproxy top kimi",
    "ccproxy top --plain",
    "ccproxy top --once",
)
@click.argument("labels", nargs=-1, metavar="[LABEL]...", shell_complete=complete_label)
@click.option(
    "--plain",
    is_flag=True,
    help="Print sentences for screen readers: the full state once, then only changes.",
)
@click.option("--once", is_flag=True, help="Print the view once and exit.")
@click.option(
    "--interval",
    type=FiniteRange(0.5, 3600),
    default=None,
    help="Seconds between updates.  [default: 1, or 5 with --plain]",
)
def top(
    options: Options,
    labels: tuple[str, ...],
    *,
    plain: bool,
    once: bool,
    interval: float | None,
) -> None:
    """
    Watch the entries, with their rates, keys and costs, and the running requests.

    Keys: arrows and Tab move, Enter shows the timeline of a request, r restarts an entry, d stops
    it (running requests get 30 s), s switches its models, k enables or disables keys, l shows logs,
    f shows failed requests only, q quits. Needs Textual (pip install 'ccproxy-fleet[top]').
    Without it, or if the output is not a terminal, the view is only printed and is not interactive.
    """
    from ccproxy.cli.top import plain_view
    from ccproxy.cli.top.fleet_view import FleetView

    fleet = open_fleet(options)
    interval = interval or (PLAIN_SECONDS if plain else REFRESH_SECONDS)
    with closing(FleetView(fleet, known_labels(fleet, [], labels) if labels else None)) as view:
        view.start()
        if once:
            show(plain_view.screen(view.snapshot()))
        elif plain:
            plain_view.speak(view, interval=interval)
        elif _is_terminal() and _has_textual():
            from ccproxy.cli.fleet_models import entry_url
            from ccproxy.cli.top.dashboard import Dashboard

            Dashboard(
                view,
                run=partial(run_command, fleet),
                url_of=partial(entry_url, fleet),
                interval=interval,
            ).run()
        else:
            if not _has_textual():
                notify(options, "For the interactive view: pip install 'ccproxy-fleet[top]'")
            plain_view.refresh(view, interval=interval)


def run_command(fleet: Fleet, words: Sequence[str]) -> str:
    """Run a ccproxy command on the same table and return its output."""
    # `-P` keeps the current folder out of Python's search path.
    program = [sys.executable, "-P", "-m", "ccproxy"]
    command = [*program, *table_arguments(fleet), "--no-color", *words]
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            command,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=COMMAND_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"ccproxy {' '.join(words)} is still running after {COMMAND_SECONDS:.0f} s"
    return (done.stdout + done.stderr).strip()


def _is_terminal() -> bool:
    """Return True if stdout and stderr are both terminals: Textual writes to stderr."""
    return sys.stdout.isatty() and sys.stderr.isatty()


def _has_textual() -> bool:
    try:
        import textual  # noqa: F401 - only whether it is there
    except ImportError:
        return False
    return True
