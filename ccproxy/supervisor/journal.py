"""The supervisor's own log: one line of JSON per event, named `subject.past`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from ccproxy.log_rotation import LogFile, archive, log_path
from ccproxy.redaction import Redactor


class Journal(Protocol):
    """Records events."""

    def __call__(self, event: str, *, level: str = "info", **fields: object) -> None:
        """Record *event*; never raises."""


class FileJournal:
    """
    Writes events to `supervisor.log` in *folder*.

    Events that cannot be written because the disk is full are lost.

    Raises:
        OSError: If the file cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        # Events quote the last output of workers, which may contain a key.
        self._redact = Redactor()
        path = log_path(folder, "supervisor")
        archive(path, now=datetime.now(UTC).timestamp())
        self._file = LogFile(path)

    def __call__(self, event: str, *, level: str = "info", **fields: object) -> None:
        """Record *event*."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": at, "level": level, "event": event, **fields}, default=str)
        self._file.write(self._redact(line).encode())

    @property
    def trouble(self) -> str:
        """Why the journal cannot be written to, as text for the user; empty if it can."""
        if self._file.trouble:
            # There may be space again, which only another attempt can show.
            self("log.retried", level="warning")
        return self._file.trouble

    def close(self) -> None:
        """Close the file."""
        self._file.close()
