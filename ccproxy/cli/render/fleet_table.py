"""How a fleet is doing, as text for people."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

from ccproxy import __version__
from ccproxy.build import installed_build
from ccproxy.cli.render.outcome import UP, fix
from ccproxy.cli.render.pasted import pasted
from ccproxy.cli.render.terminal import (
    MARKS,
    address,
    clean,
    counted,
    duration,
    mark,
    size,
    tilde,
    width,
)
from ccproxy.config.fleet import Fleet
from ccproxy.supervisor.control.client import FleetStatus
from ccproxy.supervisor.control.row import Row

_HEADS = ("LABEL", "ADDRESS", "STATE", "UPTIME", "KEYS", "IN-FLIGHT", "PID", "MODEL")
_RIGHT = {"KEYS", "IN-FLIGHT", "PID"}
_LEAST = 4
"""How many columns are shown however narrow the terminal is."""


def status_text(status: FleetStatus, fleet: Fleet, *, rows: Sequence[Row], verbose: bool) -> str:
    """Return what `status` prints: a summary, the table, and a reason with a fix where needed."""
    parts = [_summary(status, fleet, rows), "", *_table(rows)]
    unusual = [line for row in rows for line in _unusual(row)]
    if unusual:
        parts += ["", *unusual]
    troubled = [row for row in rows if row.reason or row.state in ("crash-loop", "failed")]
    if troubled:
        parts += ["", *(line for row in troubled for line in _trouble(row))]
    if verbose:
        parts += ["", *(line for row in rows for line in _details(row))]
    return pasted("\n".join([*parts, "", _logs(fleet)]))


def _summary(status: FleetStatus, fleet: Fleet, rows: Sequence[Row]) -> str:
    facts = [_version(status, rows)]
    if status.supervisor is not None:
        facts.append(f"up {duration(status.supervisor.get('uptime_s') or 0)}")
        facts.append(f"supervisor pid {status.supervisor.get('pid')}")
    if status.note:
        facts.append(click.style(clean(status.note), fg="yellow"))
    counts = {state: sum(row.state == state for row in rows) for state in MARKS}
    if len(rows) > 1 and counts["ready"] == len(rows):
        facts.append(f"all {len(rows)} ready")
    else:
        facts.append(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    return f"{' · '.join(facts)}   config {tilde(fleet.file)}"


def _version(status: FleetStatus, rows: Sequence[Row]) -> str:
    """Return what is installed, and what runs where that is something else."""
    running = {row.version for row in rows if row.version}
    if status.supervisor is not None:
        running.add(str(status.supervisor.get("version") or __version__))
    old = sorted(running - {__version__})
    if old:
        text = f"running {', '.join(old)}, installed {__version__} – `ccproxy reload`"
    elif _builds(status, rows) - {installed_build()}:
        text = f"{__version__}, running an older code – `ccproxy reload`"
    else:
        return f"ccproxy {__version__}"
    return f"ccproxy {click.style(text, fg='yellow')}"


def _builds(status: FleetStatus, rows: Sequence[Row]) -> set[str]:
    """Return which codes run."""
    running = {row.build for row in rows}
    if status.supervisor is not None:
        running.add(str(status.supervisor.get("build") or ""))
    return running - {""}


def _table(rows: Sequence[Row]) -> list[str]:
    table = [_HEADS, *(_cells(row) for row in rows)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(_HEADS))]
    shown = len(_HEADS)
    while shown > _LEAST and 2 + sum(widths[:shown]) + 2 * (shown - 1) > width():
        shown -= 1
    lines = []
    for number, cells in enumerate(table):
        sign = " " if number == 0 else mark(rows[number - 1].state)
        text = "  ".join(
            f"{cell:>{wide}}" if head in _RIGHT else f"{cell:<{wide}}"
            for cell, wide, head in zip(cells[:shown], widths, _HEADS, strict=False)
        )
        lines.append(f"{sign} {text.rstrip()}")
    return lines


def _cells(row: Row) -> tuple[str, ...]:
    keys = row.keys or {}
    return (
        row.label,
        address(row),
        row.state,
        "–" if row.uptime_s is None else duration(row.uptime_s),
        f"{keys['ready']}/{keys['total']}" if row.pids and "total" in keys else "–",
        str(row.in_flight) if row.pids else "–",
        ",".join(map(str, row.pids)) or "–",
        clean(row.models.get("big") or "–") + (f" ({clean(row.switched)})" if row.switched else ""),
    )


def _unusual(row: Row) -> list[str]:
    """Say what somebody has switched on or off and may have forgotten."""
    lines = []
    if row.passes_to:
        text = f"is off: requests go to {clean(row.passes_to)} unchanged"
        lines.append(f"! {row.label} {text}   (ccproxy toggle {row.label} on)")
    if row.inspects:
        more = f" for {duration(row.inspects_s)} more" if row.inspects_s else ""
        text = f"lets bodies of requests be read{more}: INSPECT=on"
        lines.append(f"! {row.label} {text}   (remove it from the env file)")
    return [click.style(line, fg="yellow") for line in lines]


_REFUSED_KEY = re.compile(r"\b(k\d+) \S+ (?:rejected|out of credit)")


def _trouble(row: Row) -> list[str]:
    refused = _REFUSED_KEY.search(row.reason or "") if row.state == "degraded" else None
    lines = [f"{mark(row.state)} {row.label}  {clean(row.reason or row.state)}"]
    if refused:
        return [*lines, f"    fix: ccproxy keys {row.label} test {refused[1]}"]
    return lines if row.state in (*UP, "starting", "stopping") else [*lines, f"    fix: {fix(row)}"]


def _details(row: Row) -> list[str]:
    names = ", ".join(f"{tier} {clean(name)}" for tier, name in row.models.items() if name)
    history = "what is said is kept" if row.keeps_history else "nothing is kept"
    return [
        f"{row.label}",
        f"    upstream  {clean(row.base_url) or '–'}",
        f"    models    {names or '–'}",
        f"    history   {history}",
        f"    log       {row.log}",
    ]


def _logs(fleet: Fleet) -> str:
    files = list(fleet.logs.glob("*.log*")) if fleet.logs.is_dir() else []
    total = sum(file.lstat().st_size for file in files)
    return f"Logs {size(total)} in {counted(len(files), 'file')} (kept 3 days): {tilde(fleet.logs)}"
