"""A log folder in which an archive appears and disappears, as while a worker deletes old ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOOP = """
import pathlib, sys
archive = pathlib.Path(sys.argv[1])
print("begins")
while True:
    archive.touch()
    archive.unlink()
"""


@contextmanager
def vanishing(folder: Path) -> Iterator[None]:
    """Create and delete an archive of the log `x.log` again and again during the block."""
    folder.mkdir(exist_ok=True)
    archive = folder / "x.log.20260101_000000"
    child = subprocess.Popen(
        [sys.executable, "-uc", _LOOP, str(archive)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        yield
    finally:
        child.kill()
        child.communicate()
