"""The key with which thinking blocks are signed: one per fleet, made by whoever needs it first."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

KEY_BYTES = 32


def load_signing_key(state: Path) -> bytes:
    """
    Return the fleet's key out of its *state* folder, after making it if there is none.

    Workers that start together agree on one: a hard link is made by exactly one of them. A file
    that is not a key is replaced, which costs no more than the thinking of running sessions.
    """
    path = state / "signing.key"
    with suppress(FileNotFoundError):
        key = path.read_bytes()
        if len(key) == KEY_BYTES:
            return key
        path.unlink(missing_ok=True)
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = state / f".signing.{os.getpid()}.{secrets.token_hex(4)}"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, secrets.token_bytes(KEY_BYTES))
        os.fsync(fd)
        with suppress(FileExistsError):
            path.hardlink_to(fresh)
    finally:
        os.close(fd)
        fresh.unlink()
    return path.read_bytes()
