"""
The fleet's lock: the process that holds it is the supervisor, or is about to start one.

It is an flock, so it is released when its holder exits. `ccproxy start` takes the lock and the
supervisor that it starts inherits it, so two supervisors can never start at once. The file's
content names the holder, for the messages of commands that have to wait.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import time
from pathlib import Path
from types import TracebackType

from ccproxy.config.fleet import Fleet
from ccproxy.errors import Busy, CcproxyError
from ccproxy.files import open_private, read_json

NAME = "supervisor.lock"

_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


class Lock:
    """
    Holds the lock of *fleet* as a context manager.

    *fd* is a descriptor, inherited from the parent, that already holds the lock.

    Raises:
        Busy: On entry, if another process holds the lock.
        CcproxyError: On entry, if the file system does not support locks.
        OSError: On entry, if the lock's file cannot be opened.
    """

    def __init__(self, fleet: Fleet, *, command: str, fd: int | None = None) -> None:
        self._fleet = fleet
        self._command = command
        self._inherited = fd
        self.fd = -1

    def __enter__(self) -> Lock:
        fd = self._open_file() if self._inherited is None else self._inherited
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise Busy(describe_holder(self._fleet)) from error
        except OSError as error:
            os.close(fd)
            if error.errno not in _NO_LOCKS:
                raise
            raise CcproxyError(
                f"{self._path}: the file system does not support locks ({error.strerror}), "
                "so two commands could start every worker twice\n"
                "  fix: move the folder of ccproxy.toml to a local disk"
            ) from error
        self.fd = fd
        self._write_holder()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Closed, not unlocked: a child that inherited the lock keeps it.
        os.close(self.fd)

    def renew(self) -> bool:
        """
        Take the lock again if its file was removed; return whether it is still held.

        A lock on a removed file does not exclude other processes.

        Raises:
            OSError: If the file cannot be created; the current lock is kept.
        """
        if is_same_file(self._path, os.fstat(self.fd)):
            return True
        fd = self._open_file()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except OSError:
            os.close(fd)
            raise
        os.close(self.fd)
        self.fd = fd
        self._write_holder()
        return True

    def _write_holder(self) -> None:
        holder = {"pid": os.getpid(), "command": self._command, "since": time.time()}
        try:
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, json.dumps(holder).encode(), 0)
        except OSError:  # a full disk: the lock itself needs no space
            return

    @property
    def _path(self) -> Path:
        return self._fleet.state / NAME

    def _open_file(self) -> int:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open_private(self._path, os.O_RDWR | os.O_CREAT)


def is_same_file(path: Path, status: os.stat_result) -> bool:
    """Return True if *path* is still the file that *status* describes."""
    try:
        return os.path.samestat(path.lstat(), status)
    except OSError:
        return False


def describe_holder(fleet: Fleet) -> str:
    """Describe the process that holds the lock, as recorded in the lock file."""
    try:
        holder = read_json(fleet.state / NAME)
        command, pid = str(holder["command"]), int(holder["pid"])
        seconds = max(0, math.ceil(time.time() - float(holder["since"])))
    except (OSError, KeyError, TypeError, ValueError, OverflowError):
        return "busy: another ccproxy command holds the lock\n  fix: try again in a moment"
    return (
        f"busy: `{command}` (pid {pid}) has held the lock for {seconds} s\n"
        f"  fix: try again in a moment; if it does not end: kill -9 {pid} (workers continue)"
    )
