"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.provider import Provider


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """A scripted model provider on its own port; see tests/provider.py."""
    async with Provider() as provider:
        yield provider
