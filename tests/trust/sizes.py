"""
How large the tests of this folder are, and what they measured.

`CCPROXY_TEST_SIZE=full` runs them at the size that their docstrings name; otherwise they are scaled
down, and limits that a busy machine cannot keep are widened. `CCPROXY_FIGURES=FILE` collects
what was measured, one JSON line per row.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

IS_FULL = os.environ.get("CCPROXY_TEST_SIZE") == "full"


def size(small: T, full: T) -> T:
    """Return the value for the size in the environment."""
    return full if IS_FULL else small


def limit(seconds: float) -> float:
    """A limit in seconds: kept to the letter at full size, four times as wide otherwise."""
    return seconds if IS_FULL else 4 * seconds


def note(row: str, **figures: Any) -> None:
    """Keep what was measured for *row*."""
    if path := os.environ.get("CCPROXY_FIGURES"):
        with Path(path).open("a") as file:
            file.write(json.dumps({"row": row, **figures}) + "\n")
