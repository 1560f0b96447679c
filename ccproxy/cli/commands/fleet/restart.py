"""Restart proxies without closing their ports."""

from __future__ import annotations

import time

import click

from ccproxy.cli.command import DURATION, Command, Options
from ccproxy.cli.render.outcome import exit_code, report
from ccproxy.cli.render.terminal import print_error
from ccproxy.cli.selection import choose, complete_label
from ccproxy.config.locations import find_config
from ccproxy.errors import NotRunning
from ccproxy.supervisor.control.client import request
from ccproxy.text import printable


@click.command(cls=Command, examples=["ccproxy restart", "ccproxy restart kimi --drain 2m"])
@click.argument("labels", nargs=-1, metavar="[LABEL]...", shell_complete=complete_label)
@click.option(
    "--drain",
    type=DURATION,
    default="30s",
    show_default=True,
    help="How long requests on the old worker may take to finish.",
)
@click.option(
    "--timeout",
    type=DURATION,
    default="15s",
    show_default=True,
    help="How long to wait for the new.",
)
@click.pass_obj
def restart(options: Options, labels: tuple[str, ...], *, drain: float, timeout: float) -> None:
    """
    Replace the workers named by LABEL, all if none is named.

    The ports stay open, and an old worker goes only when the new one is ready. What does not run is
    started.
    """
    # Reads presets and conversion settings: too slow to load for --help and completion.
    from ccproxy.config.check import load_all

    fleet = load_all(find_config(options.config)).fleet
    chosen = [entry.label for entry in choose(fleet, labels)] if labels else []
    begun = time.monotonic()
    try:
        answer = request(fleet, "restart", labels=chosen, timeout=timeout, drain=drain)
    except NotRunning:
        answer = request(fleet, "start", labels=chosen, timeout=timeout)
    report(answer.proxies, seconds=time.monotonic() - begun)
    if answer.error:
        print_error(f"Error: {printable(answer.error)}")
    raise SystemExit(exit_code(answer.proxies) or (0 if answer.ok else 1))
