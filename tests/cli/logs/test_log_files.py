"""Reading log files backwards, and following them across rotations."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta

import pytest

from ccproxy.cli.logs.log_files import Follower, LogFilter, backwards, last_lines, logs_of
from tests.cli.vanishing_files import vanishing


def line(event, *, ago=0.0, level="info", **fields):
    at = (datetime.now(UTC) - timedelta(seconds=ago)).isoformat(timespec="milliseconds")
    return json.dumps({"time": at, "level": level, "event": event, **fields}) + "\n"


# Reading backwards.


@pytest.mark.parametrize(
    "text", ["", "a\n", "a\nb\n", "a\n\nb", "ä" * 50 + "\n" + "b" * 200 + "\nc\n"]
)
@pytest.mark.parametrize("block", [1, 2, 3, 7, 1000])
def test_reading_backwards_gives_the_lines_in_reverse_order(text, block, tmp_path, monkeypatch):
    monkeypatch.setattr("ccproxy.cli.logs.log_files._BLOCK_BYTES", block)
    file = tmp_path / "x.log"
    file.write_text(text)
    expected = [part.encode() for part in text.split("\n") if part]
    assert list(backwards(file, file.stat().st_size))[::-1] == expected


def test_only_the_requested_lines_are_read(tmp_path, monkeypatch):
    (tmp_path / "x.log").write_text("".join(line(str(number)) for number in range(100_000)))
    (log,) = logs_of(tmp_path, "x")
    parsed = []
    monkeypatch.setattr("ccproxy.cli.logs.log_files.json.loads", parsed.append)
    assert len(last_lines(log, LogFilter(), count=10)) == 10
    assert len(parsed) < 20


def test_the_logs_of_an_entry_with_a_longer_label_are_its_own(tmp_path):
    for name in ("GLM-4.log", "GLM-4.2.log", "GLM-4.6.log", "GLM-4.6.log.20260101_000000"):
        (tmp_path / name).write_text(line("x"))
    labels = ["GLM-4", "GLM-4.6"]
    names = {label: [log.path.name for log in logs_of(tmp_path, label, labels)] for label in labels}
    assert names == {"GLM-4": ["GLM-4.2.log", "GLM-4.log"], "GLM-4.6": ["GLM-4.6.log"]}


# Following.


@pytest.fixture
def follower_of():
    with ExitStack() as stack:

        def follower(folder):
            (log,) = logs_of(folder, "x")
            return stack.enter_context(closing(Follower(log)))

        yield follower


def texts(follower):
    return [one.text for one in follower.read()]


def test_only_new_and_complete_lines_are_followed(tmp_path, follower_of):
    file = tmp_path / "x.log"
    file.write_text("old\n")
    follower = follower_of(tmp_path)
    assert texts(follower) == []
    with file.open("a") as stream:
        stream.write("new\nha")
        stream.flush()
        assert texts(follower) == ["new"]
        stream.write("lf\n")
        stream.flush()
        assert texts(follower) == ["half"]


def test_a_rotation_loses_nothing(tmp_path, follower_of):
    file = tmp_path / "x.log"
    file.write_text("old\n")
    follower = follower_of(tmp_path)
    with file.open("a") as stream:
        stream.write("before\n")
    file.rename(tmp_path / "x.log.20260101_000000")
    assert texts(follower) == ["before"]
    with (tmp_path / "x.log.20260101_000000").open("a") as stream:
        stream.write("last\n")
    file.write_text("after\n")
    assert texts(follower) == ["last", "after"]
    assert texts(follower) == []


def test_archives_that_are_deleted_at_the_same_time_are_left_out(tmp_path):
    with vanishing(tmp_path):
        for _ in range(5000):
            (log,) = logs_of(tmp_path, "x")
            assert len(log.parts) <= 1


def test_a_log_that_is_created_later_is_followed_from_its_beginning(tmp_path, follower_of):
    follower = follower_of(tmp_path)
    assert texts(follower) == []
    (tmp_path / "x.log").write_text("first\n")
    assert texts(follower) == ["first"]
