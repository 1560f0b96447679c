"""Convert a recorded exchange again and show what differs."""

from __future__ import annotations

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.commands.inspect.record import recording_of
from ccproxy.cli.render.terminal import show
from ccproxy.cli.selection import open_fleet
from ccproxy.supervisor.control.worker_requests import replay_recording
from ccproxy.text import printable


@command(
    "ccproxy record kimi on",
    "ccproxy replay req_0123456789ab",
)
@click.argument("recording_id", metavar="ID")
def replay(options: Options, recording_id: str) -> None:
    """
    Convert the recorded exchange ID again and show what differs.

    The entry's worker converts the recorded request and the provider's recorded bytes with its
    current settings; nothing is sent. Exits with 1 if anything differs.
    """
    fleet = open_fleet(options)
    recording = recording_of(fleet, recording_id)
    reply = replay_recording(fleet, recording.label, recording_id)
    _show("The request to the provider", reply.request)
    if reply.note:
        show(reply.note)
    else:
        _show(f"The answer ({reply.bytes} bytes)", reply.answer)
    if reply.request or reply.answer:
        raise SystemExit(1)


def _show(title: str, difference: tuple[str, ...]) -> None:
    show(f"{title} {'differs:' if difference else 'is the same.'}")
    for line in difference:
        show(f"  {printable(line)}")
