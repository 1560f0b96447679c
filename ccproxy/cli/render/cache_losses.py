"""The cost of prompt cache misses, for `usage --cache`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ccproxy.cli.render.request_lines import cause, clock, short_id
from ccproxy.cli.render.table import Column, table
from ccproxy.text import format_dollars, printable

if TYPE_CHECKING:
    from ccproxy.ipc.activity import CacheLoss, RequestTimeline

MAX_LOSSES = 20
_SUM_COLUMNS = (
    Column(head="ENTRY"),
    Column(head="CAUSE"),
    Column(head="REQUESTS", align_right=True),
    Column(head="TOKENS PAID AGAIN", align_right=True),
    Column(head="COST", align_right=True),
)
_LOSS_COLUMNS = (
    Column(head="TIME"),
    Column(head="ID", drop_order=2),
    Column(head="SESSION", drop_order=1),
    Column(head="ENTRY"),
    Column(head="CAUSE"),
    Column(head="CACHED", align_right=True, drop_order=3),
    Column(head="COST", align_right=True),
)


def cache_lines(requests: Iterable[RequestTimeline], *, width: int | None) -> list[str]:
    """Return the totals by cause and the most recent losses, or an empty list."""
    losses = [(one, one.cache_loss) for one in requests if one.cache_loss is not None]
    if not losses:
        return []
    sums = table(_SUM_COLUMNS, _sums(losses), width=width)
    last = [_cells(one, loss) for one, loss in losses[-MAX_LOSSES:]]
    return [*sums, "", *table(_LOSS_COLUMNS, last, width=width)]


def _sums(losses: Sequence[tuple[RequestTimeline, CacheLoss]]) -> list[tuple[str, ...]]:
    groups: dict[tuple[str, str], list[CacheLoss]] = defaultdict(list)
    for one, loss in losses:
        groups[one.label, loss.cause].append(loss)
    rows: list[tuple[str, ...]] = []
    for (label, name), group in sorted(groups.items(), key=lambda item: -_lost(item[1])):
        costs = [loss.cost for loss in group if loss.cost is not None]
        cost = format_dollars(sum(costs) if costs else None, is_partial=len(costs) < len(group))
        text = name.replace("_", " ")
        rows.append((printable(label), text, f"{len(group):,}", f"{_lost(group):,}", cost))
    return rows


def _lost(losses: Iterable[CacheLoss]) -> int:
    return sum(loss.lost for loss in losses)


def _cells(one: RequestTimeline, loss: CacheLoss) -> tuple[str, ...]:
    return (
        clock(one.started),
        short_id(one.id),
        printable(one.session[:8]),
        printable(one.label),
        printable(cause(loss)),
        f"{loss.before:,} → {loss.after:,}",
        format_dollars(loss.cost),
    )
