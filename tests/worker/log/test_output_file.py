"""Tests of the file for crash output, which is created again after removal."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, os, sys
from pathlib import Path
from ccproxy.worker.log.output_file import keep_output_file

path = Path(sys.argv[1])

def leads_to(path):
    return path.exists() and os.path.samestat(path.lstat(), os.fstat(2))

async def main():
    keeping = asyncio.create_task(keep_output_file(path, check_seconds=0.01))
    await asyncio.sleep(0)
    os.write(2, b"before;")
    if sys.argv[2] == "folder":
        path.rename(path.parent.parent / "kept.out")
        path.parent.rmdir()
    if sys.argv[2] == "replaced":
        path.rename(path.parent.parent / "kept.out")
        path.write_text("another;")
    while not keeping.done() and not leads_to(path):
        await asyncio.sleep(0.01)
    os.write(1, b"out;")
    os.write(2, b"err;")

asyncio.run(main())
"""


def run(path, action, out):
    words = [sys.executable, "-c", SCRIPT, str(path), action]
    subprocess.run(words, stdout=out, stderr=out, check=True, timeout=30)


@pytest.mark.parametrize(
    ("action", "there", "expected"),
    [
        pytest.param("nothing", "before;out;err;", None, id="left alone"),
        pytest.param("folder", "out;err;", "before;", id="removed with its folder"),
        pytest.param("replaced", "another;out;err;", "before;", id="put aside for another"),
    ],
)
def test_output_goes_to_the_existing_file(action, there, expected, tmp_path):
    path = tmp_path / "logs/a.out"
    path.parent.mkdir()
    with path.open("ab") as out:
        run(path, action, out)
    assert path.read_text() == there
    assert expected is None or (tmp_path / "kept.out").read_text() == expected


def test_a_terminal_is_not_redirected(tmp_path):
    """Output to a terminal stays on the terminal."""
    path = tmp_path / "logs/a.out"
    path.parent.mkdir()
    path.write_text("")
    with (tmp_path / "terminal").open("ab") as out:
        run(path, "nothing", out)
    assert (tmp_path / "terminal").read_text() == "before;out;err;"
    assert path.read_text() == ""
