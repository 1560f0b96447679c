"""Print the events of the fleet as JSON lines."""

from __future__ import annotations

from contextlib import closing

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.render.terminal import show
from ccproxy.cli.selection import complete_label, known_labels, open_fleet
from ccproxy.text import printable_json


@command(
    "ccproxy events",
    "ccproxy events kimi --type request.finished | jq '.request.cost'",
    "ccproxy events --type key.refused --type entry.state",
)
@click.argument("labels", nargs=-1, metavar="[LABEL]...", shell_complete=complete_label)
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="EVENT",
    help="Only events of this type, such as request.finished; can be repeated.",
)
@click.option("--count", type=click.IntRange(min=1), help="Exit after this many events.")
def events(
    options: Options, labels: tuple[str, ...], *, types: tuple[str, ...], count: int | None
) -> None:
    """
    Print the events of the proxies named by LABEL, or of all proxies, until interrupted.

    Each line is a JSON object that reports one event: a request began or ended, a key was refused
    or changed, an entry changed state, or a switch was set. docs/events.md describes the fields.
    The state of each entry and the running requests come first. A reader that is too slow misses
    events and receives `events.lost` instead. No conversation text is included.
    """
    from ccproxy.ipc.activity import EVENTS, encode_line  # imports msgspec
    from ccproxy.supervisor.control.fleet_activity import FleetWatch

    unknown = [name for name in types if name not in EVENTS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]} is not one of {', '.join(EVENTS)}")
    fleet = open_fleet(options)
    chosen = known_labels(fleet, [], labels) if labels else None
    printed = 0
    with closing(FleetWatch(fleet, chosen)) as watch:
        for event in watch:
            if types and event.event not in types:
                continue
            show(printable_json(encode_line(event).decode().rstrip()))
            printed += 1
            if printed == count:
                return
