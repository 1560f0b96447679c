"""Old logs and history are deleted, but not after a change of the wall clock."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from contextlib import closing

import pytest

from ccproxy.config.fleet import Fleet
from ccproxy.store.history import FILE_NAME, Turn, add_new_turns
from ccproxy.store.wall_clock import WallClock
from ccproxy.supervisor.retention import PERIOD, Retention

DAY = 86400.0


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


def retention(fleet, notes, clock, **more):
    def note(event, *, level="info", **fields):
        notes.append((event, fields))

    return Retention(fleet, note, clock=WallClock(fleet.state, wall=clock), **more)


def archive(fleet, age):
    path = fleet.logs / "Kimi.log.20260101_000000"
    path.write_text("x" * 10)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_old_archives_are_deleted(fleet, notes):
    path = archive(fleet, 3 * DAY + 60)
    retention(fleet, notes, Time()).clean()
    assert not path.exists()
    assert notes == [("logs.removed", {"archives": 1, "bytes": 10})]


def test_old_history_is_deleted(fleet, notes):
    add_new_turns(fleet.state, "Kimi", [Turn(1e9, "user", text, "k") for text in ("old", "new")])
    with closing(sqlite3.connect(fleet.state / FILE_NAME)) as connection, connection:
        old = (time.time() - 3 * DAY - 60,)
        connection.execute("UPDATE turns SET stored = ? WHERE content = 'old'", old)
    retention(fleet, notes, Time()).clean()
    assert notes == [("history.removed", {"turns": 1})]
    with closing(sqlite3.connect(fleet.state / FILE_NAME)) as connection:
        assert connection.execute("SELECT content FROM turns").fetchall() == [("new",)]


def test_an_unusable_history_is_reported_and_does_not_keep_old_logs(fleet, notes):
    path = archive(fleet, 3 * DAY + 60)
    with closing(sqlite3.connect(fleet.state / FILE_NAME)) as connection:
        connection.execute("PRAGMA user_version = 99")
    retention(fleet, notes, Time()).clean()
    assert not path.exists()
    assert [event for event, _ in notes] == ["logs.removed", "cleanup.failed"]


def test_a_clock_jump_of_ten_days_deletes_nothing_for_a_day(fleet, notes):
    path, clock = archive(fleet, 3 * DAY + 60), Time()
    WallClock(fleet.state, wall=clock).jump()
    clock.ahead = 10 * DAY
    retention(fleet, notes, clock).clean()
    assert path.exists()
    assert notes == [("cleanup.skipped", {"reason": "clock moved by 10 d"})]


async def test_rounds_are_an_hour_apart_until_cancelled(fleet, notes):
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise asyncio.CancelledError

    path = archive(fleet, 3 * DAY + 60)
    with pytest.raises(asyncio.CancelledError):
        await retention(fleet, notes, Time(), sleep=sleep).run()
    assert slept == [PERIOD, PERIOD]
    assert not path.exists()
