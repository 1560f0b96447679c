"""
Detects that the wall clock was changed, so that nothing is deleted because of it.

The age of an archive depends on the wall clock. A clock that jumps ahead by ten days would make
every archive old at once. Before deleting by age, the distance that the wall clock has moved since
the last check is compared with that of the kernel's clock since boot. After a reboot there is no
earlier check, and the wall clock is trusted.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from ccproxy.files import read_json, write_atomically
from ccproxy.supervisor.processes.identity import boot_id

NAME = "clock.json"
JUMP_SECONDS = 3600.0
"""Smaller changes are made by time services, and do not matter for retention."""


def seconds_since_boot() -> float:
    """Return seconds since boot, including the time that the machine was suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class WallClock:
    """The wall clock of a fleet, as it was when any process last checked it."""

    def __init__(self, folder: Path, *, wall: Callable[[], float] = time.time) -> None:
        self._path = folder / NAME
        self._wall = wall

    def jump(self) -> float:
        """Return the seconds by which the clock was moved ahead or back; 0 if it was not."""
        try:
            last = read_json(self._path)
            if last["boot"] != boot_id():
                return 0.0
            elapsed = seconds_since_boot() - float(last["steady"])
            moved = (self._wall() - float(last["wall"])) - elapsed
        except (OSError, KeyError, TypeError, ValueError):
            return 0.0
        return moved if abs(moved) >= JUMP_SECONDS else 0.0

    def save(self) -> None:
        """Record the present time as correct."""
        fields = {"wall": self._wall(), "steady": seconds_since_boot(), "boot": boot_id()}
        with contextlib.suppress(OSError):
            write_atomically(self._path, json.dumps(fields) + "\n")


def describe_jump(seconds: float) -> str:
    """Return how far the clock was moved, for the user."""
    size = abs(seconds)
    amount = f"{size / 86400:.0f} d" if size >= 86400 else f"{size / 3600:.0f} h"
    return f"clock moved by {'-' if seconds < 0 else ''}{amount}"
