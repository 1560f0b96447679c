"""
Reads the log files of workers: backwards from the newest line, and new lines as they are written.

`kimi.log` is the newest part of a log, and `kimi.log.20261121_080000` is an archive. A proxy with
several worker processes has `kimi.log`, `kimi.2.log` and so on.
"""

from __future__ import annotations

import heapq
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

from ccproxy.log_rotation import log_pattern

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_BLOCK_BYTES = 64 * 1024
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a log; `fields` is empty if the line is not JSON, as after a crash."""

    source: str
    """The label of the proxy."""
    text: str
    fields: dict[str, Any]
    at: float | None
    """The time in seconds since the epoch, or None."""

    @property
    def level(self) -> int:
        """The severity; a line that is not JSON counts as a warning."""
        return LEVELS.get(str(self.fields.get("level")), LEVELS["warning"])


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """The conditions that a line must meet."""

    level: int = 0
    request: str | None = None
    """A part of a request id that lines must match."""
    since: float = 0.0
    """Seconds since the epoch. A line without a time belongs to the line before it."""

    def matches(self, line: LogLine) -> bool:
        """Return True if *line* meets the conditions."""
        if line.level < self.level:
            return False
        if self.request is not None and self.request not in str(line.fields.get("request", "")):
            return False
        return line.at is None or line.at >= self.since


def parse(source: str, raw: bytes) -> LogLine:
    """Parse a line of the log of *source*."""
    text = raw.decode(errors="replace").rstrip("\r\n")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        return LogLine(source, text, {}, None)
    return LogLine(source, text, fields, _time_of(fields))


def _time_of(fields: Mapping[str, Any]) -> float | None:
    try:
        return datetime.fromisoformat(fields["time"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


# Reading backwards.


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The log of one process: its files and their current sizes, newest first."""

    source: str
    path: Path
    """The file that new lines are written to; it need not exist yet."""
    parts: tuple[tuple[Path, int], ...]


def logs_of(folder: Path, label: str, labels: Iterable[str] = ()) -> list[Log]:
    """Return the logs of *label*, one of the table's *labels*, one for each of its processes."""
    name = re.compile(rf"({log_pattern(label, labels)})(\.\d{{8}}_\d{{6}})?")
    sizes = _file_sizes(folder)
    matches = [match for path in sizes if (match := name.fullmatch(path))]
    # The current file has no time stamp and is the newest.
    matches.sort(key=lambda match: match[2] or "~", reverse=True)
    return [
        Log(
            source=label,
            path=folder / log,
            parts=tuple(
                (folder / match[0], sizes[match[0]]) for match in matches if match[1] == log
            ),
        )
        for log in sorted({f"{label}.log", *(match[1] for match in matches)})
    ]


def last_lines(
    log: Log, conditions: LogFilter, *, count: int, search: int | None = None
) -> list[LogLine]:
    """
    Return the last *count* lines of *log* that match, oldest first.

    With *search*, only that many lines are searched, from the end.
    """
    lines: list[LogLine] = []
    for line in islice(_newest_first(log), search):
        if len(lines) >= count or (line.at is not None and line.at < conditions.since):
            break
        if conditions.matches(line):
            lines.append(line)
    return lines[::-1]


def last_lines_of_all(
    logs: Iterable[Log], conditions: LogFilter, *, count: int, search: int | None = None
) -> list[LogLine]:
    """Return the last *count* matching lines of all *logs* together, sorted by time."""
    lines = sorted_by_time(
        line for log in logs for line in last_lines(log, conditions, count=count, search=search)
    )
    return lines[-count:] if count else []


def _newest_first(log: Log) -> Iterator[LogLine]:
    for file, size in log.parts:
        with suppress(FileNotFoundError):  # a cleanup may delete an archive at any time
            yield from (parse(log.source, raw) for raw in backwards(file, size))


def backwards(file: Path, size: int) -> Iterator[bytes]:
    """Yield the lines in the first *size* bytes of *file*, last line first, reading in blocks."""
    with file.open("rb") as stream:
        position = size
        blocks: list[bytes] = []  # parts of the line, last first; its start is still unread
        while position:
            step = min(_BLOCK_BYTES, position)
            position -= step
            stream.seek(position)
            *before, last = stream.read(step).split(b"\n")
            blocks.append(last)
            if before:
                first, *middle = before
                yield from filter(None, (b"".join(reversed(blocks)), *reversed(middle)))
                blocks = [first]
        if line := b"".join(reversed(blocks)):
            yield line


# Reading forwards.


def matching_lines(logs: Iterable[Log], conditions: LogFilter) -> Iterator[LogLine]:
    """
    Yield all matching lines of *logs*, oldest first.

    Only one line of each log is in memory, because the files of a log may contain a gigabyte.
    """
    timed = (_timed(_oldest_first(log, conditions)) for log in logs)
    return (line for _, line in heapq.merge(*timed, key=itemgetter(0)))


def _timed(lines: Iterable[LogLine]) -> Iterator[tuple[float, LogLine]]:
    """Yield each line with its time; a line without one has the time of its predecessor."""
    at = 0.0
    for line in lines:
        at = line.at or at
        yield at, line


