"""CPU time and memory of a process and all its children."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psutil

MIB = 2**20


def tree(pid: int) -> list[int]:
    """The process and its descendants; empty if it is gone."""
    try:
        process = psutil.Process(pid)
        return [pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(pids: Sequence[int]) -> float:
    """
    CPU time that *pids* have used, all threads, user and kernel.

    Reads each process's own POSIX clock (nanoseconds), where /proc counts in hundredths.
    """
    total = 0.0
    for pid in pids:
        clock = (~pid << 3) | 2  # clock_getcpuclockid(3), as the kernel encodes it
        try:
            total += time.clock_gettime(clock)
        except OSError:
            continue  # ended in the meantime
    return total


def resident_mib(pids: Sequence[int]) -> float:
    """Resident memory; pages that two of *pids* share count twice."""
    return sum(_memory(pid, "rss") for pid in pids)


def proportional_mib(pids: Sequence[int]) -> float:
    """Memory in which a shared page counts once, divided among those that share it."""
    return sum(_memory(pid, "pss") for pid in pids)


def _memory(pid: int, field: str) -> float:
    try:
        process = psutil.Process(pid)
        memory = process.memory_full_info() if field == "pss" else process.memory_info()
    except psutil.NoSuchProcess:
        return 0.0
    return float(getattr(memory, field)) / MIB
