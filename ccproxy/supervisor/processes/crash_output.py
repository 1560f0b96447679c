"""The output files of a worker, and their last lines after a failure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from ccproxy.files import open_private, open_regular
from ccproxy.log_rotation import APPEND, crash_file, log_path

LAST_LINES = 20
"""Lines to quote when a worker fails without giving a reason."""

SIZE_LIMIT = 2**20
"""Bytes of crash output to keep."""

_TAIL_BYTES = 8192

OutputFiles = tuple[tuple[Path, int], ...]
"""The files of a worker, each with its size when the worker started."""


def crash_path(logs: Path, label: str, index: int) -> Path:
    """Return the file for a worker's stdout and stderr."""
    return crash_file(log_path(logs, label, index))


def output_files(logs: Path, label: str, index: int) -> OutputFiles:
    """Return the files of a worker with their current sizes: crash output first, then the log."""
    paths = (crash_path(logs, label, index), log_path(logs, label, index))
    return tuple((path, path.stat().st_size if path.exists() else 0) for path in paths)


def open_crash_file(path: Path) -> BinaryIO:
    """Open the crash output for appending; a file over the size limit is truncated."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.fdopen(open_private(path, APPEND), "ab")
    if os.fstat(file.fileno()).st_size > SIZE_LIMIT:
        file.truncate(0)
    return file


def last_lines(output: OutputFiles) -> str:
    """Return the last lines appended to the first file that has grown."""
    for path, size_before in output:
        try:
            with os.fdopen(open_regular(path), "rb") as file:
                size = file.seek(0, os.SEEK_END)
                # A file that has become shorter was rotated, so all of it is new.
                file.seek(max(0 if size < size_before else size_before, size - _TAIL_BYTES))
                text = file.read().decode(errors="replace").strip()
        except OSError:
            continue
        if text:
            return "\n".join(text.splitlines()[-LAST_LINES:])
    return ""
