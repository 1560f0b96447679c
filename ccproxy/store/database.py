"""
Private SQLite files that never prevent a worker from starting.

A file that is not a database, or that SQLite finds inconsistent, is renamed to
`NAME.damaged.<YYYYmmdd_HHMMSS>`, and a new one is created. A file that a newer ccproxy wrote is not
changed. `DatabaseFile.is_in_place` detects that an open file was removed.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ccproxy.errors import CcproxyError
from ccproxy.files import locked, open_private

LOCK_SECONDS = 5.0
"""Maximum seconds to wait for another process's lock."""

OPEN_SECONDS = 10.0
"""Maximum seconds to wait while another process opens the same file, which includes its check."""

MAX_DAMAGED = 3
"""Number of damaged files that are kept; older ones are deleted."""

_SUFFIXES = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The tables of a file; `version` is incremented with every change of `tables`."""

    version: int
    tables: str
    """The statements that create a new file."""
    upgrades: Mapping[int, str] = field(default_factory=dict)
    """The statements that upgrade a file from a version to the next."""


@dataclass(frozen=True, slots=True)
class DatabaseFile:
    """An open file."""

    connection: sqlite3.Connection = field(repr=False)
    path: Path
    set_aside: Path | None
    """The new path of the damaged file that had this name; None if there was none."""
    _status: os.stat_result

    def is_in_place(self) -> bool:
        """
        Return False if the file was removed or replaced.

        SQLite continues to write to a removed file without an error, and the data is lost.
        """
        try:
            return os.path.samestat(self.path.lstat(), self._status)
        except OSError:
            return False


def open_database(path: Path, schema: Schema) -> DatabaseFile:
    """
    Open the file at *path* for reading and writing; create it if it does not exist.

    Raises:
        CcproxyError: If a newer ccproxy wrote it.
        OSError: If its folder cannot be written, or another process does not finish opening it.
        sqlite3.Error: If the disk is full, or another process keeps it locked for too long.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Keeps two processes from both handling a damaged file, or both creating a new one.
    with locked(path.with_name(f"{path.name}.lock"), timeout=OPEN_SECONDS):
        set_aside = None if _is_sound(path) else _set_aside(path)
        status = _create(path)
        connection = _connect(path)
        try:
            _prepare(connection, path, schema)
        except BaseException:
            connection.close()
            raise
    return DatabaseFile(connection, path, set_aside, status)


def read_database(path: Path) -> sqlite3.Connection | None:
    """
    Open the file at *path* for reading; return None if it does not exist or has no tables yet.

    Raises:
        sqlite3.Error: If it is damaged.
    """
    if not path.is_file():
        return None
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=LOCK_SECONDS,
        isolation_level=None,
    )
    connection.row_factory = sqlite3.Row
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    if version:
        return connection
    connection.close()  # for example, created on a full disk without space for the tables
    return None


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """
    Convert SQLite's errors about the file at *path* into one for the user.

    Raises:
        CcproxyError: Instead of an `sqlite3.Error`.
    """
    try:
        yield
    except sqlite3.Error as error:
        fix = "try again; if that fails, move the file away: a new one will be created"
        raise CcproxyError(f"{path} cannot be read: {error}\n  fix: {fix}") from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block in one transaction: everything is written, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _is_sound(path: Path) -> bool:
    if not path.exists():
        return True
    connection = _connect(path)
    try:
        (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:
        raise  # locked, or the disk is full: not a sign of damage
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.close()
    return bool(result == "ok")


def _set_aside(path: Path) -> Path:
    stamp = datetime.fromtimestamp(time.time()).strftime("%Y%m%d_%H%M%S")
    target = path.with_name(f"{path.name}.damaged.{stamp}")
    for suffix in _SUFFIXES:
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(target.with_name(target.name + suffix))
    new_names = {target.name + suffix for suffix in _SUFFIXES}
    old = [one for one in path.parent.glob(f"{path.name}.damaged.*") if one.name not in new_names]
    stamps = sorted({one.name.partition(".damaged.")[2][:15] for one in old})
    for one in old:
        if one.name.partition(".damaged.")[2][:15] not in stamps[1 - MAX_DAMAGED :]:
            one.unlink(missing_ok=True)
    return target


def _create(path: Path) -> os.stat_result:
    """Create the file with mode 0600; SQLite would apply the umask."""
    fd = open_private(path, os.O_RDWR | os.O_CREAT)
    try:
        os.fchmod(fd, 0o600)
        return os.fstat(fd)
    finally:
        os.close(fd)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > schema.version:
        versions = f"schema version {version}, supported {schema.version}"
        text = f"{path} was written by a newer ccproxy ({versions})"
        raise CcproxyError(f"{text}\n  fix: upgrade ccproxy, or move the file away")
    if version == schema.version:
        return
    scripts = (
        [schema.upgrades[old] for old in range(version, schema.version)]
        if version
        else [schema.tables]
    )
    with transaction(connection):
        for statement in filter(None, map(str.strip, ";".join(scripts).split(";"))):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={schema.version:d}")
