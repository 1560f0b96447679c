"""
Opening a SQLite file of ours: for its owner only, and never in the way when it is damaged.

A file that is no database, or that SQLite finds to be inconsistent, is renamed to
`NAME.damaged.<YYYYmmdd_HHMMSS>` and a new one begun: statistics must not keep a worker from
starting. One that a newer ccproxy wrote is left as it is.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ccproxy.errors import CcproxyError

PATIENCE_SECONDS = 5.0
"""How long another process may hold the file."""

_BESIDE = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What a file holds; `version` counts up with every change of `tables`."""

    version: int
    tables: str
    """The statements that make a new file."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file, and where the damaged one that stood in its place went, if there was one."""

    connection: sqlite3.Connection = field(repr=False)
    set_aside: Path | None = None


def open_database(path: Path, schema: Schema) -> Opened:
    """
    Open the file at *path*, which is made if there is none, for reading and writing.

    Raises:
        CcproxyError: If a newer ccproxy wrote it.
        OSError: If its folder cannot be written.
        sqlite3.Error: If there is no room, or somebody else holds the file for too long.

    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(path):
        set_aside = None if _is_sound(path) else _set_aside(path)
        _create(path)
        connection = _connect(path)
        try:
            _prepare(connection, path, schema)
        except BaseException:
            connection.close()
            raise
    return Opened(connection, set_aside)


def read_database(path: Path) -> sqlite3.Connection | None:
    """
    Open the file at *path* for reading; None if there is none, or nothing was ever in it.

    Raises:
        sqlite3.Error: If it is damaged.

    """
    if not path.is_file():
        return None
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=PATIENCE_SECONDS,
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
    connection.close()  # made on a full disk, for example, where the tables found no room
    return None


@contextmanager
def told(path: Path) -> Iterator[None]:
    """
    Turn what SQLite minds about the file at *path* into words for the user.

    Raises:
        CcproxyError: Instead of its own errors.

    """
    try:
        yield
    except sqlite3.Error as error:
        fix = "try again; if that does not help, move the file away: a new one will be made"
        raise CcproxyError(f"{path} cannot be read: {error}\n  fix: {fix}") from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Do everything in the block, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from judging or making the file at the same time."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path.with_name(f"{path.name}.lock"), flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _is_sound(path: Path) -> bool:
    if not path.exists():
        return True
    connection = _connect(path)
    try:
        (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:
        raise  # busy, or no room: nothing is known about the file
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.close()
    return bool(said == "ok")


def _set_aside(path: Path) -> Path:
    stamp = datetime.fromtimestamp(time.time()).strftime("%Y%m%d_%H%M%S")
    target = path.with_name(f"{path.name}.damaged.{stamp}")
    for suffix in _BESIDE:
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(target.with_name(target.name + suffix))
    return target


def _create(path: Path) -> None:
    """Make the file ours alone before SQLite does it with the umask's mode."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, 0o600)
    try:
        os.fchmod(fd, 0o600)
    finally:
        os.close(fd)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=PATIENCE_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > schema.version:
        text = f"{path} was written by a newer ccproxy (form {version}, known {schema.version})"
        raise CcproxyError(f"{text}\n  fix: upgrade ccproxy, or move the file away")
    if version == schema.version:
        return
    with transaction(connection):
        for statement in filter(None, map(str.strip, schema.tables.split(";"))):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={schema.version:d}")
