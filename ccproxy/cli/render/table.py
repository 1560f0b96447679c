"""
Tables for people.

Every table of the command line is made here. On a terminal that is too narrow, whole columns are
left out, the least important first, and a last line names them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

GAP = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table."""

    head: str = ""
    align_right: bool = False
    drop_order: int = 0
    """1 is left out first; 0 is never left out."""


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    indent: str = "",
) -> list[str]:
    """
    Return the lines of the table; without a head if no column has one.

    Cells may contain colors. *width* is in characters; None means without a limit.
    """
    heads = [column.head for column in columns]
    lines = [heads, *rows] if any(heads) else list(rows)
    widths = [max((_length(line[at]) for line in lines), default=0) for at in range(len(columns))]
    visible = _visible(columns, widths, width=None if width is None else width - len(indent))
    text = [
        indent + GAP.join(_padded(line[at], widths[at], columns[at]) for at in visible).rstrip()
        for line in lines
    ]
    hidden = [column.head for at, column in enumerate(columns) if at not in visible]
    if hidden:
        text.append(f"{indent}(terminal too narrow for: {', '.join(hidden)})")
    return text


def _visible(columns: Sequence[Column], widths: Sequence[int], *, width: int | None) -> list[int]:
    visible = list(range(len(columns)))
    droppable = [at for at in visible if columns[at].drop_order]
    droppable.sort(key=lambda at: columns[at].drop_order)
    for at in droppable:
        total = sum(widths[at] for at in visible) + len(GAP) * (len(visible) - 1)
        if width is None or total <= width:
            break
        visible.remove(at)
    return visible


def _padded(cell: str, width: int, column: Column) -> str:
    padding = " " * (width - _length(cell))
    return padding + cell if column.align_right else cell + padding


def _length(cell: str) -> int:
    """Return the number of visible characters."""
    return len(click.unstyle(cell))
