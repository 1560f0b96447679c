"""
History as JSON lines, in files of the fleet's `exports/` folder and nowhere else.

A name is the name of a file, never a path. A new file is readable only by its owner, never
overwrites another, and is never written through a symbolic link (CWE-22, CWE-59, CWE-73).
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from ccproxy.errors import UsageError
from ccproxy.store.history import ROLES, Turn

FOLDER = "exports"
MAX_BYTES = 64 * 1024 * 1024
"""Maximum size of a file to load."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def checked_name(name: str) -> str:
    """
    Return *name* if it can be the name of a file in `exports/`.

    Raises:
        UsageError: If it cannot.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name[:100]!r} is not the name of a file in {FOLDER}/, which has up to 100 letters, "
            "digits, dots, dashes and underscores, begins with a letter or digit, and is not a path"
        )
    return name


def create(home: Path, name: str) -> int:
    """
    Create the file *name* and return its descriptor, open for appending.

    Raises:
        UsageError: If *name* is not a valid file name.
        FileExistsError: If it exists.
        OSError: If it cannot be created.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return _open(home, checked_name(name), flags)


def append(home: Path, name: str) -> int:
    """Open the existing file *name* for appending; raises the same errors as `create`."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return _open(home, checked_name(name), flags)


def export(home: Path, name: str, turns: Iterable[Turn]) -> int:
    """Write *turns* to the new file *name*; return their number. Raises the errors of `create`."""
    lines = [line_of(turn) for turn in turns]
    fd = create(home, name)
    try:
        with os.fdopen(fd, "wb") as file:
            file.writelines(lines)
    except OSError:  # a partial export looks like a complete one
        (home / FOLDER / name).unlink(missing_ok=True)
        raise
    return len(lines)


def load(home: Path, name: str) -> list[Turn]:
    """
    Load the turns in the file *name*.

    Raises:
        UsageError: If *name* is not a valid file name, or a line is not a turn.
        OSError: If it cannot be read.
    """
    fd = _open(home, checked_name(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise UsageError(f"{name} is not a file of at most {MAX_BYTES >> 20} MiB")
        lines = file.read().splitlines()
    return [_turn(line, f"{name}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def line_of(turn: Turn) -> bytes:
    """Return *turn* as one line."""
    return json.dumps(turn.as_json(), ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _open(home: Path, name: str, flags: int) -> int:
    folder = home / FOLDER
    if flags & os.O_CREAT:
        folder.mkdir(mode=0o700, exist_ok=True)
    inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.open(name, flags, 0o600, dir_fd=inside)
    finally:
        os.close(inside)


def _turn(line: bytes, where: str) -> Turn:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON") from error
    if not isinstance(fields, dict):
        raise UsageError(f"{where} is not a JSON object")
    role, content, model = (fields.get(name, "") for name in ("role", "content", "model_used"))
    if role not in ROLES or not isinstance(content, str) or not isinstance(model or "", str):
        raise UsageError(f'{where} is not a turn: "role" is user or assistant, "content" a text')
    at = _time(fields.get("timestamp"), where)
    return Turn(at, role, _without_surrogates(content), _without_surrogates(model or ""))


def _without_surrogates(text: str) -> str:
    """Return *text* with "?" for each lone surrogate, which JSON can contain and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def _time(stamp: object, where: str) -> float:
    """Parse a time in ISO 8601 or in seconds; related programs write both."""
    try:
        if isinstance(stamp, str):
            at = datetime.fromisoformat(stamp)
            stamp = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        if isinstance(stamp, int | float) and math.isfinite(stamp):
            # A time outside the years 1 to 9999 in UTC cannot be displayed.
            return datetime.fromtimestamp(stamp, UTC).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f'{where}: "timestamp" is not a time') from error
    raise UsageError(f'{where}: "timestamp" is missing')
