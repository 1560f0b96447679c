"""Show requests, tokens, latency and costs."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from ccproxy.cli.command import Duration, Options, command
from ccproxy.cli.render.account_lines import account_text
from ccproxy.cli.render.budget_lines import budget_text, user_budgets
from ccproxy.cli.render.table import Column, table
from ccproxy.cli.render.terminal import columns, notify, show, show_json
from ccproxy.cli.selection import complete_label, known_labels, open_fleet
from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError, UsageError
from ccproxy.ipc.control_messages import RequestsRequest
from ccproxy.text import counted, format_dollars, printable

if TYPE_CHECKING:
    from ccproxy.store.usage_totals import By, Totals, UsageRow
    from ccproxy.supervisor.control.status import Row

_COLUMNS = (
    Column(head="REQUESTS", align_right=True),
    Column(head="ERRORS", align_right=True, drop_order=5),
    Column(head="INPUT", align_right=True, drop_order=7),
    Column(head="CACHED", align_right=True, drop_order=3),
    Column(head="HIT", align_right=True, drop_order=6),
    Column(head="OUTPUT", align_right=True, drop_order=8),
    Column(head="REASONING", align_right=True, drop_order=1),
    Column(head="FIRST BYTE", align_right=True, drop_order=2),
    Column(head="COST", align_right=True),
    Column(head="TOKENS", drop_order=4),
)
_BAR_LENGTH = 12
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_WHOLE_DAYS = timedelta(days=2)
"""Periods of at least this length begin at midnight, shorter ones on the hour."""


class Since(Duration):
    """The start of a period: a duration such as `12h`, `today` or `yesterday`."""

    name = "since"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the start in seconds since the epoch."""
        days = {"today": 0, "yesterday": 1}.get(str(value).strip().lower())
        if days is not None:
            return _midnight(days)
        length = timedelta(seconds=super().convert(value, param, ctx))
        begin = datetime.now() - length
        if length >= _WHOLE_DAYS:
            return begin.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        return begin.replace(minute=0, second=0, microsecond=0).timestamp()


def _midnight(days: int) -> float:
    """Return the start of the day *days* ago, in seconds since the epoch."""
    today = datetime.now().replace(hour=0, minute=0, second=0, microsecond=0)
    return (today - timedelta(days=days)).timestamp()


