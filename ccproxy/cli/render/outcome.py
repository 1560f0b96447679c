"""What came of starting workers: one line each, and the exit code."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from ccproxy.cli.logs.files import LogFilter, last_lines, logs_of
from ccproxy.cli.logs.text import for_people
from ccproxy.cli.render.command_lines import callable_here
from ccproxy.cli.render.terminal import address, print_error, show
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, NotReady, PortInUse
from ccproxy.supervisor.control.row import Row
from ccproxy.text import format_duration, printable

UP = ("ready", "degraded")
SERVING_BEFORE = 2.0
"""Seconds by which a worker must be older than the command to have been there before it."""
LAST_WORDS = 20
FRESH = 60.0
"""Seconds; crash output that is older belongs to an earlier start."""


def exit_code(rows: Sequence[Row]) -> int:
    """Return 0 if all are up, 5 if ports alone kept all down, 7 if time alone did, else 1."""
    down = [row for row in rows if row.state not in UP]
    if not down:
        return 0
    if len(down) == len(rows) and all(row.state == "foreign" for row in down):
        return 5
    return 7 if all(_is_late(row) for row in down) else 1


def failure(row: Row) -> CcproxyError:
    """Return the error for a single worker that is not up."""
    text = f"{row.label} did not start: {printable(row.reason or row.state)}\n  fix: {fix(row)}"
    if row.state == "foreign":
        return PortInUse(text)
    return NotReady(text) if _is_late(row) else CcproxyError(text)


def report(rows: Sequence[Row], *, seconds: float) -> None:
    """Print a line for each row; *seconds* is how long the command took so far."""
    labels = max((len(row.label) for row in rows), default=0)
    places = max((len(address(row)) for row in rows), default=0)
    for row in rows:
        is_up = row.state in UP
        sign = click.style("✓", fg="green") if is_up else click.style("✗", fg="red")
        said = _said(row, seconds) if is_up else printable(row.reason or row.state)
        show(f"  {sign} {row.label:<{labels}}   {address(row):<{places}}   {said}")
        if not is_up:
            show(callable_here(f"      fix: {fix(row)}"))


def show_last_words(fleet: Fleet, rows: Sequence[Row]) -> None:
    """Show what each worker that was not ready in time wrote last: log lines, then its stack."""
    for row in rows:
        if row.state in UP or not _is_late(row):
            continue
        logs = logs_of(fleet.logs, row.label)
        # Archives are of earlier starts, and say nothing about this one.
        now = [replace(log, parts=tuple(p for p in log.parts if p[0] == log.path)) for log in logs]
        found = [line for log in now for line in last_lines(log, LogFilter(), count=LAST_WORDS)]
        words = [for_people(line, many=True) for line in found]
        words += [printable(text) for log in logs for text in _crash_output(log.path)]
        for text in words[-LAST_WORDS:]:
            print_error(text)
        if not words:
            print_error(f"{row.label} has written nothing, not even to {row.log}")


def _crash_output(log: Path) -> list[str]:
    """Return the end of what the process of *log* wrote besides, if it was this time."""
    file = log.with_suffix(".out")
    try:
        fresh = file.stat().st_mtime > time.time() - FRESH
        return file.read_text(errors="replace").splitlines()[-LAST_WORDS:] if fresh else []
    except OSError:
        return []


def fix(row: Row) -> str:
    """Return what to do about a worker that is not up."""
    if row.state == "foreign":
        return f"end that program, or give {row.label} another port in ccproxy.toml"
    return f"ccproxy logs {row.label}"


def keys_of(row: Row) -> str:
    """Return `3 keys`, or what there is of them."""
    total = (row.keys or {}).get("total", 0)
    return f"{total} key{'' if total == 1 else 's'}"


def _said(row: Row, seconds: float) -> str:
    since = ""
    if row.uptime_s is not None and row.uptime_s > seconds + SERVING_BEFORE:
        since = f" since {format_duration(row.uptime_s)}"
    reason = f" ({printable(row.reason)})" if row.reason else ""
    model = printable(row.models.get("big") or "")
    return f"{row.state}{since}{reason}   {keys_of(row)}   {model}".rstrip()


def _is_late(row: Row) -> bool:
    return row.state == "starting" or row.late
