"""
The fleet's lock: whoever holds it is the supervisor, or is about to start one.

It is an flock, so it ends with its holder, however that dies. `ccproxy start` takes it and hands
it down to the supervisor that it starts, so there is no moment at which two could be started.
The file says who holds it, for those who have to wait.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from pathlib import Path
from types import TracebackType

from ccproxy.config.fleet import Fleet
from ccproxy.errors import Busy
from ccproxy.files import read_json

NAME = "supervisor.lock"


class Lock:
    """
    Holds the lock of *fleet* as a context manager.

    *fd* is a descriptor that holds it already, handed down by the parent.

    Raises:
        Busy: On entry, if somebody else holds it.

    """

    def __init__(self, fleet: Fleet, *, command: str, fd: int | None = None) -> None:
        self._fleet = fleet
        self._command = command
        self._handed = fd
        self.fd = -1

    def __enter__(self) -> Lock:
        self.fd = self._open() if self._handed is None else self._handed
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self.fd)
            raise Busy(holder_text(self._fleet)) from error
        self._sign()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Closed, not unlocked: a child to which the lock was handed down keeps it.
        os.close(self.fd)

    def renew(self) -> bool:
        """
        Take the lock afresh where its file was removed; return whether it is still ours.

        A lock on a file that nobody finds any more keeps nobody away.

        Raises:
            OSError: If the file cannot be made; what is held is held on to.

        """
        if is_at(self._path, os.fstat(self.fd)):
            return True
        fresh = self._open()
        try:
            fcntl.flock(fresh, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fresh)
            return False
        os.close(self.fd)
        self.fd = fresh
        self._sign()
        return True

    def _sign(self) -> None:
        holder = {"pid": os.getpid(), "command": self._command, "since": time.time()}
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, json.dumps(holder).encode(), 0)

    @property
    def _path(self) -> Path:
        return self._fleet.state / NAME

    def _open(self) -> int:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def is_at(path: Path, known: os.stat_result) -> bool:
    """Say whether *path* still leads to the very file that *known* is about."""
    try:
        return os.path.samestat(path.lstat(), known)
    except OSError:
        return False


def holder_text(fleet: Fleet) -> str:
    """Say who holds the lock, as far as its file tells."""
    try:
        holder = read_json(fleet.state / NAME)
        command, pid = str(holder["command"]), int(holder["pid"])
        seconds = max(0, math.ceil(time.time() - float(holder["since"])))
    except (OSError, KeyError, TypeError, ValueError):
        return "busy: another ccproxy command holds the lock\n  fix: try again in a moment"
    return (
        f"busy: `{command}` (pid {pid}) holds the lock since {seconds} s\n"
        f"  fix: try again in a moment; if it does not end: kill -9 {pid} (workers go on)"
    )
