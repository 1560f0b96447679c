"""
Regular files, and nothing else that may stand in the place of one.

Whoever opens a pipe waits for its other end, maybe for ever; so nothing here waits.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """
    Open *path* as `os.open` does; a file that is made is for its owner alone.

    Raises:
        OSError: If the system refuses, or if it is a pipe, a folder, a socket or a device.

    """
    try:
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.ENXIO:  # a pipe without a reader, or a socket
            raise
        raise _odd(path) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _odd(path)
    return fd


def read_regular(path: Path, *, encoding: str = "utf-8") -> str:
    """
    Return the text of *path*.

    Raises:
        OSError: If it cannot be opened or read.
        UnicodeDecodeError: If it is not of that encoding.

    """
    with os.fdopen(open_regular(path), encoding=encoding) as file:
        return file.read()


def read_json(path: Path) -> Any:  # noqa: ANN401 - it may be anything
    """
    Return what *path* holds as JSON.

    Raises:
        OSError: If it cannot be opened or read.
        ValueError: If it is not JSON.

    """
    try:
        return json.loads(read_regular(path))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _odd(path: Path) -> OSError:
    return OSError(errno.EINVAL, "not a regular file", os.fspath(path))
