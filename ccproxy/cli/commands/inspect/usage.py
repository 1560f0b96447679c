"""Show requests, tokens, latency and costs."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ccproxy.cli.command import DURATION, Command, Options
from ccproxy.cli.render.table import Column, table
from ccproxy.cli.render.terminal import columns, notify, show
from ccproxy.cli.selection import complete_label, known_labels, open_fleet
from ccproxy.text import format_duration, printable

if TYPE_CHECKING:
    from ccproxy.store.usage_totals import By, Totals, UsageRow

_COLUMNS = (
    Column(head="REQUESTS", align_right=True),
    Column(head="ERRORS", align_right=True, drop_order=2),
    Column(head="INPUT", align_right=True),
    Column(head="CACHED", align_right=True, drop_order=3),
    Column(head="OUTPUT", align_right=True),
    Column(head="REASONING", align_right=True, drop_order=1),
    Column(head="FIRST BYTE", align_right=True, drop_order=4),
    Column(head="COST", align_right=True),
)


@click.command(
    cls=Command,
    examples=[
        "ccproxy usage",
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
    help="What to sum by; may be given several times.  [default: label and model]",
)
@click.option("--since", type=DURATION, default="7d", show_default=True, help="Whole days count.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def usage(
    options: Options,
    labels: tuple[str, ...],
    *,
    groups: tuple[By, ...],
    since: float,
    as_json: bool,
) -> None:
    """
    Show what the workers named by LABEL used, all if none is named.

    INPUT is without what came from the cache, OUTPUT holds the reasoning. A cost is shown where
    the model's price is known; `+` behind it means that it is not known for all.
    """
    from ccproxy.store.usage_totals import GROUPS, Totals, summed  # SQLite

    fleet = open_fleet(options)
    by = [group for group in GROUPS if group in (groups or ("label", "model"))]
    begin = time.time() - since
    stored = [line.group[0] for line in summed(fleet.state, by=["label"])]
    chosen = known_labels(fleet, stored, labels) if labels else None
    lines = summed(fleet.state, by=by, since=begin, labels=chosen)
    total = Totals()
    for line in lines:
        total.merge(line.totals)
    if as_json:
        rows = [dict(zip(by, line.group, strict=True)) | _as_json(line.totals) for line in lines]
        show(json.dumps({"schema": 1, "usage": rows, "total": _as_json(total)}, indent=2))
    elif lines:
        show(_table(by, lines, total))
    else:
        notify(options, f"Nothing was used in the last {format_duration(since)}.")


def _as_json(totals: Totals) -> dict[str, object]:
    mean = totals.mean_ttfb
    return {
        "requests": totals.requests,
        "errors": totals.errors,
        "input_tokens": totals.input,
        "cache_read_tokens": totals.cached,
        "cache_creation_tokens": totals.written,
        "output_tokens": totals.output,
        "reasoning_tokens": totals.reasoning,
        "mean_ttfb_seconds": None if mean is None else round(mean, 3),
        "cost_usd": None if totals.known_cost is None else round(totals.known_cost, 6),
        "unpriced_requests": totals.unpriced,
    }


# As text...


def _table(by: Sequence[str], lines: Sequence[UsageRow], total: Totals) -> str:
    heads = [Column(head=name.upper()) for name in by]
    rows = [(*_names(line), *_cells(line.totals)) for line in lines]
    if len(rows) > 1:
        rows.append(("total", *("" for _ in by[1:]), *_cells(total)))
    return "\n".join(table((*heads, *_COLUMNS), rows, width=columns()))


def _names(line: UsageRow) -> list[str]:
    return [printable(name) or "–" for name in line.group]


def _cells(totals: Totals) -> tuple[str, ...]:
    mean = totals.mean_ttfb
    return (
        f"{totals.requests:,}",
        f"{totals.errors:,}",
        f"{totals.input:,}",
        f"{totals.cached:,}",
        f"{totals.output:,}",
        f"{totals.reasoning:,}",
        "–" if mean is None else f"{mean:.2f} s",
        _cost(totals),
    )


def _cost(totals: Totals) -> str:
    cost = totals.known_cost
    if cost is None:
        return "–"
    digits = 2 if cost >= 1 or cost == 0 else 4
    return f"${cost:,.{digits}f}{'+' if totals.unpriced else ''}"
