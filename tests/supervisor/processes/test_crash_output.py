"""The last lines of a worker: from its crash output or else its log, without those of others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ccproxy.supervisor.processes.crash_output import (
    SIZE_LIMIT,
    crash_path,
    last_lines,
    open_crash_file,
    output_files,
)


def test_lines_of_an_earlier_process_are_not_quoted(tmp_path: Path) -> None:
    path = crash_path(tmp_path, "Kimi", 1)
    path.write_text("an old traceback\n")
    output = output_files(tmp_path, "Kimi", 1)
    assert last_lines(output) == ""
    with path.open("a") as file:
        file.write("ValueError: new\n")
    assert last_lines(output) == "ValueError: new"


def test_the_log_is_quoted_if_there_is_no_crash_output(tmp_path: Path) -> None:
    output = output_files(tmp_path, "Kimi", 2)
    (tmp_path / "Kimi.2.log").write_text("".join(f"line {number}\n" for number in range(50)))
    lines = last_lines(output).splitlines()
    assert (len(lines), lines[-1]) == (20, "line 49")


def test_a_rotated_file_is_quoted_from_its_beginning(tmp_path: Path) -> None:
    path = crash_path(tmp_path, "Kimi", 1)
    path.write_text("x" * 100)
    output = output_files(tmp_path, "Kimi", 1)
    path.write_text("after rotation\n")
    assert last_lines(output) == "after rotation"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a pipe", "a folder"])
def test_anything_but_a_regular_file_is_skipped(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "Kimi.out")
    (tmp_path / "Kimi.log").write_text("the end\n")
    assert last_lines(((tmp_path / "Kimi.out", 0), (tmp_path / "Kimi.log", 0))) == "the end"


def test_crash_output_is_appended_privately_and_emptied_when_too_large(tmp_path: Path) -> None:
    path = crash_path(tmp_path / "logs", "Kimi", 1)
    for text in (b"one\n", b"two\n"):
        with open_crash_file(path) as file:
            file.write(text)
    assert path.read_bytes() == b"one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600
    with open_crash_file(path) as file:
        file.write(b"x" * SIZE_LIMIT)
    with open_crash_file(path) as file:
        file.write(b"new\n")
    assert path.read_bytes() == b"new\n"
