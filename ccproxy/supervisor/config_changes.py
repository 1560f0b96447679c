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

from ccproxy.config.fleet import Entry, local_table, read_fleet
from ccproxy.files import open_regular
from ccproxy.supervisor.control.status import Change
from ccproxy.supervisor.state.records import Spec

FileStatus = tuple[int, ...] | None


class ConfigChanges:
    """Compares the running workers with the table *file* and its env files."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._tables = (file, local_table(file))
        self._table_status: tuple[FileStatus, ...] = ()
        self._entries: dict[str, Entry] = {}
        self._is_readable = False
        self._digests: dict[Path, tuple[FileStatus, str]] = {}

    def of(self, spec: Spec) -> Change:
        """Return how the files differ from *spec*; empty if equal, or if its source is unknown."""
        if not spec.source:
            return ""
        self._read_table()
        entry = self._entries.get(spec.label.lower())
        if entry is None:
            return "removed" if self._is_readable else "unreadable"
        source = self._source_of(entry, spec.keys_file)
        if not source:
            return "unreadable"
        return "" if source == spec.source else "changed"

    def _read_table(self) -> None:
        status = tuple(map(file_status, self._tables))
        if status[0] is not None and status == self._table_status:
            return
        fleet, mistakes = read_fleet(self._file)
        self._table_status = status
        self._entries = {entry.label.lower(): entry for entry in fleet.entries}
        self._is_readable = not mistakes

    def _source_of(self, entry: Entry, keys_file: str) -> str:
        digest = self._digest_of(entry.env_file)
        keys_digest = self._digest_of(Path(keys_file)) if keys_file else ""
        return combined(entry, digest, keys_digest)

    def _digest_of(self, file: Path) -> str:
        status = file_status(file)
        cached = self._digests.get(file)
        if cached is None or cached[0] != status:
            cached = self._digests[file] = (status, file_digest(file))
        return cached[1]


def source_of(entry: Entry, keys_file: str = "") -> str:
    """
    Return the hash of *entry* and the content of its files; empty if they cannot be read.

    *keys_file* is the file of PROVIDER_API_KEYS_FILE, empty if that is not set.
    """
    digest = file_digest(entry.env_file)
    return combined(entry, digest, file_digest(Path(keys_file)) if keys_file else "")


def combined(entry: Entry, env_digest: str, keys_digest: str = "") -> str:
    """Return the hash of *entry* and the digests of its files; empty without *env_digest*."""
    if not env_digest:
        return ""
    fields = [entry.label, entry.port, entry.workers, os.fspath(entry.env_file), env_digest]
    if keys_digest:
        fields.append(keys_digest)
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
        buffer[:] = bytes(len(buffer))  # it contained keys
    return digest.hexdigest()


def file_status(file: Path) -> FileStatus:
    """Return metadata that changes with the content of *file*, or None if it does not exist."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
