"""
Log files: one per process, JSON lines, rotated, redacted and thrown away by age.

Theory of operation: every process writes a file of its own, because two processes that share a
rotating file lose lines. A line is one `write()` to a descriptor opened for appending, so a reader
never sees half of one. Rotation renames `<LABEL>.log` to `<LABEL>.log.<YYYYmmdd_HHMMSS>` and opens
a new file; `tail -F` follows. It happens by size, at local midnight, and when a user starts a
worker (`archive`), not when a crashed one is started again.

A full disk never stops a request: lines that cannot be written are counted, and the count is
the first thing that is logged when there is room again. `status` shows the trouble meanwhile.

What a worker writes, and how, is in `worker/log/lines.py`.
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

from ccproxy.files import open_regular

SIZE_LIMIT = 50 * 1024 * 1024
"""Bytes after which a file is rotated."""
LOOK_AFTER = 2.0
"""Seconds after which a line is a reason to look whether the file was removed."""
RETENTION = timedelta(days=3)
"""How long an archive is kept: 3×24 hours since its last line."""

_ARCHIVE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,40}\.log\.\d{8}_\d{6}")
_STAMP = "%Y%m%d_%H%M%S"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_OPEN_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW


def log_path(folder: Path, label: str, index: int = 1) -> Path:
    """Return the file of the process *index* of a worker; the first has no number."""
    return folder / (f"{label}.log" if index == 1 else f"{label}.{index}.log")


def crash_file(log: Path) -> Path:
    """Return where stdout and stderr go of the process that writes *log*: nothing but crashes."""
    return log.with_suffix(".out")


def open_own(path: Path) -> int:
    """
    Open *path* to append to it, closed to others, and never through a link in its place.

    Raises:
        OSError: If the system refuses, or if it is no regular file; of a link the text says what
            to do.

    """
    try:
        return open_regular(path, _OPEN_FLAGS)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        text = f"{path} is a symbolic link, and nothing is written through one: remove it"
        raise OSError(errno.ELOOP, text) from error


class LogFile:
    """
    The log of one process: appends lines, rotates by size and at midnight.

    Raises only when it is made, and not for want of room; what cannot be written is counted.
    """

    def __init__(
        self, path: Path, *, limit: int = SIZE_LIMIT, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self.dropped = 0
        """Lines lost since the last line that could be written."""
        self.dropped_total = 0
        """Lines lost since the file was opened."""
        self.trouble = ""
        """Why the last line could not be written, for the user; empty if it could."""
        self._limit = limit
        self._clock = clock
        self._torn = False
        self._fd = -1
        try:
            self._open()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._complain(error)

    def write(self, lines: bytes) -> None:
        """Append one or several lines (without the last line end), and rotate when it is time."""
        now = self._clock()
        if self._fd >= 0 and (now >= self._day_ends or self._size >= self._limit):
            self._rotate(now)
        elif self._fd >= 0 and abs(now - self._looked) >= LOOK_AFTER:
            self._return(now)
        told = not self.dropped or self._append(_dropped_line(self.dropped, now))
        if told and self._append(lines):
            self.dropped = 0
            self.trouble = ""
        else:
            count = lines.count(b"\n") + 1
            self.dropped += count
            self.dropped_total += count

    def close(self) -> None:
        """Close the file; to be called once, last."""
        if self._fd >= 0:
            os.close(self._fd)

    def _open(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = open_own(self.path)
        known = os.fstat(self._fd)
        self._size = known.st_size
        self._known = known
        self._looked = self._clock()
        # A file that was last written yesterday is yesterday's, also after a respawn.
        since = min(known.st_mtime, self._clock()) if known.st_size else self._clock()
        self._day_ends = _next_midnight(since)

    def _rotate(self, now: float) -> None:
        try:
            archive(self.path, now=now)
            old = self._fd
            self._open()
            os.close(old)
        except OSError:
            # Better an overlong file than none; the next try is a minute away.
            self._day_ends = now + 60
            self._size = 0

    def _return(self, now: float) -> None:
        """Begin the file anew where it was removed (`rm -rf logs`) or put aside by others."""
        self._looked = now
        try:
            if os.path.samestat(self.path.lstat(), self._known):
                return
        except FileNotFoundError:
            pass
        except OSError:
            return
        old = self._fd
        with suppress(OSError):  # the next try is a moment away
            self._open()
            os.close(old)
            self._torn = False

    def _append(self, lines: bytes) -> bool:
        data = b"\n" + lines + b"\n" if self._torn else lines + b"\n"
        try:
            if self._fd < 0:
                self._open()
            written = os.write(self._fd, data)
        except OSError as error:
            self._complain(error)
            return False
        self._size += written
        self._torn = written < len(data)
        if self._torn:
            # Only a file system that has just become full takes a part of a line.
            self._complain(OSError(errno.ENOSPC, ""))
        return not self._torn

    def _complain(self, error: OSError) -> None:
        full = error.errno in _NO_ROOM
        why = "disk full" if full else f"cannot log ({error.strerror})"
        self.trouble = f"{why}: {self.path.parent}"


def archive(path: Path, *, now: float) -> Path | None:
    """
    Rename the log at *path* to its archive name; return that, or None if there was nothing.

    No writer may hold the file open but the caller. An archive is never overwritten: if two fall
    into one second, the later one is stamped with the next free second.
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


