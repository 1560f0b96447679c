"""The live view without Textual: a refreshed screen, or sentences for screen readers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

import click

from ccproxy.cli.render.table import table
from ccproxy.cli.render.terminal import columns, show
from ccproxy.cli.top.fleet_view import Snapshot, SnapshotSource
from ccproxy.cli.top.view_text import (
    ENTRY_COLUMNS,
    REQUEST_COLUMNS,
    entry_cells,
    entry_sentence,
    request_cells_of_view,
    requests_of,
    summary,
    troubles_of,
)

_CLEAR_SCREEN = "\x1b[H\x1b[J"
MAX_REQUESTS = 10

Wait = Callable[[float], None]


def refresh(view: SnapshotSource, *, interval: float, wait: Wait = time.sleep) -> None:
    """Print the view repeatedly until interrupted."""
    while True:
        start = _CLEAR_SCREEN if sys.stdout.isatty() else ""
        show(start + screen(view.snapshot()))
        wait(interval)


def speak(view: SnapshotSource, *, interval: float, wait: Wait = time.sleep) -> None:
    """Print sentences: first for the whole fleet, then only those that changed."""
    spoken_texts: dict[str, str] = {}
    while True:
        snapshot = view.snapshot()
        for name, text in sentences(snapshot):
            if spoken_texts.get(name) != text:
                show(text)
                spoken_texts[name] = text
        wait(interval)


def screen(snapshot: Snapshot) -> str:
    """Return the view as tables."""
    width = columns()
    entries = [entry_cells(row, snapshot) for row in snapshot.rows]
    requests = requests_of(snapshot, failed=False)[:MAX_REQUESTS]
    lines = [summary(snapshot), "", *table(ENTRY_COLUMNS, entries, width=width)]
    if troubles := troubles_of(snapshot.rows):
        lines += ["", *troubles]
    cells = [request_cells_of_view(one, snapshot) for one in requests]
    return "\n".join([*lines, "", *table(REQUEST_COLUMNS, cells, width=width)])


def sentences(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """Yield sentences about entries and failed requests, each with its label or id."""
    for row in snapshot.rows:
        yield row.label, entry_sentence(row, snapshot)
    for one in reversed(requests_of(snapshot, failed=True)):
        cells = " ".join(request_cells_of_view(one, snapshot))
        yield one.id, f"failed: {click.unstyle(cells)}"
