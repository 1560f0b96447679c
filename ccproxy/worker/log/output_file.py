"""The file behind stdout and stderr, for output that no log catches, such as a crash report."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from ccproxy.files import open_private
from ccproxy.log_rotation import APPEND

CHECK_SECONDS = 1.0
"""Interval between checks for a removed file."""

_STDOUT, _STDERR = 1, 2


async def keep_output_file(path: Path, *, check_seconds: float = CHECK_SECONDS) -> None:
    """
    Recreate the file *path* whenever it is removed (`rm -rf logs`), until cancelled.

    Returns at once if stderr is something else, such as a terminal.
    """
    if not _is_stderr(path):
        return
    while True:
        await asyncio.sleep(check_seconds)
        if not _is_stderr(path):
            with suppress(OSError):  # a full disk or a missing folder: retried later
                _redirect_to(path)


def _is_stderr(path: Path) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(_STDERR))
    except OSError:
        return False


def _redirect_to(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = open_private(path, APPEND)
    for number in (_STDOUT, _STDERR):
        os.dup2(fd, number)
    os.close(fd)
