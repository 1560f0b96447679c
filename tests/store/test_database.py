"""SQLite files: private, recovered if damaged, unchanged if a newer version wrote them."""

from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from ccproxy.errors import CcproxyError
from ccproxy.files import locked
from ccproxy.store.database import (
    Schema,
    database_errors,
    open_database,
    read_database,
    transaction,
)

SCHEMA = Schema(version=1, tables="CREATE TABLE one (x INTEGER); CREATE TABLE two (x INTEGER)")


def count(connection, table="one"):
    return connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]


def test_a_new_file_is_private(tmp_path):
    path = tmp_path / "state" / "x.sqlite3"
    opened = open_database(path, SCHEMA)
    assert opened.set_aside is None
    assert count(opened.connection) == count(opened.connection, "two") == 0
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
    assert opened.connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    opened.connection.close()


def test_a_file_that_others_can_read_becomes_private(tmp_path):
    path = tmp_path / "x.sqlite3"
    open_database(path, SCHEMA).connection.close()
    path.chmod(0o644)
    open_database(path, SCHEMA).connection.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_existing_file_is_opened_with_its_content(tmp_path):
    path = tmp_path / "x.sqlite3"
    first = open_database(path, SCHEMA).connection
    first.execute("INSERT INTO one VALUES (1)")
    second = open_database(path, SCHEMA)
    assert second.set_aside is None
    assert count(second.connection) == 1
    first.close()
    second.connection.close()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda data: b"this is no database, " * 300, id="something else"),
        pytest.param(lambda data: data[:-100], id="cut off"),
        pytest.param(lambda data: data[:4096] + b"\xff" * 4096 + data[8192:], id="a page is lost"),
        pytest.param(lambda data: b"\0" * 16 + data[16:], id="its head is lost"),
    ],
)
def test_a_damaged_file_is_set_aside(tmp_path, spoil):
    path = tmp_path / "x.sqlite3"
    connection = open_database(path, SCHEMA).connection
    connection.executemany("INSERT INTO one VALUES (?)", [(n,) for n in range(5000)])
    connection.close()
    spoilt = spoil(path.read_bytes())
    path.write_bytes(spoilt)

    opened = open_database(path, SCHEMA)
    assert opened.set_aside is not None
    assert opened.set_aside.read_bytes() == spoilt
    assert opened.set_aside.name.startswith("x.sqlite3.damaged.")
    assert count(opened.connection) == 0
    opened.connection.close()


