"""The key pool of a worker, made of its configuration."""

from __future__ import annotations

import random
import time
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from ccproxy.config.worker import WorkerConfig
from ccproxy.pipeline.keys import KeyPool
from ccproxy.worker.sharing import FORM, SharedPool, Table


def make_pool(
    config: WorkerConfig, *, state: Path, processes: int, log: FilteringBoundLogger
) -> KeyPool:
    """
    Make the pool of *config*'s keys; several *processes* of an entry share one.

    Must be called inside the event loop.
    """
    if processes > 1:
        try:
            return _shared(config, Table(state / f"{config.label.lower()}.pool.{FORM}"))
        except OSError as error:
            log.warning("pool.not_shared", reason=str(error))
    return KeyPool(
        config.api_keys,
        provider=config.provider_name,
        clock=time.monotonic,
        wall=time.time,
        jitter=random.random,
        limits=config.key_limits,
    )


def _shared(config: WorkerConfig, table: Table) -> SharedPool:
    pool = SharedPool(
        config.api_keys,
        table=table,
        provider=config.provider_name,
        clock=time.monotonic,
        wall=time.time,
        jitter=random.random,
        limits=config.key_limits,
    )
    pool.watch()
    return pool
