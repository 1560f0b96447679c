"""Routing, switching and fallback of a whole fleet: real processes, driven by the command line."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack

import aiohttp
import psutil
import pytest

from tests.fleet import FleetHome, eventually
from tests.messages import ask, prompt
from tests.provider import Provider, failure

CHOICES = """
[routes.glm]
background = "kimi:big"

[presets.night]
big = "glm:big"
small = "glm:small"

[fallback]
kimi = ["glm"]
"""
CLIENT_KEY = "client-key-one-0123456"


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def home(tmp_path):
    """A fleet of two proxies for two providers; kimi has two processes."""
    async with AsyncExitStack() as stack:
        home = await stack.enter_async_context(FleetHome(tmp_path))
        home.providers = {  # type: ignore[attr-defined]
            label: await stack.enter_async_context(Provider()) for label in ("kimi", "glm")
        }
        home.write(
            **{
                label: {
                    "PROVIDER_BASE_URL": provider.url,
                    "PROVIDER_API_KEY": f"sk-{label}-0123456789",
                    "ANTHROPIC_API_KEY": CLIENT_KEY + label,
                    "BIG_MODEL": f"{label}-big",
                    "SMALL_MODEL": f"{label}-small",
                    "MAX_RETRIES": "0",
                }
                for label, provider in home.providers.items()  # type: ignore[attr-defined]
            }
        )
        (tmp_path / "ccproxy.toml").write_text(
            f'proxies = ["{home.ports["glm"]}:envs/glm.env:glm"]\n\n'
            f'[[proxy]]\nport = {home.ports["kimi"]}\nenv_file = "envs/kimi.env"\n'
            f'label = "kimi"\nworkers = 2\n{CHOICES}'
        )
        assert (await home.ccproxy("start")).code == 0
        yield home


async def kimi(home: FleetHome, session: aiohttp.ClientSession, **fields):
    headers = {"x-api-key": CLIENT_KEY + "kimi"}
    return await ask(session, home.url("kimi"), prompt(**fields), headers=headers)


def models(home: FleetHome, label: str) -> list[str]:
    return [call.json["model"] for call in home.providers[label].calls]  # type: ignore[attr-defined]


async def test_a_switch_applies_to_every_process_and_survives_a_restart(home, session):
    done = await home.ccproxy("switch", "kimi", "night")
    assert done.code == 0, done.err
    for _ in range(12):  # the kernel distributes the connections to both processes
        async with aiohttp.ClientSession() as anew:
            answer = await kimi(home, anew)
            assert answer.headers["x-ccproxy-route"] == "glm:big (big of night)"
    assert (set(models(home, "glm")), models(home, "kimi")) == ({"glm-big"}, [])

    row = await home.proxy("kimi")
    assert (row["switched"], row["models"]["big"]) == ("night", "glm:big")
    assert "glm:big (night)" in (await home.ccproxy("status")).out

    pids = row["pids"]
    os.kill(pids[0], signal.SIGKILL)
    await eventually(lambda: not psutil.pid_exists(pids[0]))
    assert (await home.ccproxy("restart", "kimi")).code == 0
    assert (await kimi(home, session)).headers["x-ccproxy-route"] == "glm:big (big of night)"
    assert (await home.proxy("kimi"))["switched"] == "night"

    assert (await home.ccproxy("switch", "kimi", "--reset")).code == 0
    assert "x-ccproxy-route" not in (await kimi(home, session)).headers
    assert models(home, "kimi") == ["kimi-big"]


async def test_http_and_the_command_line_set_the_same_switch(home, session):
    headers = {"x-api-key": CLIENT_KEY + "kimi"}
    url = home.url("kimi") + "/switch_model"
    async with session.post(url, json={"preset": "night"}, headers=headers) as got:
        assert got.status == 200
    message = (await home.ccproxy("switch", "kimi")).out
    assert message.startswith("kimi is switched to night\n  big     glm:big\n")


async def test_fallback_and_peer_requests_need_no_client_key_of_the_peer(home, session):
    home.providers["kimi"].script(failure(503))
    answers = await asyncio.gather(*(kimi(home, session, stream=True) for _ in range(20)))
    assert {answer.text for answer in answers} == {"ok"}
    routes = {answer.headers["x-ccproxy-route"] for answer in answers}
    assert routes == {"glm:big (fallback: overloaded_error)"}
    named = await kimi(home, session, model="glm:some-model")
    assert models(home, "glm")[-1] == "some-model"
    log = (await home.ccproxy("logs", "glm", "--request", named.headers["request-id"])).out
    assert "some-model" in log


async def test_a_table_with_another_file_name_works(home, session):
    assert (await home.ccproxy("stop")).code == 0
    (home.path / "ccproxy.toml").rename(home.path / "other.toml")
    done = await home.ccproxy("--config", "other.toml", "start")
    assert done.code == 0, done
    assert (await kimi(home, session, model="glm:some-model")).text == "ok"
    assert (await home.ccproxy("--config", "other.toml", "stop")).code == 0
