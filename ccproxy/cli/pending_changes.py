"""Finds changes in the user's files that the running workers do not use yet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError
from ccproxy.supervisor.control.client import request
from ccproxy.supervisor.control.row import Row

CHANGED = "~"


def changed_labels(fleet: Fleet, rows: Sequence[Row]) -> list[str]:
    """
    Return the labels of running proxies that `ccproxy reload` would replace.

    Reads the modification times of the files first. Only if one is newer than a worker is the
    supervisor asked to compare the contents.
    """
    if not any(_has_newer_file(fleet, row) for row in rows):
        return []
    try:
        plan = request(fleet, "plan").plan
    except CcproxyError:  # the files have mistakes; the caller reports these by itself
        return []
    running = {row.label for row in rows if row.pids}
    return [label for label, change in plan if change == CHANGED and label in running]


def _has_newer_file(fleet: Fleet, row: Row) -> bool:
    if row.uptime_s is None:
        return False
    entry = fleet.entry(row.label)
    files = [fleet.file, *([entry.env_file] if entry is not None else [])]
    started = time.time() - row.uptime_s
    return any(_modified(file) > started for file in files)


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
