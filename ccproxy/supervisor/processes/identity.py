"""
Identifies a process, and sends signals to that process only.

A pid alone does not identify a process, because pids are reused. An `Identity` is the pid, the
start time and the boot. The start time is the kernel's count since boot (field 22 of
/proc/PID/stat), which a change of the wall clock does not affect. Systems without /proc use
psutil's create_time.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ccproxy.store.wall_clock import boot_id

PROC = Path("/proc")
_DEAD_STATES = "ZX"


@dataclass(frozen=True, slots=True)
class Identity:
    """One process, distinguished from every earlier and later process with its pid."""

    pid: int
    start: float
    """Clock ticks since boot (Linux) or Unix seconds; compared for equality only."""
    boot: str

    def is_alive(self) -> bool:
        """Return True if this process exists and is not a zombie."""
        return self.boot == boot_id() and start_of(self.pid) == self.start

    def signal(self, number: int) -> bool:
        """Send a signal to this process; return whether it existed."""
        if not hasattr(os, "pidfd_open"):
            return self.is_alive() and _delivered(lambda: os.kill(self.pid, number))
        try:
            pidfd = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            # Checked after the pidfd was opened: from here on the pid cannot be reused.
            return self.is_alive() and _delivered(lambda: signal.pidfd_send_signal(pidfd, number))
        finally:
            os.close(pidfd)

    def signal_group(self, number: int) -> bool:
        """Send a signal to the group that this process leads; return whether it was sent."""
        try:
            is_leader = self.is_alive() and os.getpgid(self.pid) == self.pid
        except ProcessLookupError:
            return False
        return is_leader and _delivered(lambda: os.killpg(self.pid, number))

    def kill_orphans(self) -> None:
        """
        Kill the processes that remain in the group of this process after its exit.

        The kernel gives its pid to no other process while the group exists.
        """
        if start_of(self.pid) is None:
            _delivered(lambda: os.killpg(self.pid, signal.SIGKILL))


def identify(pid: int) -> Identity | None:
    """Return the identity of the process that currently has *pid*, or None."""
    start = start_of(pid)
    return None if start is None else Identity(pid, start, boot_id())


def command_line(pid: int) -> list[str]:
    """Return the command-line arguments of *pid*; empty if they cannot be read."""
    try:
        line = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return [] if _has_proc() else _command_line_by_psutil(pid)
    return _arguments(line)


def _arguments(line: bytes) -> list[str]:
    """Return the arguments in *line*, the content of /proc/PID/cmdline."""
    arguments = os.fsdecode(line).rstrip("\0").split("\0")
    if (
        len(arguments) == 1 and " " in arguments[0]
    ):  # a title set by a forked worker (`worker/fork_server.py`)
        with contextlib.suppress(ValueError):
            return shlex.split(arguments[0])
    return arguments


def option_of(arguments: list[str], name: str) -> str | None:
    """Return the value after the option *name* in *arguments*, or None."""
    return dict(pairwise(arguments)).get(name)


def command_lines_of_this_user() -> Iterator[tuple[int, list[str]]]:
    """Yield the pid and the arguments of every process of this user."""
    if not _has_proc():
        yield from _command_lines_by_psutil()
        return
    for folder in PROC.glob("[0-9]*"):
        try:
            if folder.stat().st_uid == os.getuid():
                line = (folder / "cmdline").read_bytes()
                yield int(folder.name), _arguments(line)
        except OSError:  # the process has since exited
            continue


def start_of(pid: int) -> float | None:
    """Return the start time of *pid* as in `Identity`, or None if it is not running."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None if _has_proc() else _start_by_psutil(pid)
    # The program's name, in brackets, may itself contain spaces and brackets.
    state, *numbers = text.rpartition(")")[2].split()
    return None if state in _DEAD_STATES else float(numbers[18])


def age_of(identity: Identity) -> float:
    """Return the seconds since the process started, independent of the wall clock."""
    try:
        uptime = float((PROC / "uptime").read_text().split()[0])
    except OSError:
        return max(0.0, time.time() - identity.start)
    return max(0.0, uptime - identity.start / os.sysconf("SC_CLK_TCK"))


def _has_proc() -> bool:
    return PROC.joinpath("self").exists()


def _start_by_psutil(pid: int) -> float | None:
    import psutil  # slow to import

    try:
        process = psutil.Process(pid)
        is_dead = process.status() == psutil.STATUS_ZOMBIE
        return None if is_dead else float(process.create_time())
    except psutil.Error:
        return None


def _command_line_by_psutil(pid: int) -> list[str]:
    import psutil  # slow to import

    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []


def _command_lines_by_psutil() -> Iterator[tuple[int, list[str]]]:
    import psutil  # slow to import

    for process in psutil.process_iter(["cmdline", "uids"]):
        if process.info["uids"] and process.info["uids"].real == os.getuid():
            yield process.pid, process.info["cmdline"] or []


def _delivered(send: Callable[[], None]) -> bool:
    try:
        send()
    except (ProcessLookupError, PermissionError):
        return False
    return True