def test_only_one_of_many_processes_sets_a_damaged_file_aside(tmp_path):
    path = tmp_path / "x.sqlite3"
    path.write_bytes(b"no database" * 1000)
    result = []

    def opens():
        opened = open_database(path, SCHEMA)
        opened.connection.execute("INSERT INTO one VALUES (1)")
        result.append(opened)

    threads = [threading.Thread(target=opens) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(opened.set_aside is not None for opened in result) == 1
    assert count(result[0].connection) == 8
    for opened in result:
        opened.connection.close()


def test_a_file_of_a_newer_version_is_not_changed(tmp_path):
    path = tmp_path / "x.sqlite3"
    open_database(path, Schema(version=2, tables="CREATE TABLE new (x)")).connection.close()
    before = path.read_bytes()
    with pytest.raises(CcproxyError, match="written by a newer ccproxy"):
        open_database(path, SCHEMA)
    assert path.read_bytes() == before


def test_a_link_is_not_followed(tmp_path):
    target = tmp_path / "foreign"
    (tmp_path / "x.sqlite3").symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        open_database(tmp_path / "x.sqlite3", SCHEMA)
    assert not target.exists()


def test_a_transaction_is_all_or_nothing(tmp_path):
    connection = open_database(tmp_path / "x.sqlite3", SCHEMA).connection

    def half():
        with transaction(connection):
            connection.execute("INSERT INTO one VALUES (1)")
            connection.execute("INSERT INTO none VALUES (1)")

    with pytest.raises(sqlite3.OperationalError):
        half()
    assert count(connection) == 0
    connection.close()


def test_reading_creates_no_file(tmp_path):
    assert read_database(tmp_path / "x.sqlite3") is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_tables_counts_as_missing(tmp_path):
    path = tmp_path / "x.sqlite3"
    path.touch()
    assert read_database(path) is None


def test_reading_a_damaged_file_is_an_error(tmp_path):
    path = tmp_path / "x.sqlite3"
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(sqlite3.DatabaseError):
        read_database(path)


def test_a_reader_cannot_write(tmp_path):
    path = tmp_path / "x.sqlite3"
    open_database(path, SCHEMA).connection.close()
    reader = read_database(path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("INSERT INTO one VALUES (1)")
    reader.close()


def test_a_removed_file_is_detected(tmp_path):
    path = tmp_path / "x.sqlite3"
    opened = open_database(path, SCHEMA)
    assert opened.is_in_place()
    path.rename(tmp_path / "y.sqlite3")
    assert not opened.is_in_place()
    (tmp_path / "z.sqlite3").touch()
    (tmp_path / "z.sqlite3").rename(path)
    assert not opened.is_in_place()
    opened.connection.close()


def test_only_the_last_damaged_files_are_kept(tmp_path, monkeypatch):
    path = tmp_path / "x.sqlite3"
    for number in range(6):
        monkeypatch.setattr("time.time", lambda number=number: 1e9 + number)
        path.write_bytes(b"no database %d" % number * 1000)
        open_database(path, SCHEMA).connection.close()
        path.unlink()
    damaged = sorted(path.read_bytes()[12:13] for path in tmp_path.glob("x.sqlite3.damaged.*"))
    assert damaged == [b"3", b"4", b"5"]


def test_a_process_that_never_finishes_opening_a_file_does_not_block_others(tmp_path, monkeypatch):
    """For example because it is suspended; a supervisor that waited for it could not exit."""
    monkeypatch.setattr("ccproxy.store.database.OPEN_SECONDS", 0.05)
    path = tmp_path / "x.sqlite3"
    with locked(tmp_path / "x.sqlite3.lock"), pytest.raises(TimeoutError, match="is locked by"):
        open_database(path, SCHEMA)
    open_database(path, SCHEMA).connection.close()


def test_a_locked_file_is_not_treated_as_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr("ccproxy.store.database.LOCK_SECONDS", 0.05)
    path = tmp_path / "x.sqlite3"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE one (x)")
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        open_database(path, SCHEMA)
    connection.execute("ROLLBACK")
    connection.close()
    assert list(tmp_path.glob("*.damaged.*")) == []


def test_errors_of_sqlite_name_the_file_and_a_fix(tmp_path):
    path = tmp_path / "x.sqlite3"
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(CcproxyError) as caught, database_errors(path):
        read_database(path)
    assert str(caught.value).startswith(f"{path} cannot be read: ")
    assert "\n  fix: " in str(caught.value)


def test_the_journal_of_a_damaged_file_is_not_applied_to_the_new_one(tmp_path):
    path = tmp_path / "x.sqlite3"
    open_database(path, SCHEMA).connection.close()
    connection = open_database(path, SCHEMA).connection
    connection.execute("INSERT INTO one VALUES (1)")
    journal = path.with_name("x.sqlite3-wal").read_bytes()
    connection.close()
    path.write_bytes(b"no database " * 1000)
    path.with_name("x.sqlite3-wal").write_bytes(journal)

    opened = open_database(path, SCHEMA)
    assert count(opened.connection) == 0
    opened.connection.execute("INSERT INTO one VALUES (2)")
    assert opened.set_aside is not None
    opened.connection.close()
    again = open_database(path, SCHEMA)
    assert (again.set_aside, count(again.connection)) == (None, 1)
    again.connection.close()


# Upgrades.

SECOND = "ALTER TABLE one ADD COLUMN y INTEGER DEFAULT 7"


def upgraded(version=3, **upgrades):
    steps = {1: SECOND, 2: "CREATE TABLE three (x INTEGER)"}
    steps |= {int(name.removeprefix("from_")): text for name, text in upgrades.items()}
    return Schema(version=version, tables="", upgrades=steps)


def version_of(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


@pytest.fixture
def old_file(tmp_path):
    path = tmp_path / "x.sqlite3"
    connection = open_database(path, SCHEMA).connection
    connection.execute("INSERT INTO one VALUES (1)")
    connection.close()
    return path


def test_an_old_file_is_upgraded_step_by_step_with_its_content(old_file):
    connection = open_database(old_file, upgraded()).connection
    assert [tuple(row) for row in connection.execute("SELECT x, y FROM one")] == [(1, 7)]
    assert count(connection, "three") == 0
    connection.close()
    assert version_of(old_file) == 3


def test_an_upgrade_that_fails_leaves_the_old_file(old_file):
    """The steps before the failed one are undone too, so that the next version can retry."""
    with pytest.raises(sqlite3.OperationalError):
        open_database(old_file, upgraded(from_2="CREATE TABLE one (x INTEGER)"))
    assert version_of(old_file) == 1
    connection = open_database(old_file, SCHEMA).connection
    assert [tuple(row) for row in connection.execute("SELECT * FROM one")] == [(1,)]
    connection.close()


def test_two_processes_upgrade_a_file_once(old_file):
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: open_database(old_file, upgraded()), range(8)))
    for each in opened:
        assert count(each.connection) == 1
        each.connection.close()
    assert version_of(old_file) == 3


# Processes that are killed.

KILLED = """
import os, signal, sys
from pathlib import Path
from ccproxy.store.database import Schema, open_database, transaction
schema = Schema(version=1, tables="CREATE TABLE one (x INTEGER)")
db = open_database(Path(sys.argv[1]), schema).connection
with transaction(db):
    db.executemany("INSERT INTO one VALUES (?)", [(n,) for n in range(1000)])
db.execute("BEGIN IMMEDIATE")
db.executemany("INSERT INTO one VALUES (?)", [(n,) for n in range(50_000)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_its_finished_transactions_and_no_other(tmp_path):
    """Committed data is only in the journal, where readers and the next writer find it."""
    path = tmp_path / "x.sqlite3"
    done = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.with_name("x.sqlite3-wal").stat().st_size > 0
    with closing(read_database(path)) as reader:
        assert count(reader) == 1000
    opened = open_database(path, SCHEMA)
    assert opened.set_aside is None
    assert count(opened.connection) == 1000
    opened.connection.close()


def test_a_file_on_a_full_disk_is_neither_replaced_nor_incomplete(tmp_path, disk_limit):
    path = tmp_path / "x.sqlite3"
    with disk_limit(2000), pytest.raises(sqlite3.OperationalError):
        open_database(path, SCHEMA)
    assert list(tmp_path.glob("*.damaged.*")) == []
    assert read_database(path) is None
    connection = open_database(path, SCHEMA).connection
    assert count(connection) == 0
    connection.close()


def test_an_insert_on_a_full_disk_fails_and_the_rest_stays(tmp_path, disk_limit):
    path = tmp_path / "x.sqlite3"
    connection = open_database(path, SCHEMA).connection
    connection.execute("INSERT INTO one VALUES (1)")

    def insert_many():
        with transaction(connection):
            rows = [(number,) for number in range(100_000)]
            connection.executemany("INSERT INTO one VALUES (?)", rows)

    with disk_limit(100_000), pytest.raises(sqlite3.OperationalError):
        insert_many()
    assert count(connection) == 1
    insert_many()
    assert count(connection) == 100_001
    connection.close()
