"""Memory that remains allocated after a piece of work."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable


def kept_by(work: Callable[[], object]) -> int:
    """Return the bytes still allocated after *work* has ended and its result is released."""
    tracemalloc.start()
    try:
        work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
