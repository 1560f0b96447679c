"""
Detects changes of the wall clock, so that they do not cause deletions.

The age of archives and turns depends on the wall clock. A clock that jumps ahead by ten days would
make all of them expire at once. Before anything is deleted by age, the time since the last check
by the wall clock is compared with the time by the kernel's clock since boot. After a jump, nothing
is deleted for a day, during which the clock may be corrected. After a reboot there is no earlier
check, and the wall clock is trusted.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ccproxy.files import read_json, write_atomically

NAME = "clock.json"
JUMP_SECONDS = 3600.0
"""Time services make smaller changes, which do not matter for retention."""
DISTRUST_SECONDS = 86400.0
"""Seconds without deletions after a jump."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@cache
def boot_id() -> str:
    """Return the identifier of this boot of the machine."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        import psutil  # takes 20 ms to import; only systems without /proc need it

        return str(int(psutil.boot_time()))


def seconds_since_boot() -> float:
    """Return the seconds since boot, including suspended time."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class _Check(NamedTuple):
    wall: float
    steady: float
    boot: str
    jump: float = 0.0
    """Seconds by which the wall clock last jumped ahead or back."""
    until: float = 0.0
    """When the clock is trusted again, in seconds since boot."""


class WallClock:
    """The wall clock of the fleet with the state in *folder*; processes share the last check."""

    def __init__(
        self,
        folder: Path,
        *,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = seconds_since_boot,
    ) -> None:
        self._path = folder / NAME
        self._wall = wall
        self._steady = steady

    def jump(self, *, is_dry_run: bool = False) -> float:
        """
        Return the seconds by which the clock jumped in the last day; 0 if it did not.

        The check is recorded, except in a dry run.
        """
        check = _Check(self._wall(), self._steady(), boot_id())
        last = self._last()
        if last is not None and last.boot == check.boot:
            moved = (check.wall - last.wall) - (check.steady - last.steady)
            if abs(moved) >= JUMP_SECONDS:
                check = check._replace(jump=moved, until=check.steady + DISTRUST_SECONDS)
            elif check.steady < last.until:
                check = check._replace(jump=last.jump, until=last.until)
        if not is_dry_run and self._path.parent.is_dir():
            with contextlib.suppress(OSError):
                write_atomically(self._path, json.dumps(check._asdict()) + "\n")
        return check.jump

    def _last(self) -> _Check | None:
        try:
            fields = read_json(self._path)
            times = {name: float(value) for name, value in fields.items() if name != "boot"}
            return _Check(boot=str(fields["boot"]), **times)
        except (OSError, AttributeError, KeyError, TypeError, ValueError, OverflowError):
            return None


def describe_jump(seconds: float) -> str:
    """Describe the jump of the clock for the user."""
    size = abs(seconds)
    amount = f"{size / 86400:.0f} d" if size >= 86400 else f"{size / 3600:.0f} h"
    return f"clock moved by {'-' if seconds < 0 else ''}{amount}"
