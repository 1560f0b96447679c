"""Show, export or delete recorded conversations."""

from __future__ import annotations

import json
import shlex
import sys

import click

from ccproxy.cli.command import Command, Options
from ccproxy.cli.render.terminal import notify, short_path, show
from ccproxy.cli.selection import choose, choose_one, complete_label, open_fleet
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.errors import CcproxyError, UsageError
from ccproxy.text import counted, printable

DEEDS = ("show", "clear", "export", "import", "on", "off")


@click.command(
    cls=Command,
    examples=[
        "ccproxy history kimi",
        "ccproxy history kimi export talk.jsonl    # into exports/talk.jsonl",
        "ccproxy history glm import talk.jsonl",
        "ccproxy history kimi clear",
    ],
)
@click.argument("label", required=False, shell_complete=complete_label)
@click.argument("deed", required=False, default="show", type=click.Choice(DEEDS))
@click.argument("name", required=False)
@click.option("-n", "--limit", type=click.IntRange(min=0), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON lines.")
@click.option("--yes", is_flag=True, help="clear: do not ask at a terminal.")
@click.pass_obj
def history(
    options: Options,
    label: str | None,
    deed: str,
    name: str | None,
    *,
    limit: int,
    as_json: bool,
    yes: bool,
) -> None:
    """
    Show, clear, export or import what was said at LABEL.

    Turns are kept for three days where HISTORY=on, or after `on`; either one holds until the other
    is said, also through restarts. NAME is a file in the fleet's exports folder; an existing one is
    never overwritten.
    """
    fleet = open_fleet(options)
    if deed in ("export", "import") and not name:
        raise UsageError(f"which file?\n  fix: ccproxy history LABEL {deed} NAME")
    if deed == "show":
        entries = choose(fleet, [label] if label else [])
        _show(options, fleet, entries, limit=limit, as_json=as_json)
        return
    if label is None:
        raise UsageError("which proxy?\n  fix: ccproxy history LABEL " + deed)
    entry = choose_one(fleet, label)
    if deed in ("on", "off"):
        _switch(fleet, entry, on=deed == "on")
    elif deed == "clear":
        _clear(fleet, entry, asks=sys.stdin.isatty() and not yes)
    else:
        (_export if deed == "export" else _import)(fleet, entry, name or "")


def _show(
    options: Options, fleet: Fleet, entries: tuple[Entry, ...], *, limit: int, as_json: bool
) -> None:
    from ccproxy.store.history import read_turns  # SQLite

    found = [(entry.label, read_turns(fleet.state, entry.label, limit=limit)) for entry in entries]
    for label, turns in found:
        if len(entries) > 1 and turns and not as_json:
            show(click.style(label, bold=True))
        for turn in turns:
            line = turn.as_json()
            if as_json:
                show(json.dumps({"label": label, **line}, ensure_ascii=False))
                continue
            who = f"{turn.role} ({turn.model})" if turn.role == "assistant" else turn.role
            head = f"{line['timestamp'][:19].replace('T', ' ')}  {printable(who)}"
            show(click.style(head, dim=True))
            show("\n".join(f"  {printable(text)}" for text in turn.content.splitlines()))
    if not any(turns for _, turns in found):
        notify(options, "Nothing is kept.  Is there HISTORY=on in the env file?")


def _switch(fleet: Fleet, entry: Entry, *, on: bool) -> None:
    from ccproxy.supervisor.control.session_actions import switch_session

    now = switch_session(fleet, entry.label, history="on" if on else "off")
    show(f"What is said at {entry.label} is {'kept' if now.history else 'not kept'}.")


def _clear(fleet: Fleet, entry: Entry, *, asks: bool) -> None:
    from ccproxy.store.history import clear_turns

    if asks and not _is_meant(entry):
        show("Nothing was forgotten.")
        return
    show(f"Forgot {counted(clear_turns(fleet.state, entry.label), 'turn')} of {entry.label}.")


def _is_meant(entry: Entry) -> bool:
    from ccproxy.cli.setup.questions import confirm  # knows the presets

    question = f"Forget all that was said at {entry.label}? There is no way back."
    return confirm(question, default=False)


def _export(fleet: Fleet, entry: Entry, name: str) -> None:
    from ccproxy.store import exports
    from ccproxy.store.history import read_turns

    where = short_path(fleet.home / exports.FOLDER / name)
    try:
        count = exports.export(fleet.home, name, read_turns(fleet.state, entry.label))
    except FileExistsError as error:
        fix = f"choose another name, or remove it: rm {shlex.quote(where)}"
        raise CcproxyError(f"{where} exists\n  fix: {fix}") from error
    show(f"Wrote {counted(count, 'turn')} of {entry.label} to {where}.")


def _import(fleet: Fleet, entry: Entry, name: str) -> None:
    from ccproxy.store import exports
    from ccproxy.store.history import add_new_turns

    count = add_new_turns(fleet.state, entry.label, exports.load(fleet.home, name))
    show(f"Added {counted(count, 'turn')} to {entry.label}.")
