"""Records of sign-ins in a file: private, durable, and compared before they are replaced."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from ccproxy.errors import Problem
from ccproxy.store.sign_in_records import SignInRecords


@pytest.fixture
def records(tmp_path):
    records = SignInRecords(tmp_path, clock=lambda: 1_000_000.0)
    yield records
    records.close()


async def test_a_record_is_replaced_only_if_it_is_unchanged_since_it_was_read(records):
    steps = [
        (b"a", b"b", False, None),
        (None, b"a", True, b"a"),
        (None, b"b", False, b"a"),
        (b"x", b"b", False, b"a"),
        (b"a", b"b", True, b"b"),
        (b"a", None, False, b"b"),
        (b"b", None, True, None),
    ]
    for old, new, is_written, content in steps:
        assert await records.replace("name", old, new, seconds=9) is is_written
        assert await records.read("name") == content
    assert await records.read("other") is None


async def test_expired_records_are_deleted_by_the_next_one(records):
    await records.replace("old", None, b"x", seconds=0)
    await records.replace("new", None, b"x", seconds=1)
    rows = records._connection.execute("SELECT name FROM records").fetchall()
    assert [row["name"] for row in rows] == ["new"]


async def test_a_full_disk_is_an_error_and_the_record_stays(records, tmp_path, disk_limit):
    await records.replace("name", None, b"old", seconds=9)
    size = max(path.stat().st_size for path in tmp_path.iterdir())
    with disk_limit(size), pytest.raises(Problem, match="cannot use its sign-ins: disk I/O error"):
        await records.replace("name", b"old", b"new" * 1000, seconds=9)
    assert await records.read("name") == b"old"
    assert await records.replace("name", b"old", b"new", seconds=9)


WRITE = """
import asyncio, os, signal, sys
from pathlib import Path
from ccproxy.store.sign_in_records import SignInRecords
records = SignInRecords(Path(sys.argv[1]), clock=lambda: 1e6)
asyncio.run(records.replace("name", None, b"data", seconds=9))
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_records_survive_a_killed_worker(records, tmp_path):
    done = subprocess.run([sys.executable, "-c", WRITE, tmp_path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert await records.read("name") == b"data"


OLD = """
CREATE TABLE devices (code BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE sessions (id INTEGER PRIMARY KEY, old_refresh BLOB);
PRAGMA user_version=1
"""


async def test_a_file_of_an_earlier_version_is_used(tmp_path):
    with closing(sqlite3.connect(tmp_path / "sign_ins.sqlite3")) as connection:
        connection.executescript(OLD)
    with closing(SignInRecords(tmp_path, clock=lambda: 0.0)) as records:
        assert await records.replace("name", None, b"x", seconds=9)
