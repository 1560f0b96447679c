"""Show the logs of the proxies."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import chain

import click

from ccproxy.cli.command import DURATION, Options, command
from ccproxy.cli.logs.log_files import (
    LEVELS,
    Follower,
    Log,
    LogFilter,
    LogLine,
    follow,
    last_lines_of_all,
    logs_of,
    matching_lines,
)
from ccproxy.cli.logs.log_lines import line_text
from ccproxy.cli.render.terminal import notify, print_error, short_path, show
from ccproxy.cli.selection import complete_label, known_labels, open_readable_part
from ccproxy.config.fleet import Fleet
from ccproxy.text import printable_json

SUPERVISOR = "supervisor"
DEFAULT_COUNT = 100
_PROCESS_NUMBER = re.compile(r"\.\d+$")
"""The suffix of the log names of a proxy's additional processes, as in `kimi.2`."""


@command(
    "ccproxy logs -f",
    "ccproxy logs kimi --since 10m --level warn",
    "ccproxy logs --request req_1c5a      # the id from an error in Claude Code",
    "ccproxy logs supervisor",
)
@click.argument("labels", nargs=-1, metavar="[LABEL]...", shell_complete=complete_label)
@click.option("-f", "--follow", "follows", is_flag=True, help="Show new lines as they are written.")
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(min=0),
    help="The number of lines to show.  [default: 100, or all with --since or --request]",
)
@click.option("--since", type=DURATION, help="Only lines that are at most this old, such as 10m.")
@click.option(
    "--level",
    type=click.Choice(["debug", "info", "warn", "warning", "error"], case_sensitive=False),
    help="Only lines of this severity or higher.",
)
@click.option("--request", metavar="ID", help="Only lines about this request.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the JSON lines as they are in the log files."
)
def logs(
    options: Options,
    labels: tuple[str, ...],
    *,
    follows: bool,
    count: int | None,
    since: float | None,
    level: str | None,
    request: str | None,
    as_json: bool,
) -> None:
    """
    Show the logs of the proxies named by LABEL, or of all proxies.

    Each request takes one line; -v shows all its fields. Archived logs are searched as well. The
    label `supervisor` selects the supervisor's log.
    """
    fleet, mistakes = open_readable_part(options)
    sources = _sources(fleet, labels, is_complete=mistakes is None)
    if follows and mistakes is not None:
        print_error(f"Error: the table is invalid:\n{mistakes}")
    conditions = LogFilter(
        level=LEVELS["warning"] if level == "warn" else LEVELS.get(level or "", 0),
        request=request,
        since=0.0 if since is None else time.time() - since,
    )
    if count is None and since is None and request is None:
        count = DEFAULT_COUNT
    names = fleet.labels.values()
    files = [log for source in sources for log in logs_of(fleet.logs, source, names)]
    text = _formatter(options, with_label=len(sources) > 1, as_json=as_json)
    if not _print_lines(files, conditions, count=count, follows=follows, text=text):
        notify(options, f"No matching log lines in {short_path(fleet.logs)}.")
    if mistakes is not None:
        raise mistakes


def _formatter(options: Options, *, with_label: bool, as_json: bool) -> Callable[[LogLine], str]:
    if as_json:
        return lambda line: printable_json(line.text)
    return lambda line: line_text(line, with_label=with_label, verbose=options.verbose)


def _print_lines(
    files: Sequence[Log],
    conditions: LogFilter,
    *,
    count: int | None,
    follows: bool,
    text: Callable[[LogLine], str],
) -> bool:
    """Print the last *count* lines, or all, and new ones if it *follows*; return True if any."""
    # Open followers before the archives are read, so that no line is lost to a rotation.
    with ExitStack() as open_files:
        followers = [open_files.enter_context(closing(Follower(log))) for log in files]
        lines: Iterable[LogLine] = (
            matching_lines(files, conditions)
            if count is None
            else last_lines_of_all(files, conditions, count=count)
        )
        new_lines: Iterator[LogLine] = iter(())
        if follows:
            new_lines = (line for line in follow(followers) if conditions.matches(line))
        has_lines = False
        for line in chain(lines, new_lines):
            show(text(line))
            has_lines = True
    return has_lines


def _sources(fleet: Fleet, labels: Sequence[str], *, is_complete: bool) -> list[str]:
    """Return the labels of the requested logs, including the supervisor's if requested."""
    names = [label for label in labels if label != SUPERVISOR or fleet.entry(label)]
    supervisor = [SUPERVISOR] if len(names) < len(labels) else []
    if supervisor and not names:
        return supervisor
    return supervisor + known_labels(fleet, _labels(fleet, is_complete=is_complete), names)


def _labels(fleet: Fleet, *, is_complete: bool) -> list[str]:
    """Return the labels in the table and, unless it *is_complete*, those found in log names."""
    labels = [entry.label for entry in fleet.entries]
    if is_complete or not fleet.logs.is_dir():
        return labels
    stems = {file.stem for file in fleet.logs.glob("*.log")} - {SUPERVISOR}
    of_logs = sorted(s for s in stems if _PROCESS_NUMBER.sub("", s) not in stems - {s})
    return list(dict.fromkeys([*labels, *of_logs]))
