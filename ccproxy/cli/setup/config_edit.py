"""
Edit the user's configuration: add and remove entries, env files and keys.

New files never overwrite existing ones. An edited file keeps every other line, its line ends, its
mode and its owner, and is replaced only if the result is valid.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import dropwhile
from pathlib import Path

from ccproxy.cli.render.terminal import short_path
from ccproxy.config import settings
from ccproxy.config.env_text import keys_in, masked_key, with_keys
from ccproxy.config.fleet import Entry, Fleet, load_fleet
from ccproxy.config.parsers import hide_keys, without_credentials
from ccproxy.errors import CcproxyError, ConfigError, Mistake, UsageError
from ccproxy.files import open_private, read_regular, write_atomically
from ccproxy.text import mask_key, printable

_FIRST_PORT = 8081


def without_secrets(text: str) -> str:
    """Return the lines of an env file to show on a terminal: indented, with every key masked."""
    lines = []
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if name in settings.PROVIDER_API_KEY.names:
            value = ",".join(map(masked_key, value.split(",")))
        elif settings.is_secret_setting(name):
            value = ",".join(map(mask_key, value.split(",")))
        else:
            value = hide_keys(without_credentials(value) if "://" in value else value)
        lines.append(f"  {printable(name + equals + value)}")
    return "\n".join(lines) + "\n"


def free_ports(used: Collection[int]) -> Iterator[int]:
    """Return the ports from 8081 upwards that the table does not use."""
    return (port for port in range(_FIRST_PORT, 65536) if port not in used)


def entry_text(port: int, env_file: str, label: str, fallbacks: Sequence[str] = ()) -> str:
    """Return an entry in the table's long form, which is valid after any other TOML table."""
    fallback = f"fallback = [{', '.join(map(toml_value, fallbacks))}]\n" if fallbacks else ""
    return f'[[proxy]]\nport = {port}\nenv_file = "{env_file}"\nlabel = "{label}"\n{fallback}'


def toml_value(value: str | int) -> str:
    """Return *value* in TOML, whose basic strings are JSON strings, except for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def check_new(files: Sequence[Path]) -> None:
    """
    Check that none of *files* exist.

    Raises:
        UsageError: If some exist; the message names them.

    """
    # lexists, because a dangling symbolic link also counts as a file.
    existing = [path for path in files if os.path.lexists(path)]
    if existing:
        names = ", ".join(short_path(path) for path in existing)
        raise UsageError(f"refusing to overwrite {names}\n  fix: move it elsewhere")


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep other ccproxy commands from editing files in *folder*, which is created if needed."""
    _make_folders(folder)
    # Lock the folder itself rather than a lock file: an aborted command must leave nothing behind.
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def write_new(path: Path, text: str) -> None:
    """
    Create a file with mode 0600 and its missing parent folders with mode 0700.

    Raises:
        OSError: If the file exists or cannot be written; an incomplete file is removed.

    """
    _make_folders(path.parent)
    fd = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
    except BaseException:
        path.unlink()
        raise


# The table.


def append(fleet: Fleet, table: Path, text: str) -> None:
    """
    Append *text* to *table*, a file of *fleet*'s table. Call it within `exclusive`.

    Raises:
        CcproxyError: If *text* would make the table invalid; nothing is changed.
        OSError: If *table* cannot be written or is not a regular file.

    """

    def change(old: str) -> str:
        return f"{old.rstrip()}\n\n{text}".lstrip()

    def check(draft: str) -> None:
        load_fleet(fleet.file, {table: draft})

    try:
        replace_text(table, change, check=check)
    except ConfigError as error:
        fix = f"add this by hand\n{text.rstrip()}"
        raise CcproxyError(f"cannot append to {short_path(table)}\n  fix: {fix}") from error


def remove_entry(fleet: Fleet, entry: Entry) -> None:
    """
    Remove *entry* from the table of *fleet*.

    Raises:
        CcproxyError: If the remaining table would be invalid, for example because a route names
            the entry, or if the entry cannot be located; nothing is changed.
        OSError: If the file cannot be written.

    """
    table = entry.table or fleet.file
    others = [other.label for other in fleet.entries if other.label != entry.label]

    def check(rest: Fleet) -> None:
        if [other.label for other in rest.entries] != others:
            where = f"{short_path(table)}:{entry.line}"
            raise CcproxyError(f"cannot locate {entry.label} in {where}\n  fix: remove it by hand")

    removed_lines = 0

    def change(text: str) -> str:
        nonlocal removed_lines
        rest = _without_entry(text, entry)
        removed_lines = text.count("\n") - rest.count("\n")
        return rest

    def use(mistake: Mistake) -> str:
        file, line = short_path(mistake.file), mistake.line
        if line is not None and file == short_path(table) and line >= (entry.line or 1):
            line += removed_lines  # the mistakes refer to the table without the entry
        where = file if line is None else f"{file}:{line}"
        return f"\n  {where}: {mistake.text}"

    try:
        change_table(fleet, table, change, check=check)
    except ConfigError as error:
        uses = dict.fromkeys(map(use, error.mistakes))
        text = f"{entry.label} is still in use, so it was not removed{''.join(uses)}"
        lines = "this line" if len(uses) == 1 else "these lines"
        raise CcproxyError(f"{text}\n  fix: change {lines} first") from error


