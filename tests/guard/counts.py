"""
Two cost figures that do not depend on the load of the machine.

Function calls, of Python and C functions, depend only on the source and the minor version of
Python. Instructions, counted by callgrind, include the work of C code, but are comparable only for
one build of Python: compilers differ by more than a regression that matters.
"""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

TIMES = {"small request": 50, "turn": 5, "text chunk": 400, "argument chunk": 400}
"""The number of runs under callgrind: enough to outweigh the start of Python."""
RECORDED_TIMES = {"key": 400, "key of a session": 400}
"""The same for workloads that are only recorded, because their calls are guarded."""

_COLLECTED = re.compile(rb"Collected : (\d+)")


def calls_of(work: Callable[[], object]) -> int:
    """Return the number of function calls in one run of *work*."""
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


def instructions_of_each(works: Mapping[str, int] = TIMES) -> dict[str, int]:
    """Return the number of instructions in one run of each of *works*, counted by callgrind."""
    runs = [("turn", 0), *works.items()]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        nothing, *counted = pool.map(_instructions, runs)
    return {
        name: (count - nothing) // times
        for (name, times), count in zip(works.items(), counted, strict=True)
    }


def _instructions(run: tuple[str, int]) -> int:
    name, times = run
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command += [sys.executable, "-m", "tests.guard.work", name, str(times)]
    environ = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environ, capture_output=True, check=True)
    match = _COLLECTED.search(done.stderr)
    if match is None:
        raise RuntimeError(f"callgrind said nothing: {done.stderr[-500:]!r}")
    return int(match[1])
