"""
Reading the workers' logs: backwards from the newest line, and onwards as they are written.

A log goes on in its archives: `kimi.log` is the newest part, `kimi.log.20261121_080000` the one
before. A worker with several processes writes `kimi.log`, `kimi.2.log` and so on.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_BLOCK = 64 * 1024
_POLL = 0.2


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a log; `fields` is empty where it is not JSON, as after a crash."""

    source: str
    text: str
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def at(self) -> float | None:
        """When it was written, in seconds since the epoch."""
        try:
            return datetime.fromisoformat(self.fields["time"]).timestamp()
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def level(self) -> int:
        """How grave it is; what is no log line is as grave as a warning."""
        return LEVELS.get(str(self.fields.get("level")), LEVELS["warning"])


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Which lines to show."""

    level: int = 0
    request: str | None = None
    """Part of a request's id."""
    since: float = 0.0
    """Seconds since the epoch; what bears no time belongs to the line before it."""

    def has(self, line: LogLine) -> bool:
        """Tell whether to show *line*."""
        if line.level < self.level:
            return False
        if self.request is not None and self.request not in str(line.fields.get("request", "")):
            return False
        return line.at is None or line.at >= self.since


def parse(source: str, raw: bytes) -> LogLine:
    """Read one line of the log of *source*."""
    text = raw.decode(errors="replace").rstrip("\r\n")
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    return LogLine(source, text, fields if isinstance(fields, dict) else {})


# Backwards...


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The log of one process as it is now: how much of which files, newest first."""

    source: str
    path: Path
    """Where it goes on; the file need not exist yet."""
    parts: tuple[tuple[Path, int], ...]


def logs_of(folder: Path, label: str) -> list[Log]:
    """Return the logs of *label*, one for each of its processes."""
    name = re.compile(rf"({re.escape(label)}(?:\.\d+)?\.log)(\.\d{{8}}_\d{{6}})?")
    found = [match for path in _names(folder) if (match := name.fullmatch(path))]
    # The current log has no stamp and is the newest.
    found.sort(key=lambda match: match[2] or "~", reverse=True)
    return [
        Log(
            source=label,
            path=folder / log,
            parts=tuple(
                (path, path.stat().st_size)
                for path in (folder / match[0] for match in found if match[1] == log)
            ),
        )
        for log in sorted({f"{label}.log", *(match[1] for match in found)})
    ]


def last_lines(log: Log, wanted: LogFilter, *, count: int) -> list[LogLine]:
    """Return the last *count* wanted lines of *log*, as it was when it was opened."""
    lines: list[LogLine] = []
    for line in _newest_first(log):
        if len(lines) >= count or (line.at is not None and line.at < wanted.since):
            break
        if wanted.has(line):
            lines.append(line)
    return lines[::-1]


def _newest_first(log: Log) -> Iterator[LogLine]:
    for file, size in log.parts:
        with suppress(FileNotFoundError):  # removed under our eyes
            yield from (parse(log.source, raw) for raw in backwards(file, size))


def backwards(file: Path, size: int) -> Iterator[bytes]:
    """Read the first *size* bytes of *file* line by line from their end, in blocks."""
    with file.open("rb") as stream:
        left = size
        rest = b""
        while left:
            step = min(_BLOCK, left)
            left -= step
            stream.seek(left)
            first, *lines = (stream.read(step) + rest).split(b"\n")
            yield from (line for line in reversed(lines) if line)
            rest = first
        if rest:
            yield rest


# ...and onwards.


class Follower:
    """
    Reads what is appended to a log, also after it was rotated.

    A rotated file is read to its end before the new one is begun, so no line is lost.
    """

    def __init__(self, log: Log) -> None:
        self._path = log.path
        self._source = log.source
        self._rest = b""
        self._file = self._open()
        if self._file is not None and log.parts and log.parts[0][0] == log.path:
            self._file.seek(log.parts[0][1])

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self) -> list[LogLine]:
        """Return the whole lines that have come since the last call."""
        # Look first, read then: what was written before the rename is in the old file.
        rotated = self._is_rotated()
        lines = self._read_on()
        if rotated:
            self.close()
            self._file = self._open()
            lines += self._read_on()
        return lines

    def _open(self) -> BinaryIO | None:
        try:
            return self._path.open("rb")
        except FileNotFoundError:
            return None

    def _is_rotated(self) -> bool:
        try:
            known = self._path.stat()
        except FileNotFoundError:
            return False  # between rename and reopen
        if self._file is None:
            return True
        ours = os.fstat(self._file.fileno())
        return (known.st_dev, known.st_ino) != (ours.st_dev, ours.st_ino)

    def _read_on(self) -> list[LogLine]:
        if self._file is None:
            return []
        *whole, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [parse(self._source, raw) for raw in whole if raw]


def follow(
    followers: Sequence[Follower], *, sleep: Callable[[float], None] = time.sleep
) -> Iterator[LogLine]:
    """Give back lines as they are written, for ever."""
    while True:
        lines = sorted_by_time(line for follower in followers for line in follower.read())
        yield from lines
        if not lines:
            sleep(_POLL)


def sorted_by_time(lines: Iterable[LogLine]) -> list[LogLine]:
    """Sort the lines of several logs; one without a time stays behind the one before it."""
    timed: list[tuple[float, LogLine]] = []
    for line in lines:
        timed.append((line.at or (timed[-1][0] if timed else 0.0), line))
    return [line for _, line in sorted(timed, key=lambda pair: pair[0])]


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir() if path.is_file()]
    except FileNotFoundError:
        return []
