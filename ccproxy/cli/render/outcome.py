"""The result of starting workers: a line for each proxy, and the exit code."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import click

from ccproxy.cli.command import Options
from ccproxy.cli.logs.log_files import LogFilter, last_lines, logs_of
from ccproxy.cli.logs.log_lines import line_text
from ccproxy.cli.render.command_lines import callable_here
from ccproxy.cli.render.table import Column, table
from ccproxy.cli.render.terminal import address, notify, print_error, show
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, NotReady, PortInUse
from ccproxy.log_rotation import crash_file
from ccproxy.supervisor.control.protocol import ControlReply
from ccproxy.supervisor.control.status import Row
from ccproxy.text import counted, format_duration, printable

UP = ("ready", "degraded")
"""The states in which a proxy serves requests."""
LAST_LINES = 20
EARLIER_START_SECONDS = 2.0
"""A worker that is older than the command by more than this was already running."""
RECENT_SECONDS = 60.0
"""Crash output older than this belongs to an earlier start."""


def warn_about_changes(options: Options, row: Row) -> None:
    """Warn if the proxy of *row* is running and its files have changed since it started."""
    if row.changed and row.state in UP:
        text = (
            f"{row.label} is still running with its old files; they have changed since it started"
        )
        notify(options, f"warning: {text}\n  fix: ccproxy reload")


def exit_code(rows: Sequence[Row]) -> int:
    """Return 0 if all are up, 5 if every port is in use, 7 if all failures are timeouts, else 1."""
    down = [row for row in rows if row.state not in UP]
    if not down:
        return 0
    if len(down) == len(rows) and all(row.state == "foreign" for row in down):
        return 5
    return 7 if all(_is_late(row) for row in down) else 1


def failure(row: Row) -> CcproxyError:
    """Return the error for a single proxy that is not up."""
    text = f"{row.label} did not start: {printable(row.reason or row.state)}\n  fix: {fix(row)}"
    if row.state == "foreign":
        return PortInUse(text)
    return NotReady(text) if _is_late(row) else CcproxyError(text)


def finish(answer: ControlReply, *, seconds: float) -> int:
    """Print the result of a request, which took *seconds*, and return the exit code."""
    report(answer.proxies, seconds=seconds)
    if answer.error:
        print_error(f"Error: {printable(answer.error)}")
    return exit_code(answer.proxies) or (0 if answer.ok else 1)


def report(rows: Sequence[Row], *, seconds: float) -> None:
    """Print a line for each row; *seconds* is the duration of the command."""
    lines = table((Column(), Column(), Column()), [_cells(row, seconds) for row in rows])
    for row, line in zip(rows, lines, strict=True):
        show(f"  {line}")
        if row.state not in UP:
            show(callable_here(f"      fix: {fix(row)}"))


def _cells(row: Row, seconds: float) -> tuple[str, str, str]:
    if row.state not in UP:
        mark, text = click.style("✗", fg="red"), printable(row.reason or row.state)
    else:
        mark, text = click.style("✓", fg="green"), _running_text(row, seconds)
    return f"{mark} {row.label}", address(row), text


def _running_text(row: Row, seconds: float) -> str:
    since = ""
    if row.uptime_s is not None and row.uptime_s > seconds + EARLIER_START_SECONDS:
        since = f" since {format_duration(row.uptime_s)}"
    reason = f" ({printable(row.reason)})" if row.reason else ""
    if row.passes_to:
        return f"{row.state}{since}   {bypass_text(row.passes_to)}"
    keys = counted((row.keys or {}).get("total", 0), "key")
    return f"{row.state}{since}{reason}   {keys}   {printable(row.models.get('big') or '')}"


def bypass_text(url: str) -> str:
    """Return `bypassed → api.anthropic.com` for the *url* that requests go to."""
    return f"bypassed → {printable(urlsplit(url).netloc or url)}"


def fix(row: Row) -> str:
    """Return the fix for a proxy that is not up."""
    if row.state == "foreign":
        return f"stop the other program, or give {row.label} another port in the table"
    return f"ccproxy logs {row.label}"


def show_last_lines(fleet: Fleet, rows: Sequence[Row]) -> None:
    """Print the last log lines and the stack of each worker that was not ready in time."""
    for row in rows:
        if row.state in UP or not _is_late(row):
            continue
        logs = logs_of(fleet.logs, row.label, fleet.labels.values())
        # Archives belong to earlier starts.
        current = [
            replace(one, parts=tuple(p for p in one.parts if p[0] == one.path)) for one in logs
        ]
        lines = [
            line_text(line, with_label=True)
            for log in current
            for line in last_lines(log, LogFilter(), count=LAST_LINES)
        ]
        lines += [printable(text) for log in logs for text in _crash_output(log.path)]
        for line in lines[-LAST_LINES:]:
            print_error(line)
        if not lines:
            print_error(
                f"{row.label} has produced no output; nothing in {printable(row.log)} either"
            )


def _crash_output(log: Path) -> list[str]:
    """Return the last stderr lines of the process that writes *log*, if they are recent."""
    file = crash_file(log)
    try:
        is_recent = file.stat().st_mtime > time.time() - RECENT_SECONDS
        return file.read_text(errors="replace").splitlines()[-LAST_LINES:] if is_recent else []
    except OSError:
        return []


def _is_late(row: Row) -> bool:
    return row.state == "starting" or row.late
