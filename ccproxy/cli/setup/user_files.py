"""What commands add to the user's files: env files and entries. Nothing is ever overwritten."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ccproxy.cli.render.terminal import clean, near
from ccproxy.config.fleet import load_fleet
from ccproxy.config.parsers import masked
from ccproxy.errors import CcproxyError, UsageError
from ccproxy.files import read_regular

_FIRST_PORT = 8081
_SECRETS = ("PROVIDER_API_KEY", "ANTHROPIC_API_KEY")


def env_line(name: str, value: str) -> str:
    """Return a line of an env file, quoted with backslashes, unlike for a shell."""
    if re.fullmatch(r"[\w./:@+,=*-]+", value):
        return f"{name}={value}"
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{name}='{escaped}'"


def without_secrets(text: str) -> str:
    """Return the lines of an env file, each harmless to a terminal and without a key in it."""
    lines = []
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        secret = name.startswith("CUSTOM_HEADER_") or name in _SECRETS
        lines.append(f"  {clean(name + equals + masked(value) if secret else line)}")
    return "\n".join(lines) + "\n"


def ports_besides(taken: Collection[int]) -> Iterator[int]:
    """Return the ports that the table has left, the smallest usual one first."""
    return (port for port in range(_FIRST_PORT, 65536) if port not in taken)


def entry_text(port: int, env_file: str, label: str) -> str:
    """Return an entry in the table's long form, which may stand behind anything."""
    return f'[[proxy]]\nport = {port}\nenv_file = "{env_file}"\nlabel = "{label}"\n'


def check_new(files: Sequence[Path]) -> None:
    """
    Be sure that none of *files* is there.

    Raises:
        UsageError: With the names of those that are.

    """
    # A link that leads nowhere is there, too.
    there = [path for path in files if os.path.lexists(path)]
    if there:
        names = ", ".join(near(path) for path in there)
        raise UsageError(f"nothing is overwritten, but there is {names}\n  fix: move it away")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other commands from adding to the files in *folder*, which is made if need be."""
    _make_folders(folder)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def write_new(path: Path, text: str) -> None:
    """
    Write a file that was not there, for its owner alone; so are the folders that it needs.

    Raises:
        OSError: If it cannot be written; nothing is left of it then.

    """
    _make_folders(path.parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
    except BaseException:
        path.unlink()
        raise


def append(table: Path, text: str) -> None:
    """
    Add *text* to the table by way of a new file, so that it is never there by half.

    To be called `alone`. Somebody's editor knows nothing of that: what it saves is added to.

    Raises:
        CcproxyError: If it cannot be a table with *text* behind it; it is left as it was.
        OSError: If the system refuses, or if it is no regular file.

    """
    while not _is_added(table, text):
        pass


def _is_added(table: Path, text: str) -> bool:
    """Add *text*, and return True; or False, if the table was changed meanwhile."""
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
            f"nothing can be added to the end of {near(table)}\n  fix: add by hand\n{text.rstrip()}"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return True


def _version(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_size


def _make_folders(folder: Path) -> None:
    for one in (*reversed(folder.parents), folder):
        if not one.exists():
            one.mkdir(mode=0o700, exist_ok=True)
