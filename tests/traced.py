"""How much memory a piece of work leaves behind."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable


def kept_by(work: Callable[[], object]) -> int:
    """Return how many bytes are still allocated when *work* is done and its result is gone."""
    tracemalloc.start()
    try:
        work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
