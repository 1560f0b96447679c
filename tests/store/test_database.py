"""SQLite files: private, recovered when damaged, left alone if a newer version wrote them."""

from __future__ import annotations

import sqlite3
import stat
import threading

import pytest

from ccproxy.errors import CcproxyError
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


def test_of_many_processes_one_sets_a_damaged_file_aside(tmp_path):
    path = tmp_path / "x.sqlite3"
    path.write_bytes(b"no database" * 1000)
    found = []

    def opens():
        opened = open_database(path, SCHEMA)
        opened.connection.execute("INSERT INTO one VALUES (1)")
        found.append(opened)

    threads = [threading.Thread(target=opens) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(opened.set_aside is not None for opened in found) == 1
    assert count(found[0].connection) == 8
    for opened in found:
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


def test_a_removed_file_is_noticed(tmp_path):
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


def test_a_locked_file_is_not_taken_for_a_damaged_one(tmp_path, monkeypatch):
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
