"""The cells and sentences of the live view; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ccproxy.cli.render.fleet_table import display_state
from ccproxy.cli.render.request_lines import COLUMNS, request_cells, seconds, short_count
from ccproxy.cli.render.table import Column
from ccproxy.cli.render.terminal import MARKS
from ccproxy.cli.top.fleet_view import Snapshot
from ccproxy.ipc.control_messages import KeyRow
from ccproxy.supervisor.control.status import Row
from ccproxy.text import format_dollars, format_duration, printable

if TYPE_CHECKING:
    from ccproxy.ipc.activity import RequestTimeline

ENTRY_COLUMNS = (
    Column(head="ENTRY"),
    Column(head="STATE"),
    Column(head="REQ/MIN", align_right=True),
    Column(head="TOK/S", align_right=True, drop_order=3),
    Column(head="TTFT", align_right=True),
    Column(head="P95", align_right=True, drop_order=2),
    Column(head="ERR", align_right=True),
    Column(head="RUN", align_right=True),
    Column(head="KEYS", align_right=True),
    Column(head="TODAY", align_right=True),
    Column(head="5 MIN", drop_order=1),
)
_NOT_IN_VIEW = ("ID", "KEY")
REQUEST_COLUMNS = tuple(column for column in COLUMNS if column.head not in _NOT_IN_VIEW)
NARROW_HIDES = ("P95", "IN/CACHED/OUT", "COST")
"""The columns that a narrow dashboard hides."""
SPARK_LENGTH = 10
_BARS = " ▁▂▃▄▅▆▇█"


def entry_cells(row: Row, snapshot: Snapshot) -> tuple[str, ...]:
    """Return the cells of `ENTRY_COLUMNS`."""
    traffic, state = row.traffic, display_state(row)
    keys = row.keys or {}
    return (
        row.label,
        f"{MARKS.get(state, ('?', ''))[0]} {state}",
        str(traffic.requests_per_minute),
        short_count(traffic.output_tokens_per_s),
        seconds(traffic.ttft_median_s),
        seconds(traffic.ttft_p95_s),
        str(traffic.errors),
        str(row.in_flight),
        f"{keys['ready']}/{keys['total']}" if "total" in keys else "–",
        _cost_today(row.label, snapshot),
        sparkline(traffic.history),
    )


def request_cells_of_view(one: RequestTimeline, snapshot: Snapshot) -> tuple[str, ...]:
    """Return the cells of `REQUEST_COLUMNS`."""
    cells = zip(COLUMNS, request_cells(one, at=snapshot.at), strict=True)
    return tuple(cell for column, cell in cells if column.head not in _NOT_IN_VIEW)


def requests_of(snapshot: Snapshot, *, failed: bool) -> list[RequestTimeline]:
    """Return the running requests, then the finished ones, newest first."""
    running = sorted(snapshot.running, key=lambda one: -one.started)
    return [one for one in (*running, *snapshot.recent) if not failed or one.state == "failed"]


def key_sentence(key: KeyRow) -> str:
    """Return `k1 …9f2c ready, 12 today` or `k3 …77aa rejected (401), next attempt in 41s`."""
    text = f"{key.id} {key.tail} {key.state}"
    if key.cooldowns:
        worst = max(key.cooldowns, key=lambda one: one.seconds)
        cause = worst.cause.replace("_", " ")
        text += f" ({worst.status} {cause})" if worst.status else f" ({cause})"
        if worst.seconds:
            text += f", next attempt in {format_duration(math.ceil(worst.seconds))}"
    running = f", {key.in_flight} running" if key.in_flight else ""
    return printable(f"{text}, {key.used_today} today{running}")


def entry_sentence(row: Row, snapshot: Snapshot) -> str:
    """Describe an entry in one sentence, for screen readers and logs."""
    traffic, keys = row.traffic, row.keys or {}
    parts = [f"{row.label}: {display_state(row)}"]
    parts.append(f"{traffic.requests_per_minute} requests per minute")
    parts.append(f"{traffic.output_tokens_per_s:.0f} tokens per second")
    if traffic.ttft_median_s is not None:
        parts.append(f"first token after {traffic.ttft_median_s:.1f} seconds")
    parts.append(f"{traffic.errors} errors in five minutes")
    parts.append(f"{row.in_flight} running")
    if "total" in keys:
        parts.append(f"{keys['ready']} of {keys['total']} keys ready")
    parts.append(f"{_cost_today(row.label, snapshot)} today")
    return ", ".join(parts) + (f". {printable(row.reason)}" if row.reason else "")


def summary(snapshot: Snapshot) -> str:
    """Return the totals of the fleet."""
    rows = snapshot.rows
    ready = sum(row.state == "ready" for row in rows)
    costs = [one.known_cost for one in snapshot.today.values()]
    known_costs = [cost for cost in costs if cost is not None]
    parts = [
        f"{ready} of {len(rows)} ready",
        f"{sum(row.traffic.requests_per_minute for row in rows)} req/min",
        f"{short_count(sum(row.traffic.output_tokens_per_s for row in rows))} tok/s",
        f"{sum(row.in_flight for row in rows)} running",
        f"{format_dollars(sum(known_costs) if known_costs else None)} today",
    ]
    return "  ·  ".join(parts)


def troubles_of(rows: Sequence[Row]) -> list[str]:
    """Return a line for each entry that has a problem."""
    return [f"{row.label}: {printable(row.reason)}" for row in rows if row.reason]


def sparkline(history: Sequence[int], length: int = SPARK_LENGTH) -> str:
    """Return *history* as bars: the highest is full, and every value above zero is visible."""
    if not any(history):
        return ""
    size = max(1, math.ceil(len(history) / length))
    sums = [sum(history[at : at + size]) for at in range(0, len(history), size)]
    most = max(sums)
    return "".join(_BARS[math.ceil(value / most * (len(_BARS) - 1))] for value in sums)


def _cost_today(label: str, snapshot: Snapshot) -> str:
    totals = snapshot.today.get(label)
    if totals is None:
        return "–"
    return format_dollars(totals.known_cost, is_partial=bool(totals.unpriced))
