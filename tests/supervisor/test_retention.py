"""Old logs go by themselves, but not because somebody moved the clock."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from contextlib import closing

import pytest

from ccproxy.config.fleet import Fleet
from ccproxy.store.history import FILE_NAME, Turn, add_new_turns
from ccproxy.supervisor.retention import DAY, PERIOD, Retention
from ccproxy.supervisor.state.stopped_entries import StoppedEntries
from ccproxy.supervisor.state.wall_clock import WallClock, leap_text


class Time:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    for name in ("logs", "state"):
        (tmp_path / name).mkdir()
    return Fleet(home=tmp_path, file=tmp_path / "ccproxy.toml", entries=())


@pytest.fixture
def notes() -> list[tuple[str, dict[str, object]]]:
    return []


def keeper(fleet, notes, clock, **more):
    def note(event, *, level="info", **fields):
        notes.append((event, fields))

    return Retention(fleet, note, clock=WallClock(fleet.state, wall=clock), **more)


def archive(fleet, age):
    path = fleet.logs / "Kimi.log.20260101_000000"
    path.write_text("x" * 10)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_what_is_old_goes(fleet, notes):
    path = archive(fleet, 3 * DAY + 60)
    assert keeper(fleet, notes, Time()).clean() == PERIOD
    assert not path.exists()
    assert notes == [("logs.removed", {"archives": 1, "bytes": 10})]


def test_old_history_goes_too(fleet, notes):
    add_new_turns(fleet.state, "Kimi", [Turn(1e9, "user", text, "k") for text in ("old", "new")])
    with closing(sqlite3.connect(fleet.state / FILE_NAME)) as connection, connection:
        old = (time.time() - 3 * DAY - 60,)
        connection.execute("UPDATE turns SET stored = ? WHERE content = 'old'", old)
    assert keeper(fleet, notes, Time()).clean() == PERIOD
    assert notes == [("history.forgotten", {"turns": 1})]
    with closing(sqlite3.connect(fleet.state / FILE_NAME)) as connection:
        assert connection.execute("SELECT content FROM turns").fetchall() == [("new",)]


def test_a_history_that_cannot_be_used_is_told_and_keeps_no_old_logs(fleet, notes):
    path = archive(fleet, 3 * DAY + 60)
    with closing(sqlite3.connect(fleet.state / FILE_NAME)) as connection:
        connection.execute("PRAGMA user_version = 99")
    assert keeper(fleet, notes, Time()).clean() == PERIOD
    assert not path.exists()
    assert [event for event, _ in notes] == ["logs.removed", "cleanup.failed"]


def test_a_leap_of_ten_days_removes_nothing_for_a_day(fleet, notes):
    """R14."""
    path, clock = archive(fleet, 3 * DAY + 60), Time()
    WallClock(fleet.state, wall=clock).note()
    clock.ahead = 10 * DAY
    assert keeper(fleet, notes, clock).clean() == DAY
    assert path.exists()
    assert notes == [("cleanup.skipped", {"reason": "clock moved by 10 d"})]
    assert keeper(fleet, notes, clock).clean() == PERIOD
    assert not path.exists()


async def test_it_goes_round_until_it_is_cancelled(fleet, notes):
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise asyncio.CancelledError

    path = archive(fleet, 3 * DAY + 60)
    with pytest.raises(asyncio.CancelledError):
        await keeper(fleet, notes, Time(), sleep=sleep).run()
    assert slept == [PERIOD, PERIOD]
    assert not path.exists()


# The wall clock.


@pytest.mark.parametrize(
    ("ahead", "leaps"),
    [
        pytest.param(0.0, False, id="nothing happened"),
        pytest.param(1800.0, False, id="half an hour is put right by any time service"),
        pytest.param(7200.0, True, id="ahead"),
        pytest.param(-7200.0, True, id="back"),
    ],
)
def test_a_leap_is_what_the_count_since_boot_does_not_explain(tmp_path, ahead, leaps):
    clock = Time()
    WallClock(tmp_path, wall=clock).note()
    clock.ahead = ahead
    leap = WallClock(tmp_path, wall=clock).leap()
    assert leap == (pytest.approx(ahead, abs=5) if leaps else 0.0)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", json.dumps({"boot": "another", "wall": 0, "steady": 0})]
)
def test_with_nothing_to_compare_the_clock_is_believed(tmp_path, text):
    (tmp_path / "clock.json").write_text(text)
    assert WallClock(tmp_path).leap() == 0.0


def test_a_leap_in_words():
    assert [leap_text(n) for n in (864000.0, 7200.0, -7200.0)] == [
        "clock moved by 10 d",
        "clock moved by 2 h",
        "clock moved by -2 h",
    ]


# What is not to run.


def test_what_is_unwanted_is_known_to_the_next(tmp_path):
    StoppedEntries(tmp_path).note(["glm", "kimi"])
    assert StoppedEntries(tmp_path).labels == {"glm", "kimi"}
    StoppedEntries(tmp_path).note([])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "{}", "5", "\x00"])
def test_what_cannot_be_read_names_nobody(tmp_path, text):
    (tmp_path / "unwanted.json").write_text(text)
    assert StoppedEntries(tmp_path).labels == frozenset()
