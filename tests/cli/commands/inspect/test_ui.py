"""`ccproxy ui`: the link, the end, and a port that is taken."""

from __future__ import annotations

import socket

import aiohttp
import pytest

from tests.fleet import FleetHome
from tests.ui.live_fleet import serve_page

pytestmark = pytest.mark.xdist_group("processes")


@pytest.fixture
def home(tmp_path):
    fleet = FleetHome(tmp_path)
    fleet.write(Demo={"PROVIDER": "demo"})
    return fleet


async def test_it_prints_a_link_that_works_and_ends_at_a_signal(home):
    async with serve_page(home) as live, aiohttp.ClientSession() as client:
        code = live.link.partition("#")[2]
        assert len(code) == 32
        async with client.post(f"{live.url}session", json={"code": code}) as answer:
            assert set(await answer.json()) == {"token"}
        live.ui.terminate()
        assert await live.ui.wait() == 0


async def test_a_taken_port(home):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        done = await home.ccproxy("ui", "--no-open", "--port", str(port))
    assert done.code == 5
    assert f"cannot listen on 127.0.0.1:{port}" in done.err
    assert "fix: choose another port" in done.err


async def test_without_a_table(tmp_path):
    done = await FleetHome(tmp_path).ccproxy("ui", "--no-open")
    assert done.code == 78
    assert "ccproxy init" in done.err
