"""The writer thread: callers never wait, and no item is lost that can be written."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ccproxy.errors import CcproxyError
from ccproxy.store import writer as writer_module
from ccproxy.store.database import Schema, transaction
from ccproxy.store.writer import MAX_QUEUE, Writer

SCHEMA = Schema(version=1, tables="CREATE TABLE one (x INTEGER)")


class Rig:
    """A writer, the batches that it wrote and its warnings."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.batches: list[list[int]] = []
        self.warnings: list[str] = []
        self.writer: Writer[int] = Writer(
            path, SCHEMA, write=self._write, warn=self.warnings.append, **options
        )

    def _write(self, connection: sqlite3.Connection, batch: Sequence[int]) -> None:
        self.batches.append(list(batch))
        with transaction(connection):
            connection.executemany("INSERT INTO one VALUES (?)", [(item,) for item in batch])

    def stored(self) -> list[int]:
        query = "SELECT x FROM one ORDER BY x"
        rows = self.writer.ask(lambda db: db.execute(query).fetchall()).result(20)
        return [row[0] for row in rows]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state/x.sqlite3"


@pytest.fixture
def rig(path: Path) -> Iterator[Rig]:
    rig = Rig(path)
    yield rig
    rig.writer.close()


def on_disk(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT x FROM one ORDER BY x")]


# Order.


def test_a_query_sees_all_earlier_items(rig: Rig) -> None:
    for number in range(100):
        rig.writer.put(number)
    assert rig.stored() == list(range(100))


def test_simultaneous_items_are_written_together(rig: Rig) -> None:
    for number in range(1000):
        rig.writer.put(number)
    assert rig.stored() == list(range(1000))
    assert len(rig.batches) <= 2


def test_close_writes_the_remaining_items(path: Path) -> None:
    rig = Rig(path)
    rig.writer.put(1)
    rig.writer.close()
    assert rig.batches == [[1]]
    assert on_disk(path) == [1]


def test_items_of_many_threads_are_each_written_once(rig: Rig) -> None:
    def put(first: int) -> None:
        for number in range(first, first + 500):
            rig.writer.put(number)

    threads = [threading.Thread(target=put, args=(first,)) for first in range(0, 4000, 500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rig.stored() == list(range(4000))


def test_a_failed_query_fails_only_for_its_caller(rig: Rig) -> None:
    missing_table = rig.writer.ask(lambda db: db.execute("SELECT * FROM nowhere"))
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        missing_table.result(20)
    empty: dict[str, int] = {}
    mistake = rig.writer.ask(lambda _: empty["nothing"])
    with pytest.raises(KeyError):
        mistake.result(20)
    assert rig.warnings == []
    assert rig.stored() == []


def test_a_cancelled_query_is_skipped(rig: Rig) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def block(_: sqlite3.Connection) -> None:
        begun.set()
        may_end.wait(20)

    first = rig.writer.ask(block)
    begun.wait(20)
    calls: list[None] = []
    second = rig.writer.ask(lambda _: calls.append(None))
    assert second.cancel()
    may_end.set()
    first.result(20)
    assert rig.stored() == []
    assert calls == []


# Files that cannot be used.


def test_callers_do_not_wait_for_a_locked_file(rig: Rig, path: Path) -> None:
    assert rig.stored() == []
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for number in range(1000):
            rig.writer.put(number)  # returns although the lock is still held
        other.execute("ROLLBACK")
    assert rig.stored() == list(range(1000))


def test_a_file_that_stays_locked_is_retried_without_losing_items(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccproxy.store.database.LOCK_SECONDS", 0.05)
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 0.05)
    rig = Rig(path)
    assert rig.stored() == []
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        rig.writer.put(1)
        rig.stored()  # readers in WAL mode are not blocked
        other.execute("ROLLBACK")
    assert rig.stored() == [1]
    assert [warning for warning in rig.warnings if "locked" in warning] == [
        "x.sqlite3 cannot be written: database is locked"
    ]
    rig.writer.close()
    assert on_disk(path) == [1]


def test_a_damaged_file_is_reported_and_replaced(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    rig = Rig(path)
    rig.writer.put(1)
    assert rig.stored() == [1]
    (warning,) = rig.warnings
    assert warning.startswith("x.sqlite3 was damaged; moved to x.sqlite3.damaged.")
    rig.writer.close()


def test_a_file_that_cannot_be_opened_is_retried(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 0.05)
    path.mkdir(parents=True)
    rig = Rig(path)
    rig.writer.put(1)
    with pytest.raises(CcproxyError, match="cannot be used"):
        rig.stored()
    path.rmdir()
    assert rig.stored() == [1]
    assert len(rig.warnings) == 1
    rig.writer.close()


@pytest.mark.parametrize("removed", ["file", "folder", "replaced"])
def test_a_removed_file_is_created_again_and_later_items_are_kept(path: Path, removed: str) -> None:
    """SQLite would write to the removed file without an error."""
    rig = Rig(path)
    rig.writer.put(1)
    assert rig.stored() == [1]
    if removed == "folder":
        shutil.rmtree(path.parent)
    else:
        path.unlink()
    if removed == "replaced":
        path.touch()
    rig.writer.put(2)
    assert rig.stored() == [2]
    assert rig.warnings == ["x.sqlite3 was removed; creating a new one"]
    rig.writer.close()
    assert on_disk(path) == [2]


def test_items_are_kept_while_the_disk_is_full(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "RETRY_SECONDS", 0.05)
    pages = rig.writer.ask(lambda db: db.execute("PRAGMA max_page_count").fetchone()[0]).result(20)
    limit = "PRAGMA max_page_count={}"
    rig.writer.ask(lambda db: db.execute(limit.format(2)).fetchall()).result(20)
    for number in range(5000):
        rig.writer.put(number)
    rig.stored()
    assert rig.warnings == ["x.sqlite3 cannot be written: database or disk is full"]
    rig.writer.ask(lambda db: db.execute(limit.format(pages)).fetchall()).result(20)
    assert set(rig.stored()) == set(range(5000))
    assert rig.writer.lost == 0


# Limits.


def test_the_oldest_of_too_many_waiting_items_are_discarded(path: Path) -> None:
    path.mkdir(parents=True)
    rig = Rig(path)
    with pytest.raises(CcproxyError):
        rig.stored()
    for number in range(MAX_QUEUE + 5):
        rig.writer.put(number)
    assert rig.writer.lost == 5
    path.rmdir()
    assert rig.stored()[0] == 5
    rig.writer.close()


def test_the_size_of_waiting_items_is_limited(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "MAX_BYTES", 100)
    path.mkdir(parents=True)
    rig = Rig(path, size_of=lambda item: item)
    for number in (101, 30, 31, 32, 33, 34):
        rig.writer.put(number)
        with pytest.raises(CcproxyError):
            rig.stored()
    path.rmdir()
    stored = rig.stored()
    assert (len(stored), rig.writer.lost) == (3, 3)
    rig.writer.put(90)
    assert rig.stored() == [*stored, 90]
    rig.writer.close()


def test_only_an_item_that_no_file_can_take_is_discarded_and_the_thread_survives(rig: Rig) -> None:
    for number in (1, 2**63, 2):
        rig.writer.put(number)
    assert rig.stored() == [1, 2]
    (warning,) = rig.warnings
    assert "an entry of x.sqlite3 was discarded: OverflowError" in warning
    assert rig.writer.lost == 1
    rig.writer.put(3)
    assert rig.stored() == [1, 2, 3]


def test_items_wait_in_order_if_the_file_fails_while_a_bad_item_is_discarded(path: Path) -> None:
    """Each of them would wait for the lock of the file, and then become the first of the queue."""
    attempts: list[list[str]] = []
    written: list[str] = []

    def write(_: sqlite3.Connection, batch: Sequence[str]) -> None:
        attempts.append(list(batch))
        if "bad" in batch:
            raise ValueError(batch)
        if len(attempts) == 2:
            raise sqlite3.OperationalError("database is locked")
        written.extend(batch)

    writer: Writer[str] = Writer(path, SCHEMA, write=write, warn=lambda _: None)
    for item in ("a", "bad", "b", "c"):
        writer.put(item)
    writer.close()
    assert attempts[:3] == [["a", "bad", "b", "c"], ["a"], ["a", "bad", "b", "c"]]
    assert (written, writer.lost) == (["a", "b", "c"], 1)
