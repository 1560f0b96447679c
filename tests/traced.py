"""Memory that remains allocated after some work."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable


def kept_by(work: Callable[[], object]) -> int:
    """Return the bytes that are still allocated after *work* returns and its result is released."""
    tracemalloc.start()
    try:
        work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
