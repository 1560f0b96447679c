"""Turn a proxy off (send requests to Anthropic) or back on."""

from __future__ import annotations

from typing import Literal

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.render.terminal import exit_if_unsaved, show
from ccproxy.cli.selection import complete_label, open_entry
from ccproxy.supervisor.control.worker_requests import switch_session
from ccproxy.text import printable


@command(
    "ccproxy toggle kimi          # off if it is on, on if it is off",
    "ccproxy toggle kimi on",
)
@click.argument("label", shell_complete=complete_label)
@click.argument(
    "action", required=False, default="toggle", type=click.Choice(["on", "off", "toggle"])
)
def toggle(options: Options, label: str, action: Literal["on", "off", "toggle"]) -> None:
    """
    Turn the proxy LABEL off (bypass it) or on. The proxy keeps running.

    While it is off, requests go unchanged to Anthropic with the client's own key. It stays off
    after a restart until it is turned on; `ccproxy status` shows it.
    """
    fleet, entry = open_entry(options, label)
    switches = switch_session(fleet, entry.label, proxy=action)
    if switches.proxy:
        show(f"{entry.label} is on: it answers with the models in its env file.")
    else:
        show(f"{entry.label} is bypassed: requests go to {printable(switches.goes_to)} unchanged.")
    exit_if_unsaved(entry.label, switches.unsaved)
