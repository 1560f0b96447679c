"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.provider import Provider


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """A scripted model provider on a port of its own; see tests/provider.py."""
    async with Provider() as provider:
        yield provider
