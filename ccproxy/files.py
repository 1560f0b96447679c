"""
Opens, locks and atomically replaces the files of the user and the fleet.

Every function refuses pipes, folders, sockets and devices, and none blocks on a FIFO. A new file
is readable only by its owner.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_LOCK_POLL = 0.05
"""Seconds between attempts to take a lock with a timeout; flock itself has no timeout."""
_FIX_SPACE = "free some space on that disk"
_FIX_OWNER = "make its folder writable by the user who runs ccproxy"
_FIX_FOLDER = "a file with the folder's name is in the way: move that file"
_FIXES = {
    errno.EEXIST: _FIX_FOLDER,
    errno.ENOTDIR: _FIX_FOLDER,
    errno.ENOSPC: _FIX_SPACE,
    errno.EDQUOT: _FIX_SPACE,
    errno.EACCES: _FIX_OWNER,
    errno.EPERM: _FIX_OWNER,
    errno.EROFS: _FIX_OWNER,
}


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """
    Open *path* like `os.open` and return the descriptor; a new file gets mode 0600.

    Raises:
        OSError: If the file cannot be opened, or if *path* is a pipe, folder, socket or device.

    """
    try:
        # Without O_NONBLOCK, opening a FIFO would wait until another process opens it.
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.ENXIO:  # a FIFO without a reader, or a socket
            raise
        raise _not_regular(path) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _not_regular(path)
    return fd


def open_private(path: Path, flags: int) -> int:
    """
    Open *path* for writing, accessible only to its owner and never through a symbolic link.

    Raises:
        OSError: As for `open_regular`; for a symbolic link the message names the fix.

    """
    try:
        return open_regular(path, flags | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        text = f"{path} is a symbolic link; ccproxy does not write through links: remove the link"
        raise OSError(errno.ELOOP, text) from error


def read_regular(path: Path, *, encoding: str = "utf-8", newline: str | None = None) -> str:
    """
    Return the text of *path*; *newline* has the meaning that it has for `open`.

    Raises:
        OSError: If it cannot be opened or read.
        UnicodeDecodeError: If it is not valid in *encoding*.

    """
    with os.fdopen(open_regular(path), encoding=encoding, newline=newline) as file:
        return file.read()


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """
    Return the JSON value in *path*.

    Raises:
        OSError: If it cannot be opened or read.
        ValueError: If it is not JSON.

    """
    try:
        return json.loads(read_regular(path))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in *path*, or {} if the file is unreadable or holds something else."""
    try:
        value = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_atomically(
    path: Path,
    text: str,
    *,
    mode: int = 0o600,
    owner: tuple[int, int] | None = None,
    is_current: Callable[[], bool] = lambda: True,
) -> bool:
    """
    Replace the content of *path* with *text*, or leave the file as it was.

    A kill at any moment leaves either the old content or the new: a temporary file is written,
    synced and renamed. Any exception removes it, including KeyboardInterrupt. *mode* and *owner* (a
    user and a group) are set through its descriptor, because the folder's owner could replace the
    file with a link. Missing folders get mode 0700. Returns False, and replaces nothing, if
    *is_current* returns False just before the file is replaced.

    Raises:
        OSError: If the file cannot be written.
        UnicodeEncodeError: If *text* has lone surrogates.

    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.unlink(missing_ok=True)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            if mode != 0o600:  # some file systems do not support modes
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        if is_current():
            draft.rename(path)
            return True
        draft.unlink()
    except BaseException:  # an interrupted draft may contain keys
        draft.unlink(missing_ok=True)
        raise
    return False


@contextmanager
def errors_about(path: Path) -> Iterator[None]:
    """Add *path* and a fix to every OSError raised in the context; a failed write names neither."""
    try:
        yield
    except OSError as error:
        text = error.strerror or str(error)
        if error.errno in _FIXES:
            text = f"{text}; {_FIXES[error.errno]}"
        raise OSError(error.errno or errno.EIO, text, os.fspath(path)) from error


def expand_home(path: str) -> Path:
    """
    Return *path* with the home folder in place of a leading `~` or `~USER`, as a shell does.

    If the home folder is unknown, the path is unchanged.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises RuntimeError


def home_folder(environ: Mapping[str, str]) -> Path:
    """
    Return the user's home folder: $HOME if set, otherwise the one in the user database.

    For a user with neither, such as the random user of a container, it is `/`, as in Docker.
    """
    home = Path(environ.get("HOME") or expand_home("~"))
    return home if home.is_absolute() else Path("/")


def display_path(path: Path) -> Path:
    """Return *path* as messages show it: relative to the current folder if it is in that folder."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # the current folder was deleted
        return path
    is_below = here != here.parent and path.is_relative_to(here)
    return path.relative_to(here) if is_below else path


@contextmanager
def locked(path: Path, *, timeout: float | None = None) -> Iterator[int]:
    """
    Hold an exclusive lock on *path*, created if needed; yield its descriptor.

    The lock ends with the context or with the process. *timeout* is in seconds; None waits
    without limit, 0 tries once.

    Raises:
        TimeoutError: If another process holds the lock for longer than *timeout*.
        OSError: If the file cannot be opened.

    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = open_private(path, os.O_RDWR | os.O_CREAT)
    try:
        _lock(fd, path, timeout)
        yield fd
    finally:
        os.close(fd)


def claim_numbered(folder: Path, prefix: str, *, most: int) -> tuple[int, int]:
    """
    Lock the first file of `PREFIX.1`, `PREFIX.2`, … that no process has locked.

    Returns its number and its descriptor, which holds the lock until it is closed.

    Raises:
        OSError: If *most* files are locked, or the folder cannot be written.

    """
    for number in range(1, most + 1):
        fd = open_private(folder / f"{prefix}.{number}", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        return number, fd
    raise OSError(f"the limit of {most} processes that share {folder} is reached")


def is_claimed(fd: int) -> bool:
    """Return True if a process holds the lock on the file open as *fd*; *fd* itself does not."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def allocate(fd: int, size: int) -> int:
    """
    Reserve *size* bytes for a file that will be mapped into memory, and return *size*.

    Writing to a mapped page without a block on disk would kill the process.

    Raises:
        OSError: If the disk is full; *fd* is then closed.

    """
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
        else:
            os.ftruncate(fd, size)
    except OSError:
        os.close(fd)
        raise
    return size


def _lock(fd: int, path: Path, timeout: float | None) -> None:
    if timeout is None:
        fcntl.flock(fd, fcntl.LOCK_EX)
        return
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{path} is locked by another process") from None
            time.sleep(_LOCK_POLL)
        else:
            return


def _not_regular(path: Path) -> OSError:
    return OSError(errno.EINVAL, "not a regular file", os.fspath(path))
