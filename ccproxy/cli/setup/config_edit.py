"""Add env files and entries to the user's configuration. Nothing is ever overwritten."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ccproxy.cli.render.terminal import short_path
from ccproxy.config.fleet import load_fleet
from ccproxy.errors import CcproxyError, UsageError
from ccproxy.files import open_private, read_regular
from ccproxy.text import mask_key, printable

_FIRST_PORT = 8081
_SECRETS = ("PROVIDER_API_KEY", "ANTHROPIC_API_KEY")


def env_line(name: str, value: str) -> str:
    """Return a line of an env file; a value that needs quotes is escaped with backslashes."""
    if re.fullmatch(r"[\w./:@+,=*-]+", value):
        return f"{name}={value}"
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{name}='{escaped}'"


def without_secrets(text: str) -> str:
    """Return the lines of an env file for a terminal, indented and with every key masked."""
    lines = []
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if name.startswith("CUSTOM_HEADER_"):
            value = mask_key(value)
        elif name in _SECRETS:
            value = ",".join(mask_key(key.strip()) for key in value.split(","))
        lines.append(f"  {printable(name + equals + value)}")
    return "\n".join(lines) + "\n"


def free_ports(used: Collection[int]) -> Iterator[int]:
    """Return the ports from 8081 that the table does not use."""
    return (port for port in range(_FIRST_PORT, 65536) if port not in used)


def entry_text(port: int, env_file: str, label: str) -> str:
    """Return an entry in the table's long form, which is valid after any other table."""
    return f'[[proxy]]\nport = {port}\nenv_file = "{env_file}"\nlabel = "{label}"\n'


def check_new(files: Sequence[Path]) -> None:
    """
    Check that none of *files* exists.

    Raises:
        UsageError: With the names of those that do.

    """
    # lexists: a dangling symbolic link counts as a file, too.
    existing = [path for path in files if os.path.lexists(path)]
    if existing:
        names = ", ".join(short_path(path) for path in existing)
        raise UsageError(f"refusing to overwrite {names}\n  fix: move it away")


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep other ccproxy commands from editing files in *folder*, which is created if needed."""
    _make_folders(folder)
    # The folder itself is locked, not a lock file: an aborted command must leave nothing behind.
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def write_new(path: Path, text: str) -> None:
    """
    Create a file with mode 0600, and the folders it needs with mode 0700.

    Raises:
        OSError: If it exists or cannot be written; an incomplete file is removed.

    """
    _make_folders(path.parent)
    fd = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
    except BaseException:
        path.unlink()
        raise


def append(table: Path, text: str) -> None:
    """
    Append *text* to the table atomically. Call it within `exclusive`.

    An editor does not take that lock; if it saves meanwhile, its version is read and appended to.

    Raises:
        CcproxyError: If the table would not be valid with *text*; it is not changed.
        OSError: If the system refuses, or if it is not a regular file.

    """
    while not _try_append(table, text):
        pass


def _try_append(table: Path, text: str) -> bool:
    """Append *text* and return True; return False if the table changed meanwhile."""
    before = table.stat()
    old = read_regular(table)
    fd, name = tempfile.mkstemp(dir=table.parent)
    draft = Path(name)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(f"{old.rstrip()}\n\n{text}".lstrip())
            file.flush()
            os.fsync(file.fileno())
        load_fleet(draft)
        draft.chmod(before.st_mode & 0o777)
        if _version(table.stat()) != _version(before):
            return False
        draft.replace(table)
    except CcproxyError as error:
        raise CcproxyError(
            f"cannot append to {short_path(table)}\n  fix: add this by hand\n{text.rstrip()}"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return True


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _make_folders(folder: Path) -> None:
    # mkdir(parents=True) would ignore the mode for the parents.
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            path.mkdir(mode=0o700, exist_ok=True)
