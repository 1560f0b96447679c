"""Show requests, tokens, latency and costs."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from ccproxy.cli.command import Command, Duration, Options
from ccproxy.cli.render.table import Column, table
from ccproxy.cli.render.terminal import columns, notify, show
from ccproxy.cli.selection import complete_label, known_labels, open_fleet
from ccproxy.text import printable

if TYPE_CHECKING:
    from ccproxy.store.usage_totals import By, Totals, UsageRow

_COLUMNS = (
    Column(head="REQUESTS", align_right=True),
    Column(head="ERRORS", align_right=True, drop_order=5),
    Column(head="INPUT", align_right=True),
    Column(head="CACHED", align_right=True, drop_order=3),
    Column(head="HIT", align_right=True),
    Column(head="OUTPUT", align_right=True),
    Column(head="REASONING", align_right=True, drop_order=1),
    Column(head="FIRST BYTE", align_right=True, drop_order=2),
    Column(head="COST", align_right=True),
    Column(head="TOKENS", drop_order=4),
)
_BAR_LENGTH = 12
_WHOLE_DAYS = timedelta(days=2)
"""A longer period begins at midnight, a shorter one at the full hour."""


class Since(Duration):
    """The begin of a period: a duration such as `12h`, `today` or `yesterday`."""

    name = "since"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the begin in seconds since the epoch."""
        now = datetime.now()
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        days = {"today": 0, "yesterday": 1}.get(str(value).strip().lower())
        if days is not None:
            return (midnight - timedelta(days=days)).timestamp()
        length = timedelta(seconds=super().convert(value, param, ctx))
        begin = now - length
        if length >= _WHOLE_DAYS:
            return begin.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        return begin.replace(minute=0, second=0, microsecond=0).timestamp()


@click.command(
    cls=Command,
    examples=[
        "ccproxy usage",
        "ccproxy usage --since today",
        "ccproxy usage kimi --by day --since 30d",
        "ccproxy usage --by key --json | jq '.total.cost_usd'",
    ],
)
@click.argument("labels", nargs=-1, metavar="[LABEL]...", shell_complete=complete_label)
@click.option(
    "--by",
    "groups",
    multiple=True,
    type=click.Choice(["model", "key", "day", "label"]),
    help="What to group by; can be repeated.  [default: label and model]",
)
@click.option(
    "--since",
    "begin",
    type=Since(),
    default="7d",
    show_default=True,
    help="Start of the period: 1h, 30d, today, yesterday. 2d and longer count whole days.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def usage(
    options: Options,
    labels: tuple[str, ...],
    *,
    groups: tuple[By, ...],
    begin: float,
    as_json: bool,
) -> None:
    """
    Show the usage of the proxies named by LABEL, or of all proxies.

    INPUT excludes cached tokens, HIT is the cached part of all input, OUTPUT includes REASONING.
    TOKENS compares input and output of the rows. A cost is shown if the model's price is known; `+`
    means that the price of some requests is unknown.
    """
    from ccproxy.store.usage_totals import GROUPS, Totals, summed  # SQLite

    fleet = open_fleet(options)
    by = [group for group in GROUPS if group in (groups or ("label", "model"))]
    stored = [row.group[0] for row in summed(fleet.state, by=["label"])]
    chosen = known_labels(fleet, stored, labels) if labels else None
    rows = summed(fleet.state, by=by, since=begin, labels=chosen)
    total = Totals()
    for row in rows:
        total.merge(row.totals)
    report = _Report(by=by, rows=rows, total=total, begin=begin)
    if as_json:
        show(json.dumps(report.as_json(), indent=2))
    elif rows:
        show(report.as_text())
    else:
        notify(options, f"No requests {report.period()}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """The sums of a period."""

    by: Sequence[By]
    rows: Sequence[UsageRow]
    total: Totals
    begin: float
    """Seconds since the epoch."""

    def period(self) -> str:
        """Return `from 2026-11-22 00:00 to 2026-11-29 14:05`."""
        begin, end = (
            datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M")
            for at in (self.begin, time.time())
        )
        return f"from {begin} to {end}"

    def as_json(self) -> dict[str, object]:
        return {
            "schema": 1,
            "since": datetime.fromtimestamp(self.begin).astimezone().isoformat(),
            "usage": [
                {**dict(zip(self.by, row.group, strict=True)), **_fields(row.totals)}
                for row in self.rows
            ],
            "total": _fields(self.total),
        }

    def as_text(self) -> str:
        heads = [Column(head=name.upper()) for name in self.by]
        most = max(_tokens(row.totals) for row in self.rows)
        lines = [
            (
                *(printable(name) or "–" for name in row.group),
                *_cells(row.totals),
                _bar(_tokens(row.totals), most),
            )
            for row in self.rows
        ]
        if len(lines) > 1:
            lines.append(("total", *("" for _ in self.by[1:]), *_cells(self.total), ""))
        text = table((*heads, *_COLUMNS), lines, width=columns())
        return "\n".join([f"Usage {self.period()}", "", *text])


def _fields(totals: Totals) -> dict[str, object]:
    mean, hit = totals.mean_ttfb, _cache_hit_rate(totals)
    return {
        "requests": totals.requests,
        "errors": totals.errors,
        "input_tokens": totals.input,
        "cache_read_tokens": totals.cached,
        "cache_creation_tokens": totals.written,
        "cache_hit_rate": None if hit is None else round(hit, 4),
        "output_tokens": totals.output,
        "reasoning_tokens": totals.reasoning,
        "mean_ttfb_seconds": None if mean is None else round(mean, 3),
        "cost_usd": None if totals.known_cost is None else round(totals.known_cost, 6),
        "unpriced_requests": totals.unpriced,
    }


def _cells(totals: Totals) -> tuple[str, ...]:
    mean, hit = totals.mean_ttfb, _cache_hit_rate(totals)
    return (
        f"{totals.requests:,}",
        f"{totals.errors:,}",
        f"{totals.input:,}",
        f"{totals.cached:,}",
        "–" if hit is None else f"{hit:.0%}",
        f"{totals.output:,}",
        f"{totals.reasoning:,}",
        "–" if mean is None else f"{mean:.2f} s",
        _cost(totals),
    )


def _cache_hit_rate(totals: Totals) -> float | None:
    """Return the part of the input that came from the cache; None without input."""
    total = totals.input + totals.cached + totals.written
    return totals.cached / total if total else None


def _tokens(totals: Totals) -> int:
    return totals.input + totals.cached + totals.written + totals.output


def _bar(value: int, most: int) -> str:
    length = round(_BAR_LENGTH * value / most) if most else 0
    return "█" * max(length, 1 if value else 0)


def _cost(totals: Totals) -> str:
    cost = totals.known_cost
    if cost is None:
        return "–"
    digits = 2 if cost >= 1 or cost == 0 else 4
    return f"${cost:,.{digits}f}{'+' if totals.unpriced else ''}"
