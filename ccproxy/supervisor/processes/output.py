"""What a worker writes besides its answers: crash output and log, and the last words in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from ccproxy.files import open_private, open_regular
from ccproxy.logs import APPEND, crash_file, log_path

WORDS = 20
"""Lines that are quoted when a worker failed without telling why."""

OUT_LIMIT = 2**20
"""Bytes of crash output that are kept."""

Output = tuple[tuple[Path, int], ...]
"""The files that a worker writes to, each with its size at the worker's start."""


def crash_path(logs: Path, label: str, index: int) -> Path:
    """Return where a worker's stdout and stderr go."""
    return crash_file(log_path(logs, label, index))


def output_of(logs: Path, label: str, index: int) -> Output:
    """Return the files of a worker with their sizes: crash output first, then the log."""
    paths = (crash_path(logs, label, index), log_path(logs, label, index))
    return tuple((path, path.stat().st_size if path.exists() else 0) for path in paths)


def open_out(path: Path) -> BinaryIO:
    """Open the crash output for appending; what has grown too long is begun anew."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.fdopen(open_private(path, APPEND), "ab")
    if os.fstat(file.fileno()).st_size > OUT_LIMIT:
        file.truncate(0)
    return file


def last_lines(output: Output) -> str:
    """Return the last lines that were added to the first file to which any were."""
    for path, before in output:
        try:
            with os.fdopen(open_regular(path), "rb") as file:
                size = file.seek(0, os.SEEK_END)
                # A file that is shorter than before was rotated: all of it is new.
                file.seek(max(0 if size < before else before, size - 8192))
                text = file.read().decode(errors="replace").strip()
        except OSError:
            continue
        if text:
            return "\n".join(text.splitlines()[-WORDS:])
    return ""
