"""Fixtures for the tests of added features."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.search_engine import SearchEngine


@pytest.fixture
async def engine() -> AsyncIterator[SearchEngine]:
    """A scripted search engine."""
    async with SearchEngine() as running:
        yield running
