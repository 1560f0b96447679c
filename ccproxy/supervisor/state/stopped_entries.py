"""
Saves which entries are stopped, for the next supervisor.

Everything else about a fleet can be learned from its workers. A stopped entry has no worker, and
without this file a new supervisor's first reload would mistake it for a new entry and start it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

from ccproxy.files import read_json, write_atomically

NAME = "unwanted.json"


class StoppedEntries:
    """The labels of stopped entries, in lowercase; read once, written when they change."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self.labels = _read(self._path)

    def set(self, labels: Iterable[str]) -> None:
        """Replace the labels; if the disk is full, only in memory."""
        new = frozenset(labels)
        if new != self.labels:
            self.labels = new
            self._write()

    def restore(self) -> None:
        """Rewrite the file if it was removed."""
        if self.labels and not self._path.exists():
            self._write()

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            if self.labels:
                write_atomically(self._path, json.dumps(sorted(self.labels)) + "\n")
            else:
                self._path.unlink(missing_ok=True)


def _read(path: Path) -> frozenset[str]:
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return frozenset()
    return frozenset(map(str, content)) if isinstance(content, list) else frozenset()
