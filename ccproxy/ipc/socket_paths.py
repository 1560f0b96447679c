"""
The paths of the control sockets of the supervisor and the workers.

A socket is in the fleet's `state/` folder, or in the user's runtime folder if that path is too long
or the file system does not support sockets. The status line imports this module every few seconds,
so it imports neither pathlib nor, unless needed, hashlib.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

MAX_PATH = 100
"""Maximum bytes; systems allow 104 to 108 in the address of a unix socket."""


def socket_path(home: Path, name: str = "supervisor") -> Path:
    """Return the path of the socket *name* of the fleet at *home*."""
    path = home / "state" / f"{name}.sock"
    return path if len(os.fsencode(path)) <= MAX_PATH else runtime_path(home, f"{name}.sock")


def runtime_path(home: Path, name: str) -> Path:
    """Return a path for *name* outside *home*, short and on a file system that supports sockets."""
    return type(home)(_runtime_folder(), f"{_mark(home)}-{name}")


def worker_sockets(home: str | Path) -> list[str]:
    """Return the paths of the workers' control sockets that exist."""
    sockets = _sockets(f"{os.fspath(home)}/state", "")
    folder = _runtime_folder()
    if _is_own(folder):
        sockets |= _sockets(folder, f"{_mark(home)}-")
    return sorted(sockets)


def _is_own(folder: str) -> bool:
    """Return True if this user owns *folder*; in /tmp, anyone could create it first."""
    try:
        return os.lstat(folder).st_uid == os.getuid()
    except OSError:
        return False


def _sockets(folder: str, prefix: str) -> set[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - without pathlib
    except OSError:
        return set()
    return {
        f"{folder}/{name}"
        for name in names
        if name.startswith(prefix) and name.endswith(".sock") and name != f"{prefix}supervisor.sock"
    }


def _mark(home: str | Path) -> str:
    import hashlib  # slow to import

    return hashlib.sha256(os.fsencode(home)).hexdigest()[:16]


def _runtime_folder() -> str:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and os.path.isdir(runtime):  # noqa: PTH112 - without pathlib
        return f"{runtime}/ccproxy"
    return f"/tmp/ccproxy-{os.getuid()}"  # noqa: S108 - checked by prepare_folder
