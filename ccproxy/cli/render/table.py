"""
Human-readable tables.

Every table of the command line is built here. On a terminal that is too narrow, long cells are
shortened. If that is not enough, whole columns are dropped, the least important first, and a final
line names them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import click

from ccproxy.text import shortened as text_shortened
from ccproxy.text import text_width

GAP = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table."""

    head: str = ""
    align_right: bool = False
    drop_order: int = 0
    """The order in which columns are dropped: 1 goes first, 0 is never dropped."""
    least: int = 0
    """The minimum width to which cells may be shortened; 0 means that they are never shortened."""


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    indent: str = "",
) -> list[str]:
    """
    Return the lines of the table, without a header if no column has a head.

    Cells may contain colors. *width* is in characters; None means no limit.
    """
    heads = [column.head for column in columns]
    lines = [heads, *rows] if any(heads) else list(rows)
    widths = _fitted(columns, lines, width=None if width is None else width - len(indent))
    text = [
        indent + GAP.join(_padded(line[at], widths[at], columns[at]) for at in widths).rstrip()
        for line in lines
    ]
    hidden = [column.head for at, column in enumerate(columns) if at not in widths]
    if hidden:
        text.append(f"{indent}(terminal too narrow for: {', '.join(hidden)})")
    return text


def shortened(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int
) -> list[tuple[str, ...]]:
    """Return the cells of *rows*, shortened so that, if possible, all columns fit."""
    required = [replace(column, drop_order=0) for column in columns]
    widths = _fitted(required, [[column.head for column in columns], *rows], width=width)
    return [tuple(_shortened(row[at], widths[at]) for at in widths) for row in rows]


def _fitted(
    columns: Sequence[Column], lines: Sequence[Sequence[str]], *, width: int | None
) -> dict[int, int]:
    """Return the widths of the visible columns by index."""
    widths = {at: max((_width(one[at]) for one in lines), default=0) for at in range(len(columns))}
    if width is None:
        return widths
    least = {at: min(size, columns[at].least or size) for at, size in widths.items()}
    droppable = [at for at in widths if columns[at].drop_order]
    droppable.sort(key=lambda at: columns[at].drop_order, reverse=True)
    while droppable and _total(least) > width:
        del least[droppable.pop()]
    fitted = {at: min(widths[at], max(least[at], width)) for at in least}
    while _total(fitted) > width:
        elastic = [at for at in fitted if fitted[at] > least[at]]
        if not elastic:
            break
        fitted[max(elastic, key=fitted.__getitem__)] -= 1
    return fitted


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)


def _shortened(text: str, width: int) -> str:
    """Return *text* in at most *width* columns; it loses its color if it is shortened."""
    return text if _width(text) <= width else text_shortened(click.unstyle(text), width)


def _padded(cell: str, width: int, column: Column) -> str:
    text = _shortened(cell, width)
    padding = " " * (width - _width(text))
    return padding + text if column.align_right else text + padding


def _width(text: str) -> int:
    """Return the number of terminal columns that *text*, which may contain colors, fills."""
    return text_width(click.unstyle(text))
