"""`ccproxy toggle`: lets requests pass a proxy by, to Anthropic, and back."""

from __future__ import annotations

from typing import Literal

import click

from ccproxy.cli.render.terminal import clean, show
from ccproxy.cli.selection import choose_one, complete_label, open_fleet
from ccproxy.cli.verb import Options, Verb
from ccproxy.supervisor.control.session_actions import switch_session


@click.command(
    cls=Verb,
    examples=[
        "ccproxy toggle kimi          # off if it is on, on if it is off",
        "ccproxy toggle kimi on",
    ],
)
@click.argument("label", shell_complete=complete_label)
@click.argument(
    "deed", required=False, default="toggle", type=click.Choice(["on", "off", "toggle"])
)
@click.pass_obj
def toggle(options: Options, label: str, deed: Literal["on", "off", "toggle"]) -> None:
    """
    Switch the proxy LABEL off or on; it keeps running.

    While it is off, requests go on to Anthropic unchanged, with the client's own key. It stays off
    through restarts until it is switched on again; `ccproxy status` says so.
    """
    fleet = open_fleet(options)
    entry = choose_one(fleet, label)
    now = switch_session(fleet, entry.label, proxy=deed)
    if now.proxy:
        show(f"{entry.label} is on: it answers as its env file says.")
    else:
        show(f"{entry.label} is off: requests go to {clean(now.goes_to)} unchanged.")
