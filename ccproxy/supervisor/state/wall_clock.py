"""
Notices when somebody has moved the wall clock, so that nothing is thrown away for it.

The age of an archive is a matter of the wall clock. A clock that leaps ahead by ten days would
make every archive old at once. So whoever looks at ages first compares how far the wall clock has
come since the last look with how far the kernel's count since boot has. After a reboot there is
nothing to compare with, and the clock is believed.
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
LEAP = 3600.0
"""Seconds; less is put right by any time service, and too little to matter for retention."""


def steady() -> float:
    """Return seconds since boot, those of a suspended machine included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class WallClock:
    """The wall clock of a fleet, as it was last looked at by any process."""

    def __init__(self, folder: Path, *, wall: Callable[[], float] = time.time) -> None:
        self._path = folder / NAME
        self._wall = wall

    def leap(self) -> float:
        """Return by how many seconds the clock was moved ahead or back; 0 if it was not."""
        try:
            seen = read_json(self._path)
            if seen["boot"] != boot_id():
                return 0.0
            moved = (self._wall() - float(seen["wall"])) - (steady() - float(seen["steady"]))
        except (OSError, KeyError, TypeError, ValueError):
            return 0.0
        return moved if abs(moved) >= LEAP else 0.0

    def note(self) -> None:
        """Believe the clock as it stands."""
        fields = {"wall": self._wall(), "steady": steady(), "boot": boot_id()}
        with contextlib.suppress(OSError):
            write_atomically(self._path, json.dumps(fields) + "\n")


def leap_text(seconds: float) -> str:
    """Say how far a clock was moved."""
    size = abs(seconds)
    amount = f"{size / 86400:.0f} d" if size >= 86400 else f"{size / 3600:.0f} h"
    return f"clock moved by {'-' if seconds < 0 else ''}{amount}"
