"""Reading log files backwards, and following them across rotations."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta

import pytest

from ccproxy.cli.logs.log_files import (
    Follower,
    LogFilter,
    backwards,
    last_lines,
    logs_of,
    matching_lines,
)
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
    names = {
        label: [file.name for log in logs_of(tmp_path, label, labels) for file, _ in log.parts]
        for label in labels
    }
    assert names == {
        "GLM-4": ["GLM-4.2.log", "GLM-4.log"],
        "GLM-4.6": ["GLM-4.6.log", "GLM-4.6.log.20260101_000000"],
    }


# Reading forwards.


@pytest.mark.parametrize("block", [1, 50, 1000, 100_000])
@pytest.mark.parametrize("ago", [0, 1, 37, 60, 120, 1000, None])
def test_all_lines_since_a_time_are_read_in_order(block, ago, tmp_path, monkeypatch):
    """There are 120 lines, one per second, in three files; every fifth has no time."""
    monkeypatch.setattr("ccproxy.cli.logs.log_files._BLOCK_BYTES", block)
    lines = [
        "no time\n" if number % 5 == 0 else line(f"e{number}", ago=120 - number)
        for number in range(120)
    ]
    for name, part in {
        "x.log.20260101_000000": lines[:40],
        "x.log.20260102_000000": lines[40:80],
        "x.log": lines[80:],
    }.items():
        (tmp_path / name).write_text("".join(part))
    since = 0.0 if ago is None else datetime.now(UTC).timestamp() - ago - 0.5
    found = [
        one.text + "\n" for one in matching_lines(logs_of(tmp_path, "x"), LogFilter(since=since))
    ]
    first = 0 if ago is None else max(0, 120 - ago)
    if ago is not None and first % 5 == 0:
        first += 1  # a line without a time belongs to the older one before it
    assert found == lines[first:]


def test_the_lines_of_several_logs_are_merged_by_time(tmp_path):
    for label, start in (("x", 0), ("y", 1)):
        lines = (line(f"e{number}", ago=100 - number) for number in range(start, 60, 2))
        (tmp_path / f"{label}.log").write_text("".join(lines))
    logs = [log for label in ("x", "y") for log in logs_of(tmp_path, label)]
    events = [one.fields["event"] for one in matching_lines(logs, LogFilter())]
    assert events == [f"e{number}" for number in range(60)]


def test_a_rotation_while_archives_are_read_loses_nothing(tmp_path):
    archive, file = tmp_path / "x.log.20260101_000000", tmp_path / "x.log"
    archive.write_text(line("a") + line("b"))
    file.write_text(line("c"))
    lines = matching_lines(logs_of(tmp_path, "x"), LogFilter())
    events = [next(lines).fields["event"]]
    file.rename(tmp_path / "x.log.20260102_000000")
    file.write_text(line("new"))
    assert [*events, *(one.fields["event"] for one in lines)] == ["a", "b", "c"]


def test_all_lines_are_not_held_in_memory(tmp_path):
    (tmp_path / "x.log").write_text("".join(line(str(number)) for number in range(50_000)))
    logs = logs_of(tmp_path, "x")
    tracemalloc.start()
    count = sum(1 for _ in matching_lines(logs, LogFilter()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (count, peak < 5_000_000) == (50_000, True)


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
