"""
Detects that the user has changed an entry or its env file since the workers were started.

Files are read again only when their status has changed, and env files are hashed without being
parsed, so no key remains in this process.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from ccproxy.config.fleet import Entry, read_fleet
from ccproxy.files import open_regular
from ccproxy.supervisor.control.status import Change
from ccproxy.supervisor.state.records import Spec

FileStatus = tuple[int, ...] | None


class ConfigChanges:
    """Compares what runs with the table *file* and its env files."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._table_status: FileStatus = None
        self._entries: dict[str, Entry] = {}
        self._is_readable = False
        self._digests: dict[Path, tuple[FileStatus, str]] = {}

    def of(self, spec: Spec) -> Change:
        """Return how the files differ from *spec*; empty also if its source is unknown."""
        if not spec.source:
            return ""
        self._read_table()
        entry = self._entries.get(spec.label.lower())
        if entry is None:
            return "removed" if self._is_readable else "unreadable"
        source = self._source_of(entry)
        if not source:
            return "unreadable"
        return "" if source == spec.source else "changed"

    def _read_table(self) -> None:
        status = file_status(self._file)
        if status is not None and status == self._table_status:
            return
        fleet, mistakes = read_fleet(self._file)
        self._table_status = status
        self._entries = {entry.label.lower(): entry for entry in fleet.entries}
        self._is_readable = not mistakes

    def _source_of(self, entry: Entry) -> str:
        status = file_status(entry.env_file)
        cached = self._digests.get(entry.env_file)
        if cached is None or cached[0] != status:
            cached = self._digests[entry.env_file] = (status, file_digest(entry.env_file))
        return combined(entry, cached[1]) if cached[1] else ""


def source_of(entry: Entry) -> str:
    """Return the hash of *entry* and the content of its env file; empty if it cannot be read."""
    digest = file_digest(entry.env_file)
    return combined(entry, digest) if digest else ""


def combined(entry: Entry, env_digest: str) -> str:
    """Return the hash of *entry* and of its env file's *env_digest*."""
    fields = [entry.label, entry.port, entry.workers, os.fspath(entry.env_file), env_digest]
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def file_digest(file: Path) -> str:
    """Return the hash of the content of *file*; empty if it cannot be read."""
    digest = hashlib.sha256()
    buffer = bytearray(65536)
    try:
        with os.fdopen(open_regular(file), "rb", buffering=0) as content:
            while size := content.readinto(buffer):
                digest.update(memoryview(buffer)[:size])
    except OSError:
        return ""
    finally:
        buffer[:] = bytes(len(buffer))  # it held keys
    return digest.hexdigest()


def file_status(file: Path) -> FileStatus:
    """Return what changes with the content of *file*, without reading it; None if there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
