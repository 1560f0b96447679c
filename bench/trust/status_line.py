"""The cost of one run of the status line's program, compared with an idle interpreter."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.trust.figures import Figure, at_most, exactly
from bench.trust.provider import serving
from bench.trust.worker import LABEL, running

KEYS = ["sk-a-key-of-trust-0000"]
RUNS = 100
"""Runs of each program, alternating. The figures are the least CPU time and the median duration."""
NOTHING = ("-c", "pass")
INPUT = b'{"session_id": "s1", "model": {"id": "trust:big"}}'


async def status_line() -> list[Figure]:
    """Run the status line's program and an idle interpreter 100 times each."""
    async with serving() as provider, running(provider.url, KEYS) as worker:
        program = ("-P", "-m", "ccproxy.statusline", "--home", str(worker.home), "--label", LABEL)
        pairs = [(_run(program), _run(NOTHING)) for _ in range(RUNS)]
    lines, nothing = zip(*pairs, strict=True)
    cpu, least = (min(run.cpu for run in runs) * 1000 for runs in (lines, nothing))
    wall, idle = (statistics.median(run.seconds for run in runs) for runs in (lines, nothing))
    without = sum(not run.output.startswith(LABEL.encode()) for run in lines)
    note = f"{cpu:.0f} and {least:.0f} ms"
    wall_note = f"{wall * 1000:.0f} and {idle * 1000:.0f} ms; at most 100 ms on an idle machine"
    return [
        at_most("times the CPU time of an interpreter", round(cpu / least, 2), 4, note),
        at_most("times its duration", round(wall / idle, 2), 4, wall_note),
        exactly("runs without a line", without, 0),
    ]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a program: its CPU time and duration in seconds, and its output."""

    cpu: float
    seconds: float
    output: bytes


def _run(arguments: Sequence[str]) -> Run:
    # This blocks the event loop, but no other task needs it.
    before, began = _children_cpu(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], input=INPUT, capture_output=True, check=True
    )
    seconds = time.perf_counter() - began
    return Run(_children_cpu() - before, seconds, done.stdout)


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
