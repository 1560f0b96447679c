"""Apply changes in ccproxy.toml and the env files."""

from __future__ import annotations

import time

import click

from ccproxy.cli.command import DURATION, Command, Options
from ccproxy.cli.render.outcome import exit_code, report
from ccproxy.cli.render.terminal import print_error, show
from ccproxy.config.locations import find_config
from ccproxy.supervisor.control.client import request
from ccproxy.text import printable

_SIGNS = {"~": "yellow", "+": "green", "-": "red"}


@click.command(cls=Command, examples=["ccproxy reload", "ccproxy reload --dry-run"])
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--drain",
    type=DURATION,
    default="30s",
    show_default=True,
    help="How long requests on an old worker may take to finish.",
)
@click.option(
    "--timeout",
    type=DURATION,
    default="15s",
    show_default=True,
    help="How long to wait for the new.",
)
@click.pass_obj
def reload(options: Options, *, dry_run: bool, drain: float, timeout: float) -> None:
    """
    Bring the running fleet in line with ccproxy.toml and the env files.

    Everything is checked first; with a mistake nothing changes. Changed workers (~) are replaced
    without a refused connection, new ones (+) started, those no longer in the table (-) stopped.
    """
    # Reads presets and conversion settings: too slow to load for --help and completion.
    from ccproxy.config.check import load_all

    fleet = load_all(find_config(options.config)).fleet
    plan = request(fleet, "plan").plan
    changes = [(label, sign) for label, sign in plan if sign != "="]
    if changes:
        signs = {sign: click.style(sign, fg=color) for sign, color in _SIGNS.items()}
        show("".join(f"  {signs.get(sign, sign)} {label}" for label, sign in changes))
    else:
        show("Nothing has changed.")
    if dry_run:
        return
    begun = time.monotonic()
    answer = request(fleet, "reload", timeout=timeout, drain=drain)
    report(answer.proxies, seconds=time.monotonic() - begun)
    if answer.error:
        print_error(f"Error: {printable(answer.error)}")
    raise SystemExit(exit_code(answer.proxies) or (0 if answer.ok else 1))
