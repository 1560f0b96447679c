"""Fleets of real workers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest

from tests.fleet import FleetHome
from tests.supervisor.conftest import home
from tests.trust.traffic import CheapProvider

__all__ = ["home"]  # a fleet of fake workers


@pytest.fixture
async def fleet(tmp_path) -> AsyncIterator[FleetHome]:
    """A home without entries."""
    async with FleetHome(tmp_path) as home:
        yield home


@pytest.fixture
async def upstream() -> AsyncIterator[str]:
    """The base URL of a provider that answers "hello"."""
    async with CheapProvider() as provider:
        yield provider.url


@pytest.fixture
def events(fleet):
    """Return the supervisor's events of one name; `at` is the time in Unix seconds."""

    def look(name: str) -> list[dict[str, Any]]:
        lines = (fleet.path / "logs/supervisor.log").read_text().splitlines()
        events = [event for event in map(json.loads, lines) if event["event"] == name]
        return [
            {**event, "at": datetime.fromisoformat(event["time"]).timestamp()} for event in events
        ]

    return look


def settings(url: str, **more: str) -> dict[str, str]:
    """Return the settings for the provider at *url*."""
    models = {"BIG_MODEL": "big", "MIDDLE_MODEL": "big", "SMALL_MODEL": "small"}
    return {"PROVIDER_BASE_URL": url, "PROVIDER_API_KEY": "sk-upstream-1", **models, **more}
