"""
The worker's log: structlog events, log records of libraries, and one line for each request.

Request lines are collected for 20 ms and written together, because a system call and redaction cost
the same for one line as for many. Every other line is written at once, after the collected ones. A
process that is killed loses the collected lines; an answer never waits for them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

from ccproxy.log_rotation import LogFile

COLLECT_SECONDS = 0.02
MAX_REJECTED_PER_SECOND = 100
"""Maximum lines per second of requests refused before a model was chosen; more are counted."""

_encoder = msgspec.json.Encoder(enc_hook=str)

Redact = Callable[[str], str]


def set_up(
    file: LogFile, *, level: str, redact: Redact, request_log: RequestLog | None = None
) -> FilteringBoundLogger:
    """
    Send structlog and the standard library's logging to *file*; return the process's logger.

    Records of libraries are logged at WARNING and above, with the same redaction, because aiohttp
    logs the bytes of an oversized header.
    """

    def write(line: bytes) -> None:
        if request_log is not None:
            request_log.flush()
        file.write(line)

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _renderer(redact),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=lambda *_: _Sink(write),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        handlers=[_LibraryHandler(write, redact)], level=logging.WARNING, force=True
    )
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


class RequestLog:
    """
    Writes the log lines of requests at a third of structlog's cost.

    It has no processors and no context, and must be used inside the event loop. Lines of invalid
    requests are rate-limited, so that a faulty client can neither fill the disk nor rotate useful
    lines out of the log. The number of suppressed lines is logged.
    """

    def __init__(self, file: LogFile, *, level: str, redact: Redact) -> None:
        self._file = file
        self._redact = redact
        self._level_number = logging.getLevelName(level)
        self._lines: list[bytes] = []
        self._second_ends = 0.0
        self._rejected = 0
        """Rejected requests in the current second."""
        self._omitted = 0

    def debug(self, event: str, **fields: object) -> None:
        """Write a line that is useful only for debugging."""
        if self._level_number <= logging.DEBUG:
            self._collect("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Write a line; one with an error but no model belongs to a rejected request."""
        if self._level_number > logging.INFO:
            return
        if "error" not in fields or "model" in fields or self._admits_rejected():
            self._collect("info", event, fields)

    def flush(self) -> None:
        """Write the collected lines."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._file.write(self._redact(b"\n".join(lines).decode()).encode())

    def _admits_rejected(self) -> bool:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= self._second_ends:
            self._second_ends, self._rejected = now + 1.0, 0
        self._rejected += 1
        if self._rejected <= MAX_REJECTED_PER_SECOND:
            return True
        if not self._omitted:
            loop.call_later(1.0, self._report_omitted)
        self._omitted += 1
        return False

    def _report_omitted(self) -> None:
        self._collect("warning", "requests.not_logged", {"rejected": self._omitted})
        self._omitted = 0

    def _collect(self, level: str, event: str, fields: dict[str, object]) -> None:
        if not self._lines:
            asyncio.get_running_loop().call_later(COLLECT_SECONDS, self.flush)
        line = {"time": stamp(time.time()), "level": level, "event": event, **fields}
        self._lines.append(_encode(line))


def stamp(at: float) -> str:
    """Return seconds since the epoch as ISO 8601 in UTC, to the millisecond."""
    second, rest = divmod(round(at * 1e6), 1_000_000)
    return f"{_second(second)}.{rest // 1000:03d}+00:00"


@lru_cache(maxsize=2)
def _second(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))


def _encode(line: Mapping[str, object]) -> bytes:
    """Return one line of JSON; a header may hold bytes that are not UTF-8."""
    try:
        return _encoder.encode(line)
    except UnicodeEncodeError:  # such bytes arrive as lone surrogates
        return json.dumps(line, default=str).encode()


class _Sink:
    """Receives finished lines from structlog: one method for each level."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = write
        self.exception = self.msg = write


def _renderer(redact: Redact) -> Callable[[Any, str, MutableMapping[str, Any]], bytes]:
    def render(_logger: object, _method: str, event: MutableMapping[str, Any]) -> bytes:
        names = {"level": event.pop("level"), "event": event.pop("event")}
        line = {"time": stamp(time.time()), **names, **event}
        return redact(_encode(line).decode()).encode()

    return render


class _LibraryHandler(logging.Handler):
    """Writes log records of libraries in the same format."""

    def __init__(self, write: Callable[[bytes], None], redact: Redact) -> None:
        super().__init__()
        self._write = write
        self._redact = redact

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; its traceback omits the values of variables."""
        line = {
            "time": stamp(time.time()),
            "level": record.levelname.lower(),
            "event": "library.logged",
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info))
        self._write(self._redact(json.dumps(line)).encode())