def archive_label(folder: Path, label: str, *, now: float | None = None) -> tuple[Path, ...]:
    """
    Archive all logs of a worker before a user starts it; return the archives.

    To be called only while none of its processes run: they would go on writing to the archive.
    """
    name = re.compile(rf"{re.escape(label)}(\.\d+)?\.log")
    at = time.time() if now is None else now
    logs = [path for path in _files(folder) if name.fullmatch(path.name)]
    return tuple(target for path in logs if (target := archive(path, now=at)) is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """An archive that retention removed (or, in a dry run, would remove)."""

    path: Path
    size: int


def prune(
    folder: Path, *, now: float | None = None, keep: timedelta = RETENTION, dry_run: bool = False
) -> tuple[Removed, ...]:
    """
    Remove the archives whose last line is older than *keep*; return what was removed.

    Only regular files whose names are of our own pattern are looked at. Current logs have no
    stamp in their names and are never touched, symbolic links are not followed.
    """
    oldest = (time.time() if now is None else now) - keep.total_seconds()
    removed = []
    for path in _files(folder):
        if not _ARCHIVE.fullmatch(path.name):
            continue
        try:
            known = path.lstat()
        except FileNotFoundError:  # another cleanup was quicker
            continue
        if known.st_mtime >= oldest:
            continue
        if not dry_run:
            path.unlink(missing_ok=True)
        removed.append(Removed(path=path, size=known.st_size))
    return tuple(removed)


class Redactor:
    """
    Replaces keys in text by their last four characters.

    Knows the configured secrets exactly, and whatever looks like a key of a known kind. A line
    without a hint of either, which is nearly every line, costs two microseconds.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Shorter ones ("none", "ollama") are placeholders, and parts of ordinary words.
        exact = {secret for secret in secrets if len(secret) >= 8}
        # In a log line a secret stands JSON-encoded, in an error message as it is.
        forms = exact | {json.dumps(secret)[1:-1] for secret in exact}
        known = sorted(forms, key=len, reverse=True)
        self._hints = (*known, *_HINTS)
        self._pattern = re.compile("|".join([*map(re.escape, known), *_KEY_PATTERNS]))

    def __call__(self, text: str) -> str:
        """Return *text* without keys."""
        if not any(map(text.__contains__, self._hints)):
            return text
        return self._pattern.sub(lambda match: tail(match[0]), text)


_PREFIXES = ("sk-", "sk_", "pk-", "pk_", "rk-", "rk_", "nvapi-", "xai-", "fw_", "pplx-", "ccp_")
_UNDERSCORED = ("gsk_", "hf_", "ghp_", "gho_", "ghu_", "ghs_", "github_pat_")
_NAMES = ("earer ", "EARER ", "api-key", "api_key", "Api-Key", "API-Key", "API_KEY")
_HINTS = (*_PREFIXES, *_UNDERSCORED, *_NAMES, "AIza", "eyJ")
"""One of these is in every text that one of the patterns matches."""
_KEY_PATTERNS = (
    rf"\bc?(?:{'|'.join(_PREFIXES)})[A-Za-z0-9_\-]{{8,}}",
    rf"\b(?:{'|'.join(_UNDERSCORED)})[A-Za-z0-9_]{{16,}}",
    r"\bAIza[A-Za-z0-9_\-]{16,}",
    r"\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-.]{8,}",
    r"(?i:(?<=bearer )|(?<=api[-_]key: )|(?<=api[-_]key=))[A-Za-z0-9._~+/\-]{8,}=*",
)
"""What keys of the providers that we know look like; longer words than any ordinary text has."""


def tail(secret: str) -> str:
    """Return the only form in which a secret is ever shown: `…last4`."""
    return "…" + secret[-4:] if len(secret) >= 12 else "…"


def _dropped_line(count: int, now: float) -> bytes:
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    line = {"time": at, "level": "warning", "event": "log.dropped", "lines": count}
    return json.dumps(line).encode()


def _next_midnight(since: float) -> float:
    day = datetime.fromtimestamp(since)
    return datetime.combine(day.date() + timedelta(days=1), datetime.min.time()).timestamp()


def _files(folder: Path) -> list[Path]:
    """Return the regular files of *folder*, none if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _is_regular(path))


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:  # rotated, or removed by another cleanup, since the folder was read
        return False
