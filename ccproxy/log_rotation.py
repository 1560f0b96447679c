"""
Log files: one per process, JSON lines, rotated, and deleted by age and total size.

Every process writes its own file, because two processes that share a rotating file lose lines. A
line is one `write()` to a descriptor opened for appending, so a reader never sees a partial line.
Rotation renames `<LABEL>.log` to `<LABEL>.log.<YYYYmmdd_HHMMSS>` and opens a new file, which
`tail -F` follows. A file is rotated when it reaches a size, at local midnight, and when a user
starts a worker (`archive`), but not when a crashed worker is restarted.

A full disk never stops a request: lines that cannot be written are counted, and the count is the
first line written once there is space again. Until then `status` shows the cause.

The format of a worker's lines is defined in `worker/log/lines.py`.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ccproxy.files import open_private

SIZE_LIMIT = 50 * 1024 * 1024
"""Size in bytes at which a file is rotated."""
TOTAL_LIMIT = 1024 * 1024 * 1024
"""Bytes that the archives of one process may take up; the oldest are deleted first."""
CHECK_INTERVAL = 2.0
"""Seconds between checks, made while writing, that the file still exists under its name."""
RETENTION = timedelta(days=3)
"""Age at which an archive is deleted, counted from its last line."""

_ARCHIVE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,40}\.log\.\d{8}_\d{6}")
_STAMP = "%Y%m%d_%H%M%S"
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
"""Flags that make `files.open_private` open a file for appending only."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def log_path(folder: Path, label: str, index: int = 1) -> Path:
    """Return the log file of process *index* (from 1) of a worker; the first has no number."""
    return folder / (f"{label}.log" if index == 1 else f"{label}.{index}.log")


def log_pattern(label: str, labels: Iterable[str]) -> str:
    """
    Return a regular expression for the names of the log files of the worker *label*.

    Another of the *labels* can look like a process of *label*: if there is an entry GLM-4.6,
    GLM-4.6.log belongs to that entry and not to the sixth process of GLM-4.
    """
    longer = (other for other in labels if other.startswith(f"{label}."))
    others = "|".join(map(re.escape, longer))
    return rf"(?!(?:{others})\.(?:\d+\.)?log){re.escape(label)}(?:\.\d+)?\.log"


def crash_file(log: Path) -> Path:
    """Return the file for stdout and stderr of the process that writes *log*: crash output only."""
    return log.with_suffix(".out")


