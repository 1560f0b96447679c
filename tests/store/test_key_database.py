"""The file of one entry's keys: merged by several processes, and restored if it is removed."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ccproxy.store.key_database import KeyStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state/kimi.keys.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[KeyStore]:
    store = KeyStore(path)
    yield store
    store.close()


def test_rows_and_values_survive_a_round_trip(store: KeyStore, path: Path) -> None:
    store.merge({"a": {"cooldowns": [], "used_today": 3}}, {})
    store.save_value("calibration", {"x": 1.5})
    with closing(KeyStore(path)) as other:
        assert other.load() == {"a": {"cooldowns": [], "used_today": 3}}
        assert other.load_value("calibration") == {"x": 1.5}
        assert other.load_value("lessons") is None
        assert other.salt == store.salt


def test_two_files_have_different_salts(store: KeyStore, tmp_path: Path) -> None:
    with closing(KeyStore(tmp_path / "glm.keys.sqlite")) as other:
        assert other.salt != store.salt


def test_counts_of_two_processes_are_added_and_other_fields_replaced(
    store: KeyStore, path: Path
) -> None:
    before = {"a": {"day": "d", "used_today": 10, "state": "ok"}}
    store.merge(before, {})
    with closing(KeyStore(path)) as other:
        other.merge({"a": {"day": "d", "used_today": 12, "state": "ok"}}, before)
    store.merge({"a": {"day": "d", "used_today": 15, "state": "disabled"}}, before)
    assert store.load() == {"a": {"day": "d", "used_today": 17, "state": "disabled"}}


def test_an_unchanged_field_keeps_the_value_of_another_process(store: KeyStore, path: Path) -> None:
    before = {"a": {"state": "ok", "used_today": 1, "day": "d"}}
    store.merge(before, {})
    with closing(KeyStore(path)) as other:
        other.merge({"a": {"state": "disabled", "used_today": 1, "day": "d"}}, before)
    store.merge({"a": {"state": "ok", "used_today": 2, "day": "d"}}, before)
    assert store.load()["a"]["state"] == "disabled"


def test_a_count_of_a_new_day_starts_again(store: KeyStore) -> None:
    before = {"a": {"day": "monday", "used_today": 10}}
    store.merge(before, {})
    store.merge({"a": {"day": "tuesday", "used_today": 1}}, before)
    assert store.load() == {"a": {"day": "tuesday", "used_today": 1}}


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "[" * 100_000])
def test_an_unreadable_row_is_left_out(store: KeyStore, path: Path, text: str) -> None:
    store.merge({"a": {"used_today": 1}}, {})
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO keys VALUES ('b', ?)", (text,))
        connection.execute("INSERT INTO meta VALUES ('lessons', ?)", (text.encode(),))
    assert store.load() == {"a": {"used_today": 1}}
    assert store.load_value("lessons") in (None, [], 5)


@pytest.mark.parametrize("removed", ["file", "folder"])
def test_a_removed_file_is_created_again_with_the_same_salt(
    store: KeyStore, path: Path, removed: str
) -> None:
    """The names of keys are salted, so another salt would change every name."""
    store.merge({"a": {"state": "disabled"}}, {})
    salt = store.salt
    assert not store.recreate_if_removed()
    if removed == "folder":
        shutil.rmtree(path.parent)
    else:
        path.unlink()
    assert store.recreate_if_removed()
    assert not store.recreate_if_removed()
    assert (store.salt, store.load()) == (salt, {})
    store.merge({"a": {"state": "disabled"}}, {})
    with closing(KeyStore(path)) as other:
        assert (other.salt, other.load()) == (salt, {"a": {"state": "disabled"}})


KILL_ME = """
import sys
from pathlib import Path
from ccproxy.store.key_database import KeyStore
store = KeyStore(Path(sys.argv[1]))
before = {}
print("go", flush=True)
for number in range(1, 1_000_000):
    row = {"a": {"day": "d", "used_today": number, "text": "x" * (number * 997 % 20000)}}
    store.merge(row, before)
    before = row
"""


def test_kill_9_at_any_moment_leaves_a_readable_file(path: Path) -> None:
    for wait in range(6):
        command = [sys.executable, "-c", KILL_ME, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            observed: set[int] = set()
            while len(observed) <= wait:  # so that each is killed at another moment
                with closing(KeyStore(path)) as reader:
                    observed |= {row["used_today"] for row in reader.load().values()}
            os.kill(writer.pid, signal.SIGKILL)
        with closing(KeyStore(path)) as store:
            assert store.set_aside is None
            assert list(store.load()) == ["a"]