def _oldest_first(log: Log, conditions: LogFilter) -> Iterator[LogLine]:
    is_recent = not conditions.since
    for stream, size in _streams_since(log, conditions.since):
        for raw in _forwards(stream, size, _start(stream, size, conditions.since)):
            line = parse(log.source, raw)
            if line.at is not None:
                is_recent = line.at >= conditions.since
            if is_recent and conditions.matches(line):
                yield line


def _streams_since(log: Log, since: float) -> Iterator[tuple[BinaryIO, int]]:
    """Open the parts that may contain lines at or after *since*, oldest first, with their sizes."""
    with ExitStack() as files:
        newest = None
        with suppress(FileNotFoundError):
            # Opened first, because a rotation renames it. Archives keep their names.
            newest = files.enter_context(log.path.open("rb"))
        for file, size in _parts_since(log, since):
            if file == log.path and newest is not None:
                yield newest, size
                continue
            with suppress(FileNotFoundError), file.open("rb") as stream:
                yield stream, size


def _parts_since(log: Log, since: float) -> list[tuple[Path, int]]:
    """Return the parts that may contain lines at or after *since*, oldest first."""
    parts: list[tuple[Path, int]] = []
    for file, size in log.parts:
        parts.append((file, size))
        with suppress(FileNotFoundError), file.open("rb") as stream:
            if since and (at := _next_time(stream, 0)) is not None and at < since:
                break
    return parts[::-1]


def _start(stream: BinaryIO, size: int, since: float) -> int:
    """Return an offset before the first line at or after *since*, found by bisection."""
    low, high = 0, size if since else 0
    while high - low > _BLOCK_BYTES:
        middle = (low + high) // 2
        at = _next_time(stream, middle)
        low, high = (middle, high) if at is not None and at < since else (low, middle)
    return low


def _next_time(stream: BinaryIO, offset: int) -> float | None:
    """Return the time of the first line after *offset* that has one, or None."""
    stream.seek(offset)
    if offset:
        stream.readline()  # the rest of a line
    times = (parse("", raw).at for raw in stream)
    return next((at for at in times if at is not None), None)


def _forwards(stream: BinaryIO, size: int, start: int) -> Iterator[bytes]:
    """Yield the lines that begin after *start*, a line's end or any offset, up to *size*."""
    stream.seek(start)
    if start:
        stream.readline()
    position = stream.tell()
    for raw in stream:
        if position >= size:
            return
        if line := raw[: size - position].rstrip(b"\n"):
            yield line
        position += len(raw)


# Following.


class Follower:
    """
    Reads the lines that are appended to a log, even across a rotation.

    A rotated file is read to its end before the new one is opened, so no line is lost.
    """

    def __init__(self, log: Log) -> None:
        self._path = log.path
        self._source = log.source
        self._partial_line = b""
        self._file = self._open()
        if self._file is not None and log.parts and log.parts[0][0] == log.path:
            self._file.seek(log.parts[0][1])

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self) -> list[LogLine]:
        """Return the complete lines that were written since the last call."""
        # Check before reading: lines written before the rename are in the old file.
        is_rotated = self._is_rotated()
        lines = self._read_lines()
        if is_rotated:
            self.close()
            self._file = self._open()
            lines += self._read_lines()
        return lines

    def _open(self) -> BinaryIO | None:
        try:
            return self._path.open("rb")
        except FileNotFoundError:
            return None

    def _is_rotated(self) -> bool:
        try:
            current = self._path.stat()
        except FileNotFoundError:
            return False  # between the rename and the reopening
        if self._file is None:
            return True
        ours = os.fstat(self._file.fileno())
        return (current.st_dev, current.st_ino) != (ours.st_dev, ours.st_ino)

    def _read_lines(self) -> list[LogLine]:
        if self._file is None:
            return []
        *lines, self._partial_line = (self._partial_line + self._file.read()).split(b"\n")
        return [parse(self._source, raw) for raw in lines if raw]


def follow(
    followers: Sequence[Follower], *, sleep: Callable[[float], None] = time.sleep
) -> Iterator[LogLine]:
    """Yield lines as they are written, forever."""
    while True:
        lines = sorted_by_time(line for follower in followers for line in follower.read())
        yield from lines
        if not lines:
            sleep(_POLL_SECONDS)


def sorted_by_time(lines: Iterable[LogLine]) -> list[LogLine]:
    """Sort the lines of several logs by time; a line without one stays after its predecessor."""
    timed: list[tuple[float, LogLine]] = []
    for line in lines:
        timed.append((line.at or (timed[-1][0] if timed else 0.0), line))
    return [line for _, line in sorted(timed, key=lambda pair: pair[0])]


def _file_sizes(folder: Path) -> dict[str, int]:
    """Return the sizes of the regular files in *folder*, by name."""
    sizes = {}
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            with suppress(FileNotFoundError):  # a worker may rename or delete it at any time
                status = path.stat()
                if stat.S_ISREG(status.st_mode):
                    sizes[path.name] = status.st_size
    return sizes
