"""Fixtures for the worker's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from ccproxy.worker.demo.provider import DemoProvider
from tests.provider import Provider
from tests.worker.proxy import Proxy, running


@pytest.fixture
async def start(tmp_path: Path, provider: Provider) -> AsyncIterator[Callable[..., Any]]:
    """Start workers with the test's settings; they stop after the test."""
    async with AsyncExitStack() as stack:

        async def begin(url: str = "", **settings: str) -> Proxy:
            settings = {"LOG_LEVEL": "DEBUG", **settings}
            way = running(tmp_path, url or provider.url, **settings)
            return await stack.enter_async_context(way)

        yield begin


@pytest.fixture
async def proxy(start: Callable[..., Any]) -> Proxy:
    """A worker with only the provider's address and a key."""
    return await start()


@pytest.fixture
async def demo(start: Callable[..., Any]) -> AsyncIterator[Proxy]:
    """A worker for the demo provider."""
    model = DemoProvider(word_seconds=0)
    await model.start()
    yield await start(model.url)
    await model.stop()
