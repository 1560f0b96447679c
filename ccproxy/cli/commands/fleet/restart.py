"""Restart proxies without closing their ports."""

from __future__ import annotations

import time

import click

from ccproxy.cli.command import Options, command, drain_option, timeout_option
from ccproxy.cli.render.outcome import finish
from ccproxy.cli.selection import choose, complete_label, open_checked
from ccproxy.errors import NotRunning
from ccproxy.supervisor.control.client import request


@command("ccproxy restart", "ccproxy restart kimi --drain 2m")
@click.argument("labels", nargs=-1, metavar="[LABEL]...", shell_complete=complete_label)
@drain_option
@timeout_option
def restart(options: Options, labels: tuple[str, ...], *, drain: float, timeout: float) -> None:
    """
    Replace the workers of the proxies named by LABEL, or of all proxies.

    The ports stay open. Each old worker stops once its replacement is ready. Proxies that are not
    running are started.
    """
    fleet = open_checked(options).fleet
    chosen = [entry.label for entry in choose(fleet, labels)] if labels else []
    begin = time.monotonic()
    try:
        answer = request(fleet, "restart", labels=chosen, timeout=timeout, drain=drain)
    except NotRunning:
        answer = request(fleet, "start", labels=chosen, timeout=timeout)
    raise SystemExit(finish(answer, seconds=time.monotonic() - begin))