def change_table(
    fleet: Fleet,
    table: Path,
    change: Callable[[str], str],
    *,
    check: Callable[[Fleet], object] = lambda _: None,
) -> None:
    """
    Replace the text of *table*, a file of *fleet*'s table, with the result of *change*.

    *check* is called with the changed fleet and can reject it by raising an exception.

    Raises:
        ConfigError: If the change introduces a mistake; nothing is changed.
        OSError: If the file cannot be written.

    """
    from ccproxy.config.fleet_check import check_fleet  # slow to import: it reads the presets

    before = {mistake.text for mistake in check_fleet(fleet.file).mistakes}

    def check_draft(text: str) -> None:
        checked = check_fleet(fleet.file, {table: text})
        check(checked.fleet)
        new = [
            mistake
            for mistake in checked.mistakes
            if mistake.text not in before and not mistake.is_empty_table
        ]
        if new:
            raise ConfigError(new)

    with exclusive(fleet.home):
        replace_text(table, change, check=check_draft)


def _without_entry(text: str, entry: Entry) -> str:
    lines = text.splitlines(keepends=True)
    index = (entry.line or 1) - 1
    if re.match(r"\s*\[\[\s*proxy\b", lines[index]):
        below = lines[index + 1 :]
        length = next((at for at, line in enumerate(below) if re.match(r"\s*\[", line)), len(below))
        # Comments after the entry's last setting may describe the table below it.
        while length and re.match(r"\s*(?:#|$)", below[length - 1]):
            length -= 1
        return "".join([*lines[:index], *dropwhile(str.isspace, below[length:])])
    label = re.escape(entry.label)
    element = rf"""(["'])\s*{entry.port}\s*:[^"']*:\s*{label}\s*\1[ \t]*,?[ \t]*"""
    rest = re.sub(element, "", lines[index], count=1)
    lines[index] = rest if rest.split("#")[0].strip() else ""
    return "".join(lines)


# Env files.


def read_keys(env_file: Path) -> tuple[str, ...]:
    """Return the provider's keys in an env file, or an empty tuple."""
    return keys_in(read_text(env_file))


def write_keys(env_file: Path, keys: Sequence[str]) -> None:
    """
    Replace the provider's keys in an env file; every other line is unchanged.

    Raises:
        CcproxyError: If the keys cannot be replaced, for example because of unusual quoting.
        OSError: If the file cannot be written.

    """
    value = ",".join(keys)

    def change(old: str) -> str:
        for candidate in with_keys(old, value):
            if keys_in(candidate) == tuple(keys):
                return candidate
        name, file = settings.PROVIDER_API_KEY.name, short_path(env_file)
        raise CcproxyError(f"cannot change the keys in {file}\n  fix: edit {name} by hand")

    with exclusive(env_file.parent):
        replace_text(env_file, change, check=lambda _: None)


# Reading and replacing a file.


def read_text(path: Path, *, newline: str | None = None) -> str:
    """
    Return the text of a configuration file, without a byte order mark.

    Raises:
        ConfigError: If it is not UTF-8.
        OSError: If it cannot be read.

    """
    try:
        return read_regular(path, encoding="utf-8-sig", newline=newline)
    except UnicodeDecodeError as error:
        text = "is not UTF-8 text"
        mistake = Mistake(file=path, line=None, text=text, fix="save it as UTF-8")
        raise ConfigError([mistake]) from error


def replace_text(
    path: Path, change: Callable[[str], str], *, check: Callable[[str], object]
) -> None:
    """
    Replace the text of *path* with the result of *change*, if *check* accepts it.

    The mode, the owner and a symbolic link are kept. Editors do not take the lock of `exclusive`:
    if the file changes while this runs, *change* is applied to the new text.

    Raises:
        OSError: If the file cannot be read or written.
    """
    path = path.resolve()
    while not _try_replace(path, change, check):
        pass


def _try_replace(path: Path, change: Callable[[str], str], check: Callable[[str], object]) -> bool:
    """Replace the file unless it has changed since it was read; return True if it was replaced."""
    before = path.stat()
    old = read_text(path, newline="")
    text = change(old.replace("\r\n", "\n"))
    check(text)
    has_only_crlf = "\r\n" in old and old.count("\r\n") == old.count("\n")
    return write_atomically(
        path,
        text.replace("\n", "\r\n") if has_only_crlf else text,
        mode=before.st_mode & 0o777,
        owner=(before.st_uid, before.st_gid) if os.geteuid() == 0 else None,  # kept under sudo
        is_current=lambda: _version(path.stat()) == _version(before),
    )


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _make_folders(folder: Path) -> None:
    # mkdir(parents=True) would not apply the mode to the parents.
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            path.mkdir(mode=0o700, exist_ok=True)
