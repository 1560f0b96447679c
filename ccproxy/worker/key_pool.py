"""Builds the key pool of a worker from its configuration."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from ccproxy.config.worker_config import WorkerConfig
from ccproxy.keys.backends.backend import LocalBackend, PoolBackend
from ccproxy.keys.backends.shared_memory import FORMAT, SharedMemoryBackend
from ccproxy.keys.pool import KeyPool


def make_pool(
    config: WorkerConfig,
    *,
    state: Path,
    log: FilteringBoundLogger,
    processes: int = 1,
    in_fleet: bool = False,
) -> KeyPool:
    """
    Return the pool of *config*'s keys, shared by the *processes* of its entry.

    *in_fleet* is True if `ccproxy keys LABEL` shows them. Must be called inside the event loop.
    """
    backend: PoolBackend = LocalBackend()
    if processes > 1:
        folder = state / f"{config.label.lower()}.pool.{FORMAT}"
        try:
            shared = SharedMemoryBackend(
                folder, warn=lambda reason: log.warning("pool.detached", reason=reason)
            )
        except OSError as error:
            log.warning("pool.not_shared", reason=str(error))
        else:
            shared.watch()
            backend = shared
    return pool_on(config, backend, in_fleet=in_fleet)


def pool_on(
    config: WorkerConfig,
    backend: PoolBackend,
    *,
    in_fleet: bool,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> KeyPool:
    """Return the pool of *config*'s keys with its state in *backend*."""
    return KeyPool(
        config.api_keys,
        provider=config.provider_name,
        clock=clock,
        wall=wall,
        jitter=random.random,
        limits=config.key_limits,
        policy=config.key_policy,
        command=f"ccproxy keys {config.label}" if in_fleet else "",
        backend=backend,
    )
