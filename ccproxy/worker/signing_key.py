"""The fleet's key for signing thinking blocks; the first worker creates it."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from ccproxy.files import errors_about

KEY_BYTES = 32


def load_signing_key(state: Path) -> bytes:
    """
    Return the fleet's key from its *state* folder, after creating it if it is missing.

    Workers that start together agree on one key, because only one of them can create a hard link. A
    file that does not contain a key is replaced; this loses only the thinking of running sessions.

    Raises:
        OSError: If the file cannot be read or created; the message contains its name and the fix.
    """
    path = state / "signing.key"
    with errors_about(path):
        return _load(path)


def _load(path: Path) -> bytes:
    with suppress(FileNotFoundError):
        key = path.read_bytes()
        if len(key) == KEY_BYTES:
            return key
        path.unlink(missing_ok=True)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.parent / f".signing.{os.getpid()}.{secrets.token_hex(4)}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, secrets.token_bytes(KEY_BYTES))
        os.fsync(fd)
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        os.close(fd)
        temporary.unlink()
    return path.read_bytes()
