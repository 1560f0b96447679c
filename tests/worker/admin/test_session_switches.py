"""Tests of run-time switches: they apply to all processes of an entry, even to later ones."""

from __future__ import annotations

import json

import pytest

from tests.fleet import eventually
from tests.provider import Provider
from tests.worker.admin_client import AUTH, CLIENT_KEY, admin


@pytest.fixture
async def anthropic():
    async with Provider() as anthropic:
        yield anthropic


@pytest.fixture
async def process(start, anthropic):
    """Start one more process of the same entry."""

    async def begin(**settings):
        url = anthropic.url.removesuffix("/v1")
        return await start(ANTHROPIC_API_KEY=CLIENT_KEY, TRANSPARENT_URL=url, **settings)

    return begin


OWN = {"x-api-key": CLIENT_KEY, "Authorization": "Bearer sk-ant-own-0123456789"}


async def status(proxy):
    return (await admin(proxy, "GET /proxy/status")).json["status"]


async def test_off_applies_to_every_process_and_every_later_one(process, provider, anthropic):
    first, second = await process(), await process()
    await second.ask(headers=OWN)
    assert (await admin(first, "POST /proxy/disable")).json["enabled"] is False
    assert await status(second) == "disabled"
    async with second.post("/v1/messages", {"model": "m"}, headers=OWN):
        assert (len(provider.calls), len(anthropic.calls)) == (1, 1)
    third = await process()
    assert await status(third) == "disabled"
    assert (await admin(third, "POST /proxy/toggle")).json["enabled"] is True
    assert [await status(one) for one in (first, second)] == ["enabled", "enabled"]
    await first.ask(headers=OWN)
    assert (len(provider.calls), len(anthropic.calls)) == (2, 1)


@pytest.mark.parametrize("configured", ["on", "off"])
async def test_every_process_follows_the_switch_of_the_history(process, configured):
    first, second = await process(HISTORY=configured), await process(HISTORY=configured)
    action, enabled = ("disable", False) if configured == "on" else ("enable", True)
    await admin(first, f"POST /conversation/{action}")
    await second.ask(headers=AUTH)
    got = (await admin(second, "GET /conversation/status")).json
    assert (got["enabled"], got["total_count"]) == (enabled, 2 if enabled else 0)
    third = await process(HISTORY=configured)
    assert (await admin(third, "GET /conversation/status")).json["enabled"] is enabled
    back = "enable" if configured == "on" else "disable"
    await admin(third, f"POST /conversation/{back}")
    assert (await admin(first, "GET /conversation/status")).json["enabled"] is not enabled


async def test_every_process_writes_to_the_export(process, tmp_path):
    first, second = await process(), await process()
    await admin(first, "POST /conversation/enable", {"file_path": "talk.jsonl"})
    third = await process()
    for proxy in (first, second, third):
        await proxy.ask(headers=AUTH)

    async def roles():
        # A turn is recorded shortly after its answer has been sent.
        for proxy in (first, second, third):
            got = (await admin(proxy, "POST /conversation/flush")).json
            assert got["file_path"] == "talk.jsonl"
        lines = (tmp_path / "exports/talk.jsonl").read_text().splitlines()
        return [json.loads(line)["role"] for line in lines]

    async def all_are_there():
        return len(await roles()) >= 6

    await eventually(all_are_there)
    assert await roles() == ["user", "assistant"] * 3
    await admin(second, "POST /conversation/disable")
    assert (await admin(first, "POST /conversation/flush")).json["file_path"] is None


async def test_a_removed_export_is_reported_and_the_turns_are_recorded(process, tmp_path):
    first = await process()
    await admin(first, "POST /conversation/enable", {"file_path": "talk.jsonl"})
    (tmp_path / "exports/talk.jsonl").unlink()
    second = await process()
    await second.ask(headers=AUTH)
    got = (await admin(second, "POST /conversation/flush")).json
    assert (got["enabled"], got["file_path"], got["total_count"]) == (True, None, 2)
    assert "exports/talk.jsonl" in (await second.logged("store.failed"))["reason"]


async def test_a_switch_that_cannot_be_saved_is_reported_and_applies(process, tmp_path):
    proxy = await process()
    (tmp_path / "state/test.standing.json.lock").mkdir()
    assert (await admin(proxy, "POST /proxy/disable")).json["enabled"] is False
    assert await status(proxy) == "disabled"
    assert "applies to this process only" in (await proxy.logged("store.failed"))["reason"]
