"""View and control the fleet in a browser."""

from __future__ import annotations

import os
import sys

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.selection import open_readable_part
from ccproxy.cli.single_proxy import table_arguments


@command(
    "ccproxy ui",
    "ccproxy ui --no-open          # over ssh: forward the port, then open the link",
    "ccproxy ui --port 8700",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="The port to serve the page on.  [default: a free port]",
)
@click.option("--no-open", is_flag=True, help="Only print the link; do not open a browser.")
def ui(options: Options, *, port: int, no_open: bool) -> None:
    """
    Serve a page that shows the live fleet, requests, usage, keys, routes, logs and checks.

    The page is served on 127.0.0.1 until interrupted, and loads nothing from other hosts. The link
    contains a code that works once, within ten minutes; without it the page shows nothing. Other
    users of this machine cannot sign in. Without a table, the page shows the proxies started with
    `ccproxy up --port`.
    """
    command = [sys.executable, "-P", "-m", "ccproxy.ui", "--port", str(port)]
    fleet = open_readable_part(options)[0]
    command += table_arguments(fleet)
    if not no_open:
        command.append("--open")
    os.execv(sys.executable, command)  # noqa: S606 - our own program, without a shell
