"""
Who a process is, when it ends, and signals that reach nobody else.

Theory of operation: a pid alone names nobody, because pids are used again. A process is known by
its pid, the moment it was started and the boot it belongs to. The moment is taken from the
kernel's own count since boot (field 22 of /proc/PID/stat), so that a clock that is put right does
not turn every worker into a stranger; where there is no /proc, psutil's create_time serves.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROC = Path("/proc")
_DEAD_STATES = "ZX"


@dataclass(frozen=True, slots=True)
class Identity:
    """One process, now and for ever."""

    pid: int
    start: float
    """Clock ticks since boot (Linux) or unix seconds: only ever compared for equality."""
    boot: str

    def is_alive(self) -> bool:
        """Say whether this very process lives; a zombie does not."""
        return self.boot == boot_id() and start_of(self.pid) == self.start

    def signal(self, number: int) -> bool:
        """Send a signal to this very process; return whether it was there."""
        if not hasattr(os, "pidfd_open"):
            return self.is_alive() and _reached(lambda: os.kill(self.pid, number))
        try:
            pidfd = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            # Looked at after the pidfd was opened: from here on the pid cannot change its meaning.
            return self.is_alive() and _reached(lambda: signal.pidfd_send_signal(pidfd, number))
        finally:
            os.close(pidfd)

    def signal_group(self, number: int) -> bool:
        """Send a signal to the process group that this process leads."""
        try:
            leads = self.is_alive() and os.getpgid(self.pid) == self.pid
        except ProcessLookupError:
            return False
        return leads and _reached(lambda: os.killpg(self.pid, number))


def identify(pid: int) -> Identity | None:
    """Tell who runs under *pid* now; None if nobody does."""
    start = start_of(pid)
    return None if start is None else Identity(pid, start, boot_id())


def has_argument(pid: int, text: str) -> bool:
    """Say whether *text* is one of the arguments that *pid* was started with."""
    try:
        line = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return not PROC.joinpath("self").exists() and text in _arguments_by_psutil(pid)
    return text.encode() in line.split(b"\0")


def own_command_lines() -> Iterator[tuple[int, list[str]]]:
    """Give the pid and the arguments of every process of this user's."""
    if not PROC.joinpath("self").exists():
        yield from _own_command_lines_by_psutil()
        return
    for folder in PROC.glob("[0-9]*"):
        try:
            if folder.stat().st_uid == os.getuid():
                line = (folder / "cmdline").read_bytes()
                yield int(folder.name), os.fsdecode(line).split("\0")
        except OSError:  # it has ended meanwhile
            continue


@cache
def boot_id() -> str:
    """Return what names this boot; after a reboot every record is stale."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil  # costs 20 ms, and only systems without /proc need it

        return str(int(psutil.boot_time()))


def start_of(pid: int) -> float | None:
    """Return the moment at which *pid* was started; None if it does not run."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None if PROC.joinpath("self").exists() else _start_by_psutil(pid)
    # The name in brackets may hold anything, also blanks and brackets.
    state, *numbers = text.rpartition(")")[2].split()
    return None if state in _DEAD_STATES else float(numbers[18])


def age_of(identity: Identity) -> float:
    """Return for how many seconds the process has run, whatever the wall clock did meanwhile."""
    try:
        uptime = float((PROC / "uptime").read_text().split()[0])
    except OSError:
        return max(0.0, time.time() - identity.start)
    return max(0.0, uptime - identity.start / os.sysconf("SC_CLK_TCK"))


def _start_by_psutil(pid: int) -> float | None:
    import psutil  # as above

    try:
        process = psutil.Process(pid)
        dead = process.status() == psutil.STATUS_ZOMBIE
        return None if dead else float(process.create_time())
    except psutil.Error:
        return None


def _arguments_by_psutil(pid: int) -> list[str]:
    import psutil  # as above

    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []


def _own_command_lines_by_psutil() -> Iterator[tuple[int, list[str]]]:
    import psutil  # as above

    for process in psutil.process_iter(["cmdline", "uids"]):
        if process.info["uids"] and process.info["uids"].real == os.getuid():
            yield process.pid, process.info["cmdline"] or []


def _reached(send: Callable[[], None]) -> bool:
    try:
        send()
    except (ProcessLookupError, PermissionError):
        return False
    return True