class LogFile:
    """
    The log of one process: appends lines, rotates by size and at midnight.

    Only the constructor raises, and not for a full disk; lines that cannot be written are counted.
    With *is_optional*, for lines that are also shown elsewhere, it never raises.
    """

    def __init__(
        self,
        path: Path,
        *,
        limit: int = SIZE_LIMIT,
        total_limit: int = TOTAL_LIMIT,
        is_optional: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.dropped = 0
        """Lines lost since the last line that could be written."""
        self.dropped_total = 0
        """Lines lost since the file was opened."""
        self.trouble = ""
        """Why the last line could not be written, as text for the user; empty if it was written."""
        self._limit = limit
        self._total_limit = total_limit
        self._clock = clock
        self._torn = False
        self._fd = -1
        try:
            self._open()
        except OSError as error:
            if error.errno not in _NO_ROOM and not is_optional:
                raise
            self._note_trouble(error)

    def write(self, lines: bytes) -> None:
        """Append one or more lines (without the final newline); rotate first if due."""
        now = self._clock()
        if self._fd >= 0 and (now >= self._day_ends or self._size >= self._limit):
            self._rotate(now)
        elif self._fd >= 0 and abs(now - self._checked) >= CHECK_INTERVAL:
            self._reopen_if_replaced(now)
        reported = not self.dropped or self._append(_dropped_line(self.dropped, now))
        if reported and self._append(lines):
            self.dropped = 0
            self.trouble = ""
        else:
            count = lines.count(b"\n") + 1
            self.dropped += count
            self.dropped_total += count

    def close(self) -> None:
        """Close the file; no other call may follow."""
        if self._fd >= 0:
            os.close(self._fd)

    def _open(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = open_private(self.path, APPEND)
        self._torn = False
        status = os.fstat(self._fd)
        self._size = status.st_size
        self._status = status
        self._checked = self._clock()
        # After a restart, a file last written yesterday is still due for yesterday's rotation.
        since = min(status.st_mtime, self._clock()) if status.st_size else self._clock()
        self._day_ends = _next_midnight(since)

    def _rotate(self, now: float) -> None:
        try:
            archive(self.path, now=now)
            self._limit_archives()
            old = self._fd
            self._open()
            os.close(old)
        except OSError:
            # Continue in the oversized file; retry in a minute.
            self._day_ends = now + 60
            self._size = 0

    def _limit_archives(self) -> None:
        """Delete this log's oldest archives until the rest fit into the total limit."""
        remaining = self._total_limit
        for path in sorted(self.path.parent.glob(f"{self.path.name}.*"), reverse=True):
            if _ARCHIVE.fullmatch(path.name) and _is_regular(path):
                remaining -= path.stat().st_size
                if remaining < 0:
                    path.unlink(missing_ok=True)

    def _reopen_if_replaced(self, now: float) -> None:
        """Open a new file if another program removed or renamed the current one."""
        self._checked = now
        try:
            if os.path.samestat(self.path.lstat(), self._status):
                return
        except FileNotFoundError:
            pass
        except OSError:
            return
        old = self._fd
        with suppress(OSError):  # retried at the next check
            self._open()
            os.close(old)

    def _append(self, lines: bytes) -> bool:
        data = b"\n" + lines + b"\n" if self._torn else lines + b"\n"
        try:
            if self._fd < 0:
                self._open()
            written = os.write(self._fd, data)
        except OSError as error:
            self._note_trouble(error)
            return False
        self._size += written
        self._torn = written < len(data)
        if self._torn:
            # A partial write means that the file system has just become full.
            self._note_trouble(OSError(errno.ENOSPC, ""))
        return not self._torn

    def _note_trouble(self, error: OSError) -> None:
        full = error.errno in _NO_ROOM
        why = "disk full" if full else f"cannot log ({error.strerror})"
        self.trouble = f"{why}: {self.path.parent}"


def archive(path: Path, *, now: float) -> Path | None:
    """
    Rename the log at *path* to its archive name; return the new path, or None if there is no log.

    Only the caller may have the file open. An archive is never overwritten: a second one within
    the same second gets the next free second as its timestamp.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return None
    at = datetime.fromtimestamp(now)
    target = path.with_name(f"{path.name}.{at.strftime(_STAMP)}")
    while target.exists():
        at += timedelta(seconds=1)
        target = path.with_name(f"{path.name}.{at.strftime(_STAMP)}")
    path.rename(target)
    return target


def archive_label(
    folder: Path, label: str, labels: Iterable[str] = (), *, now: float | None = None
) -> tuple[Path, ...]:
    """
    Archive all logs of a worker before a user starts it; return the archives.

    *labels* are the labels of all workers. Call this only while none of the worker's processes
    is running, because they would keep writing to the archive.
    """
    name = re.compile(log_pattern(label, labels))
    at = time.time() if now is None else now
    logs = [path for path in _files(folder) if name.fullmatch(path.name)]
    return tuple(target for path in logs if (target := archive(path, now=at)) is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """An archive that retention deleted (or would delete, in a dry run)."""

    path: Path
    size: int


def prune(
    folder: Path, *, now: float | None = None, keep: timedelta = RETENTION, dry_run: bool = False
) -> tuple[Removed, ...]:
    """
    Delete the archives whose last line is older than *keep*; return what was deleted.

    Only regular files whose names match the archive pattern are considered. Current logs have
    no timestamp in their names and are never touched; symbolic links are not followed.
    """
    oldest = (time.time() if now is None else now) - keep.total_seconds()
    removed = []
    for path in _files(folder):
        if not _ARCHIVE.fullmatch(path.name):
            continue
        try:
            status = path.lstat()
        except FileNotFoundError:  # deleted by another cleanup
            continue
        if status.st_mtime >= oldest:
            continue
        if not dry_run:
            path.unlink(missing_ok=True)
        removed.append(Removed(path=path, size=status.st_size))
    return tuple(removed)


def _dropped_line(count: int, now: float) -> bytes:
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    line = {"time": at, "level": "warning", "event": "log.dropped", "lines": count}
    return json.dumps(line).encode()


def _next_midnight(since: float) -> float:
    day = datetime.fromtimestamp(since)
    return datetime.combine(day.date() + timedelta(days=1), datetime.min.time()).timestamp()


def _files(folder: Path) -> list[Path]:
    """Return the regular files of *folder*, sorted by name; empty if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _is_regular(path))


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:  # rotated or deleted since the folder was read
        return False
