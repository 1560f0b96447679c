"""The key pool of a worker, made of its configuration."""

from __future__ import annotations

import random
import time

from ccproxy.config.worker import WorkerConfig
from ccproxy.pipeline.keys import KeyPool


def make_pool(config: WorkerConfig) -> KeyPool:
    """Make the pool of *config*'s keys."""
    return KeyPool(
        config.api_keys,
        provider=config.provider_name,
        clock=time.monotonic,
        wall=time.time,
        jitter=random.random,
    )
