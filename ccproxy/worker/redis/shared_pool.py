"""The key pool that a worker shares with its replicas, and the queue of requests for its keys."""

from __future__ import annotations

import hashlib
import hmac

from structlog.typing import FilteringBoundLogger

from ccproxy.config.services.redis_address import RedisAddress
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.ipc.control_messages import PoolSharing
from ccproxy.keys.pool import KeyPool
from ccproxy.worker.key_pool import pool_on
from ccproxy.worker.redis.connection import RedisConnection, connect
from ccproxy.worker.redis.redis_backend import FORMAT, RedisBackend
from ccproxy.worker.redis.redis_queue import RedisQueue
from ccproxy.worker.redis.redis_records import RedisRecords
from ccproxy.worker.redis.shared_ledger import SharedLedger
from ccproxy.worker.redis.shared_usage import SharedUsage

PER_REPLICA = (
    "model switches",
    "bypass and toggles",
    "history",
    "usage by model, key and session",
    "circuit breaker",
    "learned refusals",
    "limits on sign-in attempts",
)
"""State that replicas do not share; docs/replicas.md has the same table."""


class SharedPool:
    """A pool that has its state in Redis, and the ledgers of its replicas."""

    def __init__(
        self, config: WorkerConfig, pool: KeyPool, backend: RedisBackend, *, secret: bytes
    ) -> None:
        """*secret* is used to hash the names of clients and users and to authenticate sign-ins."""
        self.pool = pool
        self.backend = backend
        self.queue = RedisQueue(pool, backend, wait_seconds=config.key_wait)
        self.secret = secret
        self.usage = SharedUsage(self.ledger(f"{config.label.lower()}.budgets"), wall=backend.clock)

    def sharing(self) -> PoolSharing:
        """Describe whether and how the state is shared now."""
        return PoolSharing(
            mode="shared" if self.backend.is_shared else "local",
            reason=self.backend.reason,
            replicas=len(self.backend.members),
            per_replica=PER_REPLICA,
        )

    def ledger(self, name: str) -> SharedLedger:
        """Return the ledger `LABEL.budgets` of an entry, or one of the whole fleet."""
        label = name.removesuffix(".budgets")
        # No label begins with @. The braces keep all names of an entry in one cluster slot.
        owner = f"@{name}" if label == name else label
        return self.backend.ledger(f"ccproxy:{FORMAT}:{{{owner}}}:sums")

    def records(self) -> RedisRecords:
        """Return the sign-ins of the gateway's users, which all replicas share."""
        return RedisRecords(self.backend.call, secret=self.secret)


def open_shared_pool(
    config: WorkerConfig, address: RedisAddress, *, log: FilteringBoundLogger, in_fleet: bool
) -> SharedPool:
    """Return the pool of *config*; it connects when its back end's `start` is called."""
    services = config.services

    async def open_connection() -> RedisConnection:
        return await connect(address, limit=services.redis_timeout)

    def log_mode() -> None:
        if backend.is_shared:
            log.info("pool.shared", redis=address.text, replicas=len(backend.members))
        else:
            log.warning("pool.local", redis=address.text, reason=backend.reason)

    label = config.label.lower()
    backend = RedisBackend(
        open_connection,
        prefix=f"ccproxy:{FORMAT}:{{{label}}}",
        salt=hmac.digest(services.signing_key, f"ccproxy keys {label}".encode(), hashlib.sha256),
        limits=config.key_limits,
        timeout=services.redis_timeout,
        replicas=services.redis_replicas,
        on_mode=log_mode,
    )
    clock = backend.clock
    pool = pool_on(config, backend, in_fleet=in_fleet, clock=clock, wall=clock)
    secret = hmac.digest(services.signing_key, b"ccproxy budgets", hashlib.sha256)
    return SharedPool(config, pool, backend, secret=secret)
