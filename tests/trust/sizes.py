"""
The sizes of the tests in this folder, and their figures.

`CCPROXY_TEST_SIZE=full` runs them at the size in their docstrings; otherwise they are scaled down,
with wider limits for a busy machine. `CCPROXY_FIGURES=FILE` collects the figures, one JSON line per
row.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

IS_FULL = os.environ.get("CCPROXY_TEST_SIZE") == "full"


def size(small: T, full: T) -> T:
    """Return the value for the configured size."""
    return full if IS_FULL else small


def limit(seconds: float) -> float:
    """Return a limit in seconds: exact at full size, four times as long otherwise."""
    return seconds if IS_FULL else 4 * seconds


def note(row: str, **figures: Any) -> None:
    """Record the figures of *row*."""
    if path := os.environ.get("CCPROXY_FIGURES"):
        with Path(path).open("a") as file:
            file.write(json.dumps({"row": row, **figures}) + "\n")
