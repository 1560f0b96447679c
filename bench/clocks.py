"""CPU time and memory of a process and all its children."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psutil

MIB = 2**20


def tree(pid: int) -> list[int]:
    """Return the process and its descendants; empty if it has exited."""
    try:
        process = psutil.Process(pid)
        return [pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(pids: Sequence[int]) -> float:
    """
    Return the CPU seconds used by *pids*: all threads, user and kernel time.

    The source is each process's POSIX clock, in nanoseconds; /proc counts hundredths of a second.
    """
    total = 0.0
    for pid in pids:
        clock = (~pid << 3) | 2  # the encoding of clock_getcpuclockid(3)
        try:
            total += time.clock_gettime(clock)
        except OSError:
            continue  # has exited since the tree was read
    return total


def resident_mib(pids: Sequence[int]) -> float:
    """Return the resident memory; a page that two of *pids* share counts twice."""
    return sum(_memory(pid, "rss") for pid in pids)


def proportional_mib(pids: Sequence[int]) -> float:
    """Return the proportional memory: a shared page is divided among its processes."""
    return sum(_memory(pid, "pss") for pid in pids)


def _memory(pid: int, field: str) -> float:
    try:
        process = psutil.Process(pid)
        memory = process.memory_full_info() if field == "pss" else process.memory_info()
    except psutil.NoSuchProcess:
        return 0.0
    return float(getattr(memory, field)) / MIB