@command(
    "ccproxy usage",
    "ccproxy usage --since today",
    "ccproxy usage kimi --by day --since 30d",
    "ccproxy usage --by session --days 1",
    "ccproxy usage --by user --by day # users of a team's gateway",
    "ccproxy usage --cache            # why prompt caches were missed, and the cost",
    "ccproxy usage --by key --json | jq '.total.cost_usd'",
    "ccproxy usage --by day --by model --days 30 --csv > usage.csv",
)
@click.argument("labels", nargs=-1, metavar="[LABEL]...", shell_complete=complete_label)
@click.option(
    "--by",
    "groups",
    multiple=True,
    type=click.Choice(["model", "key", "day", "label", "session", "user"]),
    help="What to group by; can be repeated.  [default: label and model]",
)
@click.option(
    "--since",
    "begin",
    type=Since(),
    default="7d",
    show_default=True,
    help="Start of the period: 1h, 30d, today, yesterday. It begins on the hour, or at "
    "midnight for 2d and more, because totals are kept per hour. Requests from the last second may "
    "be missing.",
)
@click.option(
    "--days", type=click.IntRange(1, 3650), help="The period in whole days: 1 is today only."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option(
    "--cache", is_flag=True, help="Show why the last 1,000 requests missed prompt caches."
)
def usage(
    options: Options,
    labels: tuple[str, ...],
    *,
    groups: tuple[By, ...],
    begin: float,
    days: int | None,
    as_json: bool,
    as_csv: bool,
    cache: bool,
) -> None:
    """
    Show the usage of the proxies named by LABEL, or of all proxies.

    INPUT excludes cached tokens. HIT is the cached share of all input. OUTPUT includes REASONING.
    TOKENS compares the rows' input and output. A cost is shown if the model's price is known; `+`
    means that the price of some requests is unknown. Days begin at midnight local time. The budgets
    and accounts of running proxies are listed last.
    """
    from ccproxy.store.usage_totals import GROUPS, Totals, summed  # imports SQLite

    if as_json and as_csv:
        raise UsageError("--json and --csv cannot be combined")
    fleet = open_fleet(options)
    if cache:
        _show_cache_losses(options, fleet, labels, as_json=as_json)
        return
    if days is not None:
        begin = _midnight(days - 1)
    by = [group for group in GROUPS if group in (groups or ("label", "model"))]
    stored = [row.group[0] for row in summed(fleet.state, by=["label"])]
    chosen = known_labels(fleet, stored, labels) if labels else None
    rows = summed(fleet.state, by=by, since=begin, labels=chosen)
    total = Totals()
    for row in rows:
        total.merge(row.totals)
    report = _Report(by=by, rows=rows, total=total, begin=begin)
    if as_json:
        show_json({**report.as_json(), "proxies": _fleet_json(fleet, chosen)})
    elif as_csv:
        show(report.as_csv())
    elif rows:
        show("\n".join([report.as_text(), *_fleet_lines(fleet, chosen)]))
    else:
        notify(options, f"No requests {report.period()}.")


def _show_cache_losses(
    options: Options, fleet: Fleet, labels: Sequence[str], *, as_json: bool
) -> None:
    """Show the running workers' requests that read fewer cached tokens than earlier ones."""
    from ccproxy.cli.render.cache_losses import cache_lines
    from ccproxy.ipc.activity import encode_line
    from ccproxy.supervisor.control.fleet_activity import recent_requests

    chosen = known_labels(fleet, [], labels) if labels else None
    requests = recent_requests(fleet, chosen, RequestsRequest(limit=1000)).finished
    lost = [one for one in requests if one.cache_loss is not None]
    if as_json:
        rows = [json.loads(encode_line(one)) for one in lost]
        show_json({"schema": 1, "requests": rows})
    elif lines := cache_lines(lost, width=columns()):
        show("\n".join(lines))
    else:
        notify(options, f"No session has missed its prompt cache in {len(requests):,} requests.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """The totals of a period."""

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
                {**dict(zip(self.by, row.group, strict=True)), **row.totals.as_json()}
                for row in self.rows
            ],
            "total": self.total.as_json(),
        }

    def as_csv(self) -> str:
        names = [*self.by, *self.total.as_json()]
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for row in self.rows:
            # A spreadsheet would evaluate a cell with this prefix as a formula.
            group = [f"'{name}" if name.startswith(_FORMULA) else name for name in row.group]
            writer.writerow([*group, *row.totals.as_json().values()])
        return file.getvalue().rstrip("\n")

    def as_text(self) -> str:
        heads = [Column(head=name.upper(), least=24) for name in self.by]
        most = max(_tokens(row.totals) for row in self.rows)
        lines = [
            (
                *map(_name, self.by, row.group),
                *_cells(row.totals),
                _bar(_tokens(row.totals), most),
            )
            for row in self.rows
        ]
        if len(lines) > 1:
            lines.append(("total", *("" for _ in self.by[1:]), *_cells(self.total), ""))
        text = table((*heads, *_COLUMNS), lines, width=columns())
        return "\n".join([f"Usage {self.period()}", "", *text, *_above(self.total)])


def _limited_rows(fleet: Fleet, labels: Sequence[str] | None) -> list[Row]:
    """Return the running proxies that have budgets or report accounts."""
    from ccproxy.supervisor.control.client import fleet_status

    try:
        rows = fleet_status(fleet).proxies
    except CcproxyError:  # the statistics are still shown
        return []
    chosen = [row for row in rows if labels is None or row.label in labels]
    return [row for row in chosen if row.budgets or row.accounts]


def _fleet_json(fleet: Fleet, labels: Sequence[str] | None) -> list[dict[str, object]]:
    names = ("label", "budgets", "accounts")
    rows = (row.as_json() for row in _limited_rows(fleet, labels))
    return [{name: row[name] for name in names} for row in rows]


def _fleet_lines(fleet: Fleet, labels: Sequence[str] | None) -> list[str]:
    rows, lines = _limited_rows(fleet, labels), list[str]()
    for row in rows:
        own = [budget for budget in row.budgets if not budget.user]
        lines += [f"{row.label}  budget: {budget_text(budget)}" for budget in own]
        lines += [f"{row.label}  {one.id} {one.tail}: {account_text(one)}" for one in row.accounts]
    users = user_budgets(budget for row in rows for budget in row.budgets)
    lines += [f"budget of {budget_text(budget)}" for budget in users]
    return ["", *lines] if lines else []


def _above(totals: Totals) -> list[str]:
    """Return a note about requests above a price threshold."""
    if not totals.above:
        return []
    many = counted(totals.above, "request")
    extra = format_dollars(totals.extra)
    text = f"{many} above a price threshold cost {extra} more than at the rates below it"
    return ["", text, "PRICE_GUARD=on: Claude Code compacts before the threshold."]


def _name(group: By, name: str) -> str:
    """Return a group's name as shown in the table; JSON and CSV contain the full name."""
    if group == "session":
        return printable(name)[:8] or "–"
    return printable(name) or "–"


def _cells(totals: Totals) -> tuple[str, ...]:
    mean, hit = totals.mean_ttfb, totals.cache_hit_rate
    return (
        f"{totals.requests:,}",
        f"{totals.errors:,}",
        f"{totals.input:,}",
        f"{totals.cached:,}",
        "–" if hit is None else f"{hit:.0%}",
        f"{totals.output:,}",
        f"{totals.reasoning:,}",
        "–" if mean is None else f"{mean:.2f} s",
        format_dollars(totals.known_cost, is_partial=bool(totals.unpriced)),
    )


def _tokens(totals: Totals) -> int:
    return totals.input + totals.cached + totals.written + totals.output


def _bar(value: int, most: int) -> str:
    length = round(_BAR_LENGTH * value / most) if most else 0
    return "█" * max(length, 1 if value else 0)
