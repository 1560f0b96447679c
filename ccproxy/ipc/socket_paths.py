"""
The paths of the control sockets of supervisor and workers.

A socket is in the fleet's `state/` folder, or in the user's runtime folder if that path is too long
or the file system has no sockets.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

MAX_PATH = 100
"""Bytes; systems allow 104 to 108 in the address of a unix socket."""


def socket_path(home: Path, name: str = "supervisor") -> Path:
    """Return the path of the socket *name* of the fleet at *home*."""
    path = home / "state" / f"{name}.sock"
    return path if len(os.fsencode(path)) <= MAX_PATH else runtime_path(home, f"{name}.sock")


def runtime_path(home: Path, name: str) -> Path:
    """Return a path for *name* outside *home*: short, and on a file system that has sockets."""
    mark = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return _runtime_folder() / f"{mark}-{name}"


def worker_sockets(home: Path) -> list[Path]:
    """Return the control sockets of workers that exist as files."""
    sockets: set[Path] = set()
    for path in {socket_path(home), runtime_path(home, "supervisor.sock")}:
        pattern = path.name.replace("supervisor", "*")
        sockets |= set(path.parent.glob(pattern)) - {path}
    return sorted(sockets)


def _runtime_folder() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and Path(runtime).is_dir():
        return Path(runtime) / "ccproxy"
    return Path(f"/tmp/ccproxy-{os.getuid()}")  # noqa: S108 - checked by prepare_folder
