"""Show the logs of the proxies."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from itertools import chain

import click

from ccproxy.cli.command import DURATION, Command, Options
from ccproxy.cli.logs.files import (
    LEVELS,
    Follower,
    Log,
    LogFilter,
    LogLine,
    follow,
    last_lines,
    logs_of,
    sorted_by_time,
)
from ccproxy.cli.logs.text import for_people
from ccproxy.cli.render.terminal import notify, print_error, short_path, show
from ccproxy.cli.selection import complete_label, known_labels, open_to_look
from ccproxy.config.fleet import Fleet
from ccproxy.text import printable

SUPERVISOR = "supervisor"
_NUMBER = re.compile(r"\.\d+$")
"""What stands behind the label in the name of the log of a second process."""


@click.command(
    cls=Command,
    examples=[
        "ccproxy logs -f",
        "ccproxy logs kimi --since 10m --level warn",
        "ccproxy logs --request req_1c5a      # the id from an error in Claude Code",
        "ccproxy logs supervisor",
    ],
)
@click.argument("labels", nargs=-1, metavar="[LABEL]...", shell_complete=complete_label)
@click.option("-f", "--follow", "onwards", is_flag=True, help="Go on as lines are written.")
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(min=0),
    help="How many of the last lines.  [default: 100; all with --since or --request]",
)
@click.option("--since", type=DURATION, help="Only what is younger, such as 10m.")
@click.option(
    "--level",
    type=click.Choice(["debug", "info", "warn", "warning", "error"], case_sensitive=False),
    help="Only what is at least as grave.",
)
@click.option("--request", metavar="ID", help="Only the lines of this request.")
@click.option("--json", "as_json", is_flag=True, help="The lines as they stand in the file.")
@click.pass_obj
def logs(
    options: Options,
    labels: tuple[str, ...],
    *,
    onwards: bool,
    count: int | None,
    since: float | None,
    level: str | None,
    request: str | None,
    as_json: bool,
) -> None:
    """
    Show what the workers named by LABEL logged, all if none is named.

    Older lines come from the archives. `supervisor` is the log of the supervisor.
    """
    fleet, mistakes = open_to_look(options)
    sources = _sources(fleet, labels, known=_known(fleet, whole=mistakes is None))
    if onwards and mistakes is not None:
        print_error(f"Error: the table has mistakes:\n{mistakes}")
    wanted = LogFilter(
        level=LEVELS["warning"] if level == "warn" else LEVELS.get(level or "", 0),
        request=request,
        since=0.0 if since is None else time.time() - since,
    )
    if count is None:
        count = 100 if since is None and request is None else 10**9
    found = [log for source in sources for log in logs_of(fleet.logs, source)]
    # Opened before the past is read, so that a rotation meanwhile loses nothing.
    with ExitStack() as open_files:
        followers = [open_files.enter_context(closing(Follower(log))) for log in found]
        lines = _past(found, wanted, count=count)
        if not lines and not onwards:
            notify(options, f"Nothing in {short_path(fleet.logs)} fits.")
        coming = (line for line in follow(followers) if wanted.has(line))
        for line in chain(lines, coming if onwards else ()):
            show(printable(line.text) if as_json else for_people(line, many=len(sources) > 1))
    if mistakes is not None:
        raise mistakes


def _sources(fleet: Fleet, labels: Sequence[str], *, known: Sequence[str]) -> list[str]:
    """Return the names of the logs; the supervisor's counts as one of them."""
    names = [label for label in labels if label != SUPERVISOR or fleet.entry(label)]
    own = [SUPERVISOR] if len(names) < len(labels) else []
    return own + (known_labels(fleet, known, names) if names or not own else [])


def _known(fleet: Fleet, *, whole: bool) -> list[str]:
    """Return the table's labels; where it cannot be read as a *whole*, also those of the logs."""
    labels = [entry.label for entry in fleet.entries]
    if whole or not fleet.logs.is_dir():
        return labels
    stems = {file.stem for file in fleet.logs.glob("*.log")} - {SUPERVISOR}
    found = sorted(stem for stem in stems if _NUMBER.sub("", stem) not in stems - {stem})
    return list(dict.fromkeys([*labels, *found]))


def _past(found: Sequence[Log], wanted: LogFilter, *, count: int) -> list[LogLine]:
    """Return the last *count* wanted lines of all logs together, in order of time."""
    lines = sorted_by_time(line for log in found for line in last_lines(log, wanted, count=count))
    return lines[-count:] if count else []
