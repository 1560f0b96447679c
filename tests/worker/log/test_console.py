"""Tests of the log on stderr: its lines, and slow readers, which must not delay requests."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress

import pytest

from ccproxy.worker.log.console import MAX_PENDING_BYTES, ConsoleLog, EchoingLogFile

LINE = {"time": "2026-11-21T09:00:00.000+00:00", "level": "warning", "event": "x.happened"}


def line(**fields):
    return json.dumps({**LINE, **fields}).encode()


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def all_of(reading):
    os.set_blocking(reading, False)
    pieces = []
    with suppress(BlockingIOError):
        while piece := os.read(reading, 65536):
            pieces.append(piece)
    return b"".join(pieces).decode()


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        pytest.param("text", "WARNING  x.happened a=1", id="for people"),
        pytest.param("color", "\x1b[33mWARNING \x1b[0m \x1b[1mx.happened\x1b[0m a=1", id="colours"),
        pytest.param("json", line(a=1).decode(), id="as it is in the file"),
    ],
)
async def test_styles(pipe, style, expected):
    echo = ConsoleLog(style, fd=pipe[1], encoding="utf-8")
    echo(line(a=1))
    echo.close()
    assert all_of(pipe[0]).endswith(f"{expected}\n")


async def test_a_line_cannot_control_the_terminal(pipe):
    echo = ConsoleLog("color", fd=pipe[1], encoding="utf-8")
    echo(line(a="\x1b]0;title\x07"))
    echo.close()
    assert "\x1b]" not in all_of(pipe[0])


async def test_lines_are_written_without_a_flush(pipe):
    echo = ConsoleLog("json", fd=pipe[1], encoding="utf-8")
    echo(line(n=1))
    echo(line(n=2))
    observed = b""
    while observed.count(b"\n") < 2:
        observed += await asyncio.to_thread(os.read, pipe[0], 4096)
    assert [json.loads(one)["n"] for one in observed.splitlines()] == [1, 2]


async def test_a_stalled_reader_delays_no_request_and_gets_the_number_of_lost_lines(pipe):
    echo = ConsoleLog("json", fd=pipe[1], encoding="utf-8")
    long = line(text="x" * 60_000)
    for _ in range(2 * MAX_PENDING_BYTES // len(long)):
        echo(long)
    echo.write_text("full")  # returns although nothing reads the console
    observed = ""
    while "only in the log file" not in observed:
        observed += all_of(pipe[0])
        echo.write_text("")
    output = observed.count("x.happened")
    left_out = int(observed.partition(" lines are only")[0].rpartition("(")[2])
    assert left_out > 0
    assert output + left_out == 2 * MAX_PENDING_BYTES // len(long)


async def test_a_closed_reader_is_ignored(pipe):
    echo = ConsoleLog("json", fd=pipe[1], encoding="utf-8")
    os.close(pipe[0])
    echo(line())
    echo.write_text("nobody hears")
    echo(line())
    echo.close()


async def test_the_file_contains_every_line_too(pipe, tmp_path):
    echo = ConsoleLog("json", fd=pipe[1], encoding="utf-8")
    log = EchoingLogFile(tmp_path / "x.log", echo)
    log.write(line())
    log.close()
    echo.close()
    assert (tmp_path / "x.log").read_text() == all_of(pipe[0]) == f"{line().decode()}\n"
