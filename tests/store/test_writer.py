"""The writing thread: nobody waits for it, nothing is lost that could be written."""

from __future__ import annotations

import sqlite3
import time

import pytest

from ccproxy.errors import CcproxyError
from ccproxy.store import writer as writer_module
from ccproxy.store.database import Schema
from ccproxy.store.writer import LONGEST_QUEUE, Writer

SCHEMA = Schema(version=1, tables="CREATE TABLE one (x INTEGER)")


class Rig:
    """A writer, the batches that it wrote and what it warned of."""

    def __init__(self, path):
        self.batches = []
        self.warnings = []
        self.writer = Writer(path, SCHEMA, write=self._write, warn=self.warnings.append)

    def _write(self, connection, batch):
        self.batches.append(list(batch))
        connection.executemany("INSERT INTO one VALUES (?)", [(item,) for item in batch])

    def stored(self):
        rows = self.writer.ask(lambda db: db.execute("SELECT x FROM one ORDER BY x").fetchall())
        return [row[0] for row in rows.result(10)]


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path / "x.sqlite3")
    yield rig
    rig.writer.close()


def test_a_question_sees_what_was_put_down_before(rig):
    for number in range(100):
        rig.writer.put(number)
    assert rig.stored() == list(range(100))


def test_what_comes_together_is_written_together(rig):
    for number in range(1000):
        rig.writer.put(number)
    assert rig.stored() == list(range(1000))
    assert len(rig.batches) <= 2


def test_the_end_writes_the_rest(tmp_path):
    rig = Rig(tmp_path / "x.sqlite3")
    rig.writer.put(1)
    rig.writer.close()
    assert rig.batches == [[1]]
    with sqlite3.connect(tmp_path / "x.sqlite3") as connection:
        assert connection.execute("SELECT x FROM one").fetchall() == [(1,)]
    connection.close()


def test_putting_down_does_not_wait_for_the_file(rig, tmp_path):
    assert rig.stored() == []
    other = sqlite3.connect(tmp_path / "x.sqlite3", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    begun = time.perf_counter()
    for number in range(1000):
        rig.writer.put(number)
    took = time.perf_counter() - begun
    other.execute("ROLLBACK")
    other.close()
    assert took < 0.5
    assert rig.stored() == list(range(1000))


def test_a_failed_question_tells_who_asked_only(rig):
    asked = rig.writer.ask(lambda db: db.execute("SELECT * FROM nowhere"))
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        asked.result(10)
    assert rig.warnings == []
    assert rig.stored() == []


def test_a_damaged_file_is_told_and_replaced(tmp_path):
    (tmp_path / "x.sqlite3").write_bytes(b"no database" * 1000)
    rig = Rig(tmp_path / "x.sqlite3")
    rig.writer.put(1)
    assert rig.stored() == [1]
    (warning,) = rig.warnings
    assert "was damaged" in warning
    rig.writer.close()


def test_what_cannot_be_written_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "AGAIN_SECONDS", 0.05)
    (tmp_path / "x.sqlite3").mkdir()
    rig = Rig(tmp_path / "x.sqlite3")
    rig.writer.put(1)
    with pytest.raises(CcproxyError, match="cannot be used"):
        rig.stored()
    (tmp_path / "x.sqlite3").rmdir()
    assert rig.stored() == [1]
    assert len(rig.warnings) == 1
    rig.writer.close()


def test_of_too_much_the_oldest_is_given_up(tmp_path):
    (tmp_path / "x.sqlite3").mkdir()
    rig = Rig(tmp_path / "x.sqlite3")
    with pytest.raises(CcproxyError):
        rig.stored()
    for number in range(LONGEST_QUEUE + 5):
        rig.writer.put(number)
    assert rig.writer.lost == 5
    (tmp_path / "x.sqlite3").rmdir()
    assert rig.stored()[0] == 5
    rig.writer.close()


def test_what_no_file_can_take_is_given_up_and_the_writer_goes_on(rig):
    rig.writer.put(2**63)
    assert rig.stored() == []
    (warning,) = rig.warnings
    assert "1 entries of x.sqlite3 were given up: OverflowError" in warning
    assert rig.writer.lost == 1
    rig.writer.put(1)
    assert rig.stored() == [1]


def test_every_question_is_answered(rig):
    asked = rig.writer.ask(lambda db: {}["nothing"])
    with pytest.raises(KeyError):
        asked.result(10)
    assert rig.stored() == []
