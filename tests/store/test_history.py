"""Recorded turns: stored per label, read in order, deleted after they expire."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

import pytest

from ccproxy.errors import CcproxyError
from ccproxy.store.database import open_database
from ccproxy.store.history import (
    FILE_NAME,
    RETENTION,
    SCHEMA,
    Turn,
    add,
    add_new_turns,
    clear_turns,
    count,
    last,
    prune,
    prune_turns,
    read_turns,
)


@pytest.fixture
def history(tmp_path):
    with closing(open_database(tmp_path / FILE_NAME, SCHEMA).connection) as connection:
        yield connection


def turn(text, *, role="user", at=1e9):
    return Turn(at, role, text, "k2")


def texts(turns):
    return [one.content for one in turns]


def test_turns_are_read_unchanged(history):
    output = [turn("Hi"), turn("Hello ✓\n", role="assistant")]
    add(history, "kimi", output)
    assert last(history, "kimi") == output
    assert count(history, "kimi") == 2


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, ["a", "b", "c"]), (2, ["b", "c"]), (9, ["a", "b", "c"]), (0, [])],
)
def test_a_limit_selects_the_last_turns(history, limit, expected):
    add(history, "kimi", map(turn, "abc"))
    assert texts(last(history, "kimi", limit=limit)) == expected


def test_labels_are_separate_but_case_insensitive(history):
    add(history, "kimi", [turn("a")])
    add(history, "glm", [turn("b")])
    assert texts(last(history, "KIMI")) == ["a"]
    assert count(history, "other") == 0


def test_old_turns_are_deleted_and_imports_expire_later(history):
    add(history, "kimi", [turn("said in 2001")])
    prune(history, now=time.time())
    assert count(history, "kimi") == 1
    prune(history, now=time.time() + RETENTION.total_seconds() + 1)
    assert count(history, "kimi") == 0


def test_expired_turns_are_hidden_before_they_are_deleted(history):
    add(history, "kimi", [turn("old"), turn("new")])
    old = time.time() - RETENTION.total_seconds() - 1
    history.execute("UPDATE turns SET stored = ? WHERE content = 'old'", (old,))
    assert texts(last(history, "kimi")) == ["new"]
    assert count(history, "kimi") == 1


def test_readers_without_a_worker(tmp_path):
    assert read_turns(tmp_path, "kimi") == []
    assert add_new_turns(tmp_path, "kimi", [turn("a"), turn("b")]) == 2
    assert add_new_turns(tmp_path, "kimi", [turn("b"), turn("b", role="assistant")]) == 1
    assert clear_turns(tmp_path, "kimi") == 3
    assert add_new_turns(tmp_path, "kimi", [turn("a"), turn("b")]) == 2
    add_new_turns(tmp_path, "glm", [turn("c")])
    assert texts(read_turns(tmp_path, "kimi", limit=1)) == ["b"]
    assert clear_turns(tmp_path, "kimi") == 2
    assert read_turns(tmp_path, "kimi") == []
    assert texts(read_turns(tmp_path, "glm")) == ["c"]


def test_a_dry_run_counts_expired_turns_and_deletes_none(tmp_path):
    (tmp_path / FILE_NAME).touch()  # created on a full disk, without tables
    assert prune_turns(tmp_path, dry_run=True) == 0
    add_new_turns(tmp_path, "kimi", [turn("a"), turn("b")])
    assert prune_turns(tmp_path, keep=timedelta(0), dry_run=True) == 2
    assert texts(read_turns(tmp_path, "kimi")) == ["a", "b"]
    assert prune_turns(tmp_path, keep=timedelta(0)) == 2


def test_a_turn_as_json():
    assert turn("Hi", at=0.5).as_json() == {
        "timestamp": "1970-01-01T00:00:00.500+00:00",
        "role": "user",
        "content": "Hi",
        "model_used": "k2",
    }


def test_expired_turns_are_not_shown_and_are_deleted(history):
    add(history, "kimi", [turn("old"), turn("new")])
    expired = time.time() - RETENTION.total_seconds() - 60
    history.execute("UPDATE turns SET stored = ? WHERE content = 'old'", (expired,))
    add(history, "kimi", [turn("next")])
    assert texts(last(history, "kimi")) == ["new", "next"]
    assert prune(history, now=time.time()) == 1
    assert history.execute("SELECT COUNT(*) FROM turns").fetchone()[0] == 2


# Several processes, kills and full disks.


def test_imports_at_the_same_time_add_each_turn_once(tmp_path):
    turns = [turn(f"{number}", at=1e9 + number) for number in range(50)]
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda _: add_new_turns(tmp_path, "kimi", turns), range(4)))
    assert sorted(added) == [0, 0, 0, 50]
    assert read_turns(tmp_path, "kimi") == turns


ADD = """
import os, signal, sys
from pathlib import Path
from ccproxy.store.history import Turn, add_new_turns

def turns():
    yield Turn(1e9, "user", "first", "k2")
    os.kill(os.getpid(), signal.SIGKILL)

add_new_turns(Path(sys.argv[1]), "kimi", turns())
"""


def test_an_import_that_is_killed_adds_nothing(tmp_path):
    add_new_turns(tmp_path, "kimi", [turn("before")])
    done = subprocess.run([sys.executable, "-c", ADD, tmp_path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert texts(read_turns(tmp_path, "kimi")) == ["before"]
    assert add_new_turns(tmp_path, "kimi", [turn("after")]) == 1


def test_an_import_on_a_full_disk_is_all_or_nothing(tmp_path, disk_limit):
    add_new_turns(tmp_path, "kimi", [turn("before")])
    many = [turn("x" * 1000, at=1e9 + number) for number in range(1000)]
    with disk_limit(200_000), pytest.raises(sqlite3.OperationalError):
        add_new_turns(tmp_path, "kimi", many)
    assert texts(read_turns(tmp_path, "kimi")) == ["before"]
    assert add_new_turns(tmp_path, "kimi", many) == 1000


@pytest.mark.parametrize("clears", [True, False])
def test_a_damaged_history_is_moved_away_and_not_deleted(tmp_path, clears):
    file = tmp_path / FILE_NAME
    add_new_turns(tmp_path, "kimi", [turn("before")])
    file.write_bytes(b"not a database" * 100)
    with pytest.raises(CcproxyError, match="cannot be read"):
        read_turns(tmp_path, "kimi")
    if clears:
        assert clear_turns(tmp_path, "kimi") == 0
    else:
        assert add_new_turns(tmp_path, "kimi", [turn("after")]) == 1
    (damaged,) = tmp_path.glob(f"{FILE_NAME}.damaged.*")
    assert damaged.read_bytes().startswith(b"not a database")
