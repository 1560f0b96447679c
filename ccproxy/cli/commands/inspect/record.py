"""Record exchanges and turn them into test cases."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.render.terminal import exit_if_unsaved, notify, show, show_json
from ccproxy.cli.selection import choose_one, complete_label, open_fleet
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, UsageError
from ccproxy.text import counted, format_duration, printable

if TYPE_CHECKING:
    from ccproxy.store.recordings import Recording


@command(
    "ccproxy record kimi on                    # record for a day",
    "ccproxy record kimi                       # list the recordings",
    "ccproxy replay req_0123456789ab           # convert it again",
    "ccproxy record --case req_0123456789ab > case.json",
)
@click.argument("label", required=False, shell_complete=complete_label)
@click.argument("action", required=False, default="list", type=click.Choice(["list", "on", "off"]))
@click.option("--case", "case_id", metavar="ID", help="Print a recording as a test case.")
def record(
    options: Options,
    label: str | None,
    action: Literal["list", "on", "off"],
    case_id: str | None,
) -> None:
    """
    Record the exchanges of LABEL: requests, the provider's raw bytes, and answers.

    Recording stops after a day, and each recording is deleted once it is a day old. Keys are
    masked; the text of conversations is not. `--case` prints a test case for a bug report: strings
    are replaced by others of the same length, and the structure is kept.
    """
    fleet = open_fleet(options)
    if case_id is not None:
        from ccproxy.cli.recordings.case_from_recording import case_from_recording

        show_json(case_from_recording(recording_of(fleet, case_id)))
        return
    if label is None:
        raise UsageError("the label is missing\n  fix: ccproxy record LABEL on")
    entry = choose_one(fleet, label)
    if action == "list":
        _list(options, fleet, entry.label)
        return
    from ccproxy.supervisor.control.worker_requests import switch_session

    switches = switch_session(fleet, entry.label, recording=action)
    if switches.recording_s:
        show(f"Recording exchanges of {entry.label} for {format_duration(switches.recording_s)}.")
    else:
        show(f"Not recording exchanges of {entry.label}.")
    exit_if_unsaved(entry.label, switches.unsaved)


def _list(options: Options, fleet: Fleet, label: str) -> None:
    from ccproxy.store.recordings import recordings

    count = 0
    for each in recordings(fleet.state, label):
        count += 1
        at = time.strftime("%H:%M:%S", time.localtime(each.at))
        calls = counted(len(each.calls), "call")
        outcome = each.error or "ok"
        show(printable(f"{at}  {each.id}  {each.requested}  {calls}  {outcome}"))
    if not count:
        fix = f"ccproxy record {label} on"
        notify(options, f"Nothing is recorded.  To record exchanges: {fix}")


def recording_of(fleet: Fleet, recording_id: str) -> Recording:
    """Return the recording; raise CcproxyError if it is missing or damaged."""
    from ccproxy.store.recordings import find_recording

    try:
        recording = find_recording(fleet.state, recording_id)
    except (OSError, ValueError) as error:
        raise CcproxyError(f"the recording {recording_id} cannot be read: {error}") from error
    if recording is None:
        fix = "list the recordings: ccproxy record LABEL"
        raise CcproxyError(f"there is no recording {printable(recording_id)}\n  fix: {fix}")
    return recording
