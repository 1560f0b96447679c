"""The supervisor's own log: one JSON line per event, `subject.what_happened`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from ccproxy.logs import LogFile, archive, log_path
from ccproxy.redaction import Redactor


class Journal(Protocol):
    """Takes note of an event."""

    def __call__(self, event: str, *, level: str = "info", **fields: object) -> None:
        """Note *event*; never fails."""


class FileJournal:
    """Writes events to logs/supervisor.log; what a full disk does not take is lost, not fatal."""

    def __init__(self, folder: Path, *, echo: Callable[[str], None] | None = None) -> None:
        path = log_path(folder, "supervisor")
        archive(path, now=datetime.now(UTC).timestamp())
        self._file = LogFile(path)
        self._echo = echo
        # A worker's last words are quoted here, and it may have been upset by a key.
        self._redact = Redactor()

    def __call__(self, event: str, *, level: str = "info", **fields: object) -> None:
        """Note *event*."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": at, "level": level, "event": event, **fields}, default=str)
        safe = self._redact(line)
        self._file.write(safe.encode())
        if self._echo is not None:
            self._echo(safe)

    @property
    def trouble(self) -> str:
        """Why nothing can be written at the moment; empty if it can."""
        return self._file.trouble

    def close(self) -> None:
        """Close the file."""
        self._file.close()
