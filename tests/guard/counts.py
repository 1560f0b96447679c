"""
Counts of what a work costs, which are the same on every machine, however busy it is.

Two of them. Calls of functions, Python's and C's: they depend on nothing but the source and the
minor version of Python. Instructions, by callgrind: they see what C code does with the bytes, too,
but belong to one build of Python, since compilers differ by more than a slide that matters.
"""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

TIMES = {"small request": 50, "turn": 5, "text chunk": 400, "argument chunk": 400}
"""How often callgrind sees a work: enough to stand out of the start of Python."""

_COLLECTED = re.compile(rb"Collected : (\d+)")


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions one run of *work* calls."""
    count = 0

    def note(_frame: object, event: str, _arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.disable()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def instructions_of_each() -> dict[str, int]:
    """Return the instructions of one run of every work, counted by callgrind."""
    runs = [("turn", 0), *TIMES.items()]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        nothing, *counted = pool.map(_instructions, runs)
    return {
        name: (count - nothing) // times
        for (name, times), count in zip(TIMES.items(), counted, strict=True)
    }


def _instructions(run: tuple[str, int]) -> int:
    name, times = run
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command += [sys.executable, "-m", "tests.guard.work", name, str(times)]
    environ = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environ, capture_output=True, check=True)
    found = _COLLECTED.search(done.stderr)
    if found is None:
        raise RuntimeError(f"callgrind said nothing: {done.stderr[-500:]!r}")
    return int(found[1])
