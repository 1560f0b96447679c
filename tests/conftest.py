"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.provider import Provider

if TYPE_CHECKING:
    from tests.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A redis-server for all tests of a process; each test uses different names."""
    from tests.redis_server import RedisServer  # imports hiredis, which few tests need

    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A redis-server for one test, which may stop, fill and empty it."""
    from tests.redis_server import RedisServer

    server = RedisServer(tmp_path).start()
    yield server
    server.stop()


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """A scripted model provider on its own port; see tests/provider.py."""
    async with Provider() as provider:
        yield provider
