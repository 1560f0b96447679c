"""The key pool of a worker, made of its configuration."""

from __future__ import annotations

import random
import time
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from ccproxy.config.worker import WorkerConfig
from ccproxy.keys.pool import KeyPool
from ccproxy.keys.shared_memory import FORM, SharedPool, Table


def make_pool(
    config: WorkerConfig,
    *,
    state: Path,
    log: FilteringBoundLogger,
    processes: int = 1,
    in_fleet: bool = False,
) -> KeyPool:
    """
    Make the pool of *config*'s keys; several *processes* of an entry share one.

    *in_fleet*: there is a table, so that the label means something to the command line. Must be
    called inside the event loop.
    """
    command = f"ccproxy keys {config.label}" if in_fleet else ""
    if processes > 1:
        try:
            table = Table(state / f"{config.label.lower()}.pool.{FORM}")
            return _shared(config, table, command)
        except OSError as error:
            log.warning("pool.not_shared", reason=str(error))
    return KeyPool(
        config.api_keys,
        provider=config.provider_name,
        clock=time.monotonic,
        wall=time.time,
        jitter=random.random,
        limits=config.key_limits,
        command=command,
    )


def _shared(config: WorkerConfig, table: Table, command: str) -> SharedPool:
    pool = SharedPool(
        config.api_keys,
        table=table,
        provider=config.provider_name,
        clock=time.monotonic,
        wall=time.time,
        jitter=random.random,
        limits=config.key_limits,
        command=command,
    )
    pool.watch()
    return pool
