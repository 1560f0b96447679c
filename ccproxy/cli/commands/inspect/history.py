"""Show, export or delete recorded conversations."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Sequence

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.confirmation import confirm
from ccproxy.cli.render.terminal import exit_if_unsaved, notify, short_path, show
from ccproxy.cli.selection import choose, choose_one, complete_label, open_fleet
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.errors import CcproxyError, UsageError
from ccproxy.text import counted, printable, printable_json

ACTIONS = ("show", "clear", "export", "import", "on", "off")
RETENTION = "kept 3 days"


@command(
    "ccproxy history kimi",
    "ccproxy history kimi on                   # start recording",
    "ccproxy history kimi export talk.jsonl    # to exports/talk.jsonl",
    "ccproxy history glm import talk.jsonl",
    "ccproxy history kimi clear",
)
@click.argument("label", required=False, shell_complete=complete_label)
@click.argument("action", required=False, default="show", type=click.Choice(ACTIONS))
@click.argument("name", required=False)
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    help="The number of turns to show.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
@click.option("--yes", is_flag=True, help="With clear: do not ask for confirmation.")
def history(
    options: Options,
    label: str | None,
    action: str,
    name: str | None,
    *,
    limit: int,
    as_json: bool,
    yes: bool,
) -> None:
    """
    Show, delete, export or import the recorded conversations of LABEL.

    Turns are recorded if HISTORY=on is set in the env file, or after the action `on`, and are kept
    for three days. The actions `on` and `off` persist across restarts. NAME is a file in the
    fleet's exports folder; an existing file is never overwritten.
    """
    fleet = open_fleet(options)
    if action in ("export", "import") and not name:
        raise UsageError(f"the file name is missing\n  fix: ccproxy history LABEL {action} NAME")
    if action == "show":
        entries = choose(fleet, [label] if label else [])
        _show(options, fleet, entries, limit=limit, as_json=as_json)
        return
    if label is None:
        raise UsageError(f"the label is missing\n  fix: ccproxy history LABEL {action}")
    entry = choose_one(fleet, label)
    match action:
        case "on" | "off":
            _record(fleet, entry, on=action == "on")
        case "clear":
            _clear(fleet, entry, yes=yes)
        case "export":
            _export(fleet, entry, name or "")
        case "import":
            _import(fleet, entry, name or "")


def _show(
    options: Options, fleet: Fleet, entries: Sequence[Entry], *, limit: int, as_json: bool
) -> None:
    from ccproxy.store.history import read_turns  # imports SQLite

    _flush(fleet, entries)
    turns_of = {entry.label: read_turns(fleet.state, entry.label, limit=limit) for entry in entries}
    for label, turns in turns_of.items():
        if len(entries) > 1 and turns and not as_json:
            show(click.style(label, bold=True))
        for turn in turns:
            fields = turn.as_json()
            if as_json:
                show(printable_json(json.dumps({"label": label, **fields}, ensure_ascii=False)))
                continue
            role = f"{turn.role} ({turn.model})" if turn.role == "assistant" else turn.role
            head = f"{fields['timestamp'][:19].replace('T', ' ')}  {printable(role)}"
            show(click.style(head, dim=True))
            show("\n".join(f"  {printable(text)}" for text in turn.content.splitlines()))
    if not any(turns_of.values()):
        name = entries[0].label if len(entries) == 1 else "LABEL"
        fix = f"ccproxy history {name} on, or HISTORY=on in the env file"
        notify(options, f"Nothing is recorded.  To record conversations: {fix}")


def _flush(fleet: Fleet, entries: Sequence[Entry]) -> None:
    """Make running workers write their pending turns now instead of within a few seconds."""
    from ccproxy.supervisor.control.worker_requests import switch_session

    for entry in entries:
        with contextlib.suppress(CcproxyError):  # stored turns can be shown without the worker
            switch_session(fleet, entry.label)


def _record(fleet: Fleet, entry: Entry, *, on: bool) -> None:
    from ccproxy.supervisor.control.worker_requests import switch_session

    switches = switch_session(fleet, entry.label, history="on" if on else "off")
    if switches.history:
        show(f"Recording {entry.label} conversations ({RETENTION}).")
    else:
        show(f"Not recording {entry.label} conversations.")
    exit_if_unsaved(entry.label, switches.unsaved)


def _clear(fleet: Fleet, entry: Entry, *, yes: bool) -> None:
    from ccproxy.store.history import clear_turns

    _flush(fleet, [entry])
    question = f"Delete {entry.label}'s history? This cannot be undone."
    confirm(question, yes=yes, fix=f"ccproxy history {entry.label} clear --yes")
    count = clear_turns(fleet.state, entry.label)
    show(f"Deleted {counted(count, 'turn')} of {entry.label}.")


def _export(fleet: Fleet, entry: Entry, name: str) -> None:
    from ccproxy.store import exports
    from ccproxy.store.history import read_turns

    _flush(fleet, [entry])
    file = short_path(fleet.home / exports.FOLDER / name)
    try:
        count = exports.export(fleet.home, name, read_turns(fleet.state, entry.label))
    except FileExistsError as error:
        fix = f"choose another name, or remove the file: rm {shlex.quote(file)}"
        raise CcproxyError(f"{file} exists\n  fix: {fix}") from error
    show(f"Wrote {counted(count, 'turn')} of {entry.label} to {file}.")


def _import(fleet: Fleet, entry: Entry, name: str) -> None:
    from ccproxy.store import exports
    from ccproxy.store.history import add_new_turns

    count = add_new_turns(fleet.state, entry.label, exports.load(fleet.home, name))
    show(f"Added {counted(count, 'turn')} to {entry.label}.")
