"""Fixtures for the tests of replicas that share a Redis."""

from __future__ import annotations

from itertools import count

import pytest

from tests.worker.redis.replica import Replica

_NUMBERS = count(1)


@pytest.fixture
async def fleet(redis_server):
    """Return a function that starts replicas of one entry."""
    prefix, replicas = f"t{next(_NUMBERS)}", []

    async def start(number=1, *, server=redis_server, **options):
        new = [Replica(server, prefix, **options) for _ in range(number)]
        replicas.extend(new)
        for replica in new:
            await replica.join()
        return new

    yield start
    for replica in replicas:
        await replica.backend.close()
