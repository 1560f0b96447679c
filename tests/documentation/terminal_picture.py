"""A picture of a terminal as SVG, with real text and without external resources."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

from pyte.screens import Char

WIDTH, HEIGHT = 8.4, 18
"""Width and height of a cell in pixels, at the font size below."""
MARGIN, BAR = 16, 34
_COLORS = {
    "default": "#d6d8df",
    "black": "#3b3f4a",
    "red": "#f07178",
    "green": "#a5d57d",
    "brown": "#f2c572",
    "blue": "#7aa7f7",
    "magenta": "#c79bf2",
    "cyan": "#7fd4e0",
    "white": "#d6d8df",
}
_STYLE = (
    "text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
    "white-space:pre}"
)


def picture(rows: Sequence[Sequence[Char]], *, title: str, description: str) -> str:
    """Draw *rows*; *description* is for readers who cannot see the picture."""
    columns = max((len(_trimmed(row)) for row in rows), default=0)
    width = round(columns * WIDTH + 2 * MARGIN)
    height = round(len(rows) * HEIGHT + MARGIN + BAR)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(description)}">',
        f"<title>{escape(description)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#1c1e26"/>',
        *(
            f'<circle cx="{18 + 18 * index}" cy="17" r="5.5" fill="{color}"/>'
            for index, color in enumerate(("#f07178", "#f2c572", "#a5d57d"))
        ),
        f'<text x="{width / 2:g}" y="22" text-anchor="middle" fill="#8b90a0">',
        f"{escape(title)}</text>",
    ]
    for number, row in enumerate(rows):
        lines += _row(row, y=BAR + MARGIN + number * HEIGHT)
    return "\n".join([*lines, "</svg>", ""])


def plain_row(text: str, *, color: str = "default", bold: bool = False) -> list[Char]:
    """Return the cells of a line of text."""
    return [Char(char, fg=color, bold=bold) for char in text]


def _trimmed(row: Sequence[Char]) -> list[Char]:
    cells = list(row)
    while cells and cells[-1].data.strip() == "" and cells[-1].bg == "default":
        cells.pop()
    return cells


def _row(row: Sequence[Char], *, y: float) -> list[str]:
    """Draw the runs of equal style in a row."""
    lines = []
    column = 0
    for (foreground, background, bold), cells in groupby(_trimmed(row), key=_look):
        text = "".join(cell.data for cell in cells)
        count = len(text)
        x = MARGIN + column * WIDTH
        column += count
        if background:
            lines.append(
                f'<rect x="{x:g}" y="{y - 13:g}" width="{count * WIDTH:g}" height="{HEIGHT}" '
                f'fill="{background}"/>'
            )
        if text.strip():
            weight = ' font-weight="bold"' if bold else ""
            # The length keeps the columns aligned in any font.
            lines.append(
                f'<text x="{x:g}" y="{y:g}" fill="{foreground}"{weight} '
                f'textLength="{count * WIDTH:g}" lengthAdjust="spacingAndGlyphs">'
                f"{escape(text)}</text>"
            )
    return lines


def _look(cell: Char) -> tuple[str, str, bool]:
    foreground = _color(cell.fg)
    background = "" if cell.bg == "default" else _color(cell.bg)
    if cell.reverse:
        foreground, background = background or "#1c1e26", foreground
    return foreground, background, cell.bold


def _color(name: str) -> str:
    if name in _COLORS:
        return _COLORS[name]
    if name.startswith("bright"):
        return _COLORS.get(name.removeprefix("bright"), _COLORS["default"])
    return f"#{name}"
