"""The supervisor's own log: one line of JSON per event, named `subject.past`."""

from __future__ import annotations

import json
from collections.abc import Callable
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

    Events that cannot be written because the disk is full are lost. If the file cannot be opened,
    events go only to *echo*.

    Raises:
        OSError: If the file cannot be opened and there is no *echo*.
    """

    def __init__(self, folder: Path, *, echo: Callable[[str], None] | None = None) -> None:
        self._echo = echo
        # Events quote the last output of workers, which may contain a key.
        self._redact = Redactor()
        self._file: LogFile | None = None
        self._failure = ""
        path = log_path(folder, "supervisor")
        try:
            archive(path, now=datetime.now(UTC).timestamp())
            self._file = LogFile(path)
        except OSError as error:
            if echo is None:
                raise
            self._failure = f"cannot log to {path}: {error.strerror or error}"
            self("log.failed", level="warning", reason=self._failure)

    def __call__(self, event: str, *, level: str = "info", **fields: object) -> None:
        """Record *event*."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": at, "level": level, "event": event, **fields}, default=str)
        safe = self._redact(line)
        if self._file is not None:
            self._file.write(safe.encode())
        if self._echo is not None:
            self._echo(safe)

    @property
    def trouble(self) -> str:
        """Why the journal cannot be written to, as text for the user; empty if it can."""
        if self._file is None:
            return self._failure
        if self._file.trouble:
            # There may be space again, which only another attempt can show.
            self("log.retried", level="warning")
        return self._file.trouble

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
