"""The output of `status`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path

import click

from ccproxy import __version__
from ccproxy.build import installed_build
from ccproxy.cli.render.account_lines import account_text, account_warnings
from ccproxy.cli.render.budget_lines import budget_text, budget_warnings, user_budgets
from ccproxy.cli.render.command_lines import callable_here
from ccproxy.cli.render.outcome import UP, bypass_text, fix
from ccproxy.cli.render.table import Column, table
from ccproxy.cli.render.terminal import MARKS, address, columns, state_mark, tilde
from ccproxy.config.fleet import Fleet
from ccproxy.ipc.control_messages import PoolSharing
from ccproxy.supervisor.control.client import FleetStatus
from ccproxy.supervisor.control.status import Row
from ccproxy.text import counted, format_duration, format_size, printable

_COLUMNS = (
    Column(head="  LABEL"),
    Column(head="ADDRESS", drop_order=4),
    Column(head="STATE"),
    Column(head="UPTIME", drop_order=3),
    Column(head="KEYS", align_right=True),
    Column(head="IN-FLIGHT", align_right=True, drop_order=2),
    Column(head="PID", align_right=True, drop_order=1),
    Column(head="MODEL", least=24),
)
_MOST_USERS = 8
"""The maximum number of user budgets that `status` shows."""


def status_text(
    status: FleetStatus,
    fleet: Fleet,
    *,
    rows: Sequence[Row],
    changed: Sequence[str] = (),
    verbose: bool,
) -> str:
    """
    Return a summary, the table, and a reason with a fix for each proxy that needs one.

    *changed* lists the entries whose files have changed since their workers started.
    """
    lines = table(_COLUMNS, [_cells(row) for row in rows], width=columns())
    parts = [_summary(status, fleet, rows), "", *lines]
    warnings = [line for row in rows for line in _overrides(row)]
    users = user_budgets(budget for row in rows for budget in row.budgets)
    warnings += [f"! {text}" for text in _shortened(budget_warnings(users))]
    if changed:
        warnings.append(f"! changed since start: {', '.join(changed)}   (ccproxy reload)")
    if warnings:
        parts += ["", *(click.style(line, fg="yellow") for line in warnings)]
    troubled = [row for row in rows if row.reason or row.state in ("crash-loop", "failed")]
    if troubled:
        parts += ["", *(line for row in troubled for line in _trouble(row))]
    if verbose:
        parts += ["", *(line for row in rows for line in _details(row))]
    return callable_here("\n".join([*parts, "", _log_line(fleet)]))


def _shortened(texts: Sequence[str]) -> list[str]:
    """Return the first few *texts*: a team may have many users, but `status` must fit a screen."""
    rest = len(texts) - _MOST_USERS
    more = [f"{rest} more low user budgets: ccproxy usage --by user"] if rest > 0 else []
    return [*texts[:_MOST_USERS], *more]


def _summary(status: FleetStatus, fleet: Fleet, rows: Sequence[Row]) -> str:
    facts = [version_text(status, rows)]
    if status.supervisor is not None:
        facts.append(f"up {format_duration(status.supervisor.uptime_s)}")
        facts.append(f"supervisor pid {status.supervisor.pid}")
    if status.note:
        facts.append(click.style(printable(status.note), fg="yellow"))
    counts = {state: sum(display_state(row) == state for row in rows) for state in MARKS}
    if len(rows) > 1 and counts["ready"] == len(rows):
        facts.append(f"all {len(rows)} ready")
    else:
        facts.append(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    return f"{' · '.join(facts)}   config {tilde(fleet.file)}"


def version_text(status: FleetStatus, rows: Sequence[Row]) -> str:
    """Return the installed version, and the running version or code if it differs."""
    running = {row.version for row in rows if row.version}
    if status.supervisor is not None:
        running.add(status.supervisor.version or __version__)
    old = sorted(running - {__version__})
    if old:
        text = f"running {', '.join(old)}, installed {__version__}: `ccproxy reload`"
    elif _builds(status, rows) - {installed_build()}:
        text = f"{__version__}, running older code: `ccproxy reload`"
    else:
        return f"ccproxy {__version__}"
    return f"ccproxy {click.style(text, fg='yellow')}"


def _builds(status: FleetStatus, rows: Sequence[Row]) -> set[str]:
    """Return the hashes of the running code."""
    running = {row.build for row in rows}
    if status.supervisor is not None:
        running.add(status.supervisor.build)
    return running - {""}


def display_state(row: Row) -> str:
    """Return the state, or `bypassed` for a proxy that forwards its requests unchanged."""
    return "bypassed" if row.passes_to and row.state in UP else row.state


def _cells(row: Row) -> tuple[str, ...]:
    keys = row.keys or {}
    state = display_state(row)
    return (
        f"{state_mark(state)} {row.label}",
        address(row),
        click.style(state, fg="yellow") if state == "bypassed" else state,
        "–" if row.uptime_s is None else format_duration(row.uptime_s),
        f"{keys['ready']}/{keys['total']}" if row.pids and "total" in keys else "–",
        str(row.in_flight) if row.pids else "–",
        ",".join(map(str, row.pids)) or "–",
        _model(row),
    )


def _model(row: Row) -> str:
    if row.passes_to:
        return click.style(bypass_text(row.passes_to).removeprefix("bypassed "), fg="yellow")
    switched = f" ({printable(row.switched)})" if row.switched else ""
    return printable(row.models.get("big") or "–") + switched


def _overrides(row: Row) -> list[str]:
    """Return a line for each switch that the user may have forgotten and for each low budget."""
    # Reads conversion settings: too slow to load for `status --help`.
    from ccproxy.routing.retirement import Retirement, retirement_text

    lines = []
    if row.passes_to:
        text = f"{bypass_text(row.passes_to)}, requests are not changed"
        lines.append(f"! {row.label}: {text}   (ccproxy toggle {row.label} on)")
    if row.inspects:
        duration = f" for {format_duration(row.inspects_s)} more" if row.inspects_s else ""
        text = f"request bodies can be read{duration} (INSPECT=on)"
        lines.append(f"! {row.label}: {text}   (remove it from the env file)")
    today = time.strftime("%Y-%m-%d", time.gmtime())
    texts = [
        *budget_warnings(one for one in row.budgets if not one.user),
        *account_warnings(row.accounts),
        *(retirement_text(Retirement(*astuple(one)), today=today) for one in row.retiring),
    ]
    return lines + [f"! {row.label}: {text}" for text in texts]


def _trouble(row: Row) -> list[str]:
    lines = [f"{state_mark(row.state)} {row.label}  {printable(row.reason or row.state)}"]
    if row.state == "degraded" and row.faulty_key:
        return [*lines, f"    fix: ccproxy keys {row.label} test {row.faulty_key}"]
    return lines if row.state in (*UP, "starting", "stopping") else [*lines, f"    fix: {fix(row)}"]


def _details(row: Row) -> list[str]:
    names = ", ".join(f"{tier} {printable(name)}" for tier, name in row.models.items() if name)
    lines = [
        ["upstream", printable(row.base_url) or "–"],
        ["models", names or "–"],
        ["history", "recorded" if row.keeps_history else "not recorded"],
        *([] if row.pool is None else [["replicas", _sharing_text(row.pool)]]),
        *(["budget", budget_text(budget)] for budget in row.budgets if not budget.user),
        *([f"account {one.id}", account_text(one)] for one in row.accounts),
        ["log", tilde(Path(row.log))],
    ]
    return [row.label, *table((Column(), Column()), lines, indent="    ")]


def _sharing_text(pool: PoolSharing) -> str:
    own = ", ".join(map(printable, pool.per_replica))
    return f"{pool.replicas} share keys and budgets in Redis; each has its own {own}"


def _log_line(fleet: Fleet) -> str:
    sizes = []
    for file in fleet.logs.glob("*.log*") if fleet.logs.is_dir() else ():
        with suppress(FileNotFoundError):  # a worker may delete an archive at any time
            sizes.append(file.lstat().st_size)
    content = f"{format_size(sum(sizes))} in {counted(len(sizes), 'file')}"
    return f"Logs {content} (kept 3 days): {tilde(fleet.logs)}"
