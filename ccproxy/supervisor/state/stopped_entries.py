"""
Which entries are not to run, kept beyond the supervisor's death.

Whatever else there is to know about a fleet is read off its workers. That an entry was stopped, or
never started, leaves no worker to read it off: without this a new supervisor's first reload would
take such an entry for a new one and start it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

from ccproxy.files import read_json, write_atomically

NAME = "unwanted.json"


class StoppedEntries:
    """The labels, in lower case; read once, written whenever they change."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self.labels = _read(self._path)

    def note(self, labels: Iterable[str]) -> None:
        """Keep *labels*; on a full disk in memory only."""
        wanted = frozenset(labels)
        if wanted == self.labels:
            return
        self.labels = wanted
        with contextlib.suppress(OSError):
            if wanted:
                write_atomically(self._path, json.dumps(sorted(wanted)) + "\n")
            else:
                self._path.unlink(missing_ok=True)


def _read(path: Path) -> frozenset[str]:
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return frozenset()
    return frozenset(map(str, content)) if isinstance(content, list) else frozenset()
