"""
Recorded exchanges: one file for each request, in `state/recordings/LABEL`, for a day.

A recording holds the input and output of a conversion: the client's request, the request to the
provider, the provider's bytes with their times, and the client's answer. Keys are masked before it
is saved.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from ccproxy.files import read_regular, write_atomically

FOLDER = "recordings"
KEPT_SECONDS = 24 * 3600.0
MAX_BYTES = 64 * 1024 * 1024
"""Maximum bytes of all recordings of an entry; beyond that, the oldest are deleted."""
MAX_RECORDING = 8 * 1024 * 1024
"""Maximum bytes of the bodies of one recording; larger exchanges are not recorded."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,80}").fullmatch


class Piece(msgspec.Struct, frozen=True):
    """The data from one read of the provider's answer."""

    after: float
    """Seconds since the request was sent."""
    data: bytes


class RecordedCall(msgspec.Struct, frozen=True, kw_only=True):
    """One request to the provider and its answer."""

    asked: bytes
    """The request that was converted or forwarded."""
    passed: bool = False
    """True if it was forwarded in its own API, with minimal changes."""
    message_id: str
    input_estimate: int
    """The number of input tokens at the start of the answer, if it was converted."""
    model: str
    api: str
    body: bytes
    """The request to the provider."""
    status: int
    is_stream: bool
    pieces: tuple[Piece, ...]

    @property
    def data(self) -> bytes:
        """The bytes of the provider's answer."""
        return b"".join(piece.data for piece in self.pieces)


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a client."""

    id: str
    label: str
    provider: str
    at: float
    path: str
    requested: str
    """The model name that the client sent."""
    stream: bool
    status: int
    error: str = ""
    request: bytes
    """The body of the client's request."""
    answer: bytes
    """The body of the client's answer."""
    calls: tuple[RecordedCall, ...]


def recordings_folder(state: Path, label: str) -> Path:
    """Return the folder with the recordings of the entry *label*."""
    return state / FOLDER / label.lower()


def save_recording(state: Path, recording: Recording) -> None:
    """Write a recording, and delete old or excess ones; OSError if it cannot be written."""
    folder = recordings_folder(state, recording.label)
    write_atomically(folder / f"{recording.id}.json", msgspec.json.encode(recording).decode())
    _prune(folder, max_bytes=MAX_BYTES)


def find_recording(state: Path, recording_id: str) -> Recording | None:
    """
    Return a recording of any entry, or None.

    Raises:
        ValueError: If the file is not a recording.

    """
    if not _ID(recording_id):
        return None
    for path in (state / FOLDER).glob(f"*/{recording_id}.json"):
        return _read(path)
    return None


def recordings(state: Path, label: str) -> Iterator[Recording]:
    """Yield the recordings of an entry, oldest first; damaged files are skipped."""
    for _, path in _files(recordings_folder(state, label)):
        try:
            yield _read(path)
        except (OSError, ValueError):
            continue


def prune_recordings(state: Path) -> int:
    """Delete the recordings of all entries that are older than a day; return their number."""
    return sum(_prune(folder) for folder in (state / FOLDER).glob("*"))


def _read(path: Path) -> Recording:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError("its file is too large")
    return msgspec.json.decode(read_regular(path), type=Recording)


def _prune(folder: Path, *, max_bytes: int | None = None) -> int:
    now, size, deleted = time.time(), 0, 0
    for stat, path in reversed(_files(folder)):
        size += stat.st_size
        if now - stat.st_mtime > KEPT_SECONDS or (max_bytes is not None and size > max_bytes):
            path.unlink(missing_ok=True)
            deleted += 1
    return deleted


def _files(folder: Path) -> list[tuple[os.stat_result, Path]]:
    """Return the files of an entry, oldest first; other processes may delete some at any time."""
    files = []
    for path in folder.glob("*.json"):
        with suppress(FileNotFoundError):
            files.append((path.stat(), path))
    return sorted(files, key=lambda each: each[0].st_mtime)
