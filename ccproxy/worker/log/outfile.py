"""The file behind stdout and stderr, for what no log catches: the last words of a crash."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from ccproxy.files import open_private
from ccproxy.logs import APPEND

LOOK_SECONDS = 1.0
"""Between two looks whether somebody removed the file."""

_STDOUT, _STDERR = 1, 2


async def stay(path: Path, *, look_seconds: float = LOOK_SECONDS) -> None:
    """
    Begin the file *path* anew where it is removed (`rm -rf logs`); go on until cancelled.

    Returns at once where stderr is something else, such as the terminal of who runs it by hand.
    """
    if not _leads_to(path):
        return
    while True:
        await asyncio.sleep(look_seconds)
        if not _leads_to(path):
            with suppress(OSError):  # no room, or no folder of ours: the next look tries again
                _turn_to(path)


def _leads_to(path: Path) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(_STDERR))
    except OSError:
        return False


def _turn_to(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = open_private(path, APPEND)
    for number in (_STDOUT, _STDERR):
        os.dup2(fd, number)
    os.close(fd)
