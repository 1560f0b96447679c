"""`ccproxy ui`: the link, the exit, and a port that is in use."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

import aiohttp
import pytest

from ccproxy.ui.browser_guard import TOKEN_HEADER
from tests.fleet import FleetHome, eventually
from tests.ports import free_port
from tests.ui.live_fleet import serve_page

pytestmark = pytest.mark.xdist_group("processes")


@pytest.fixture
def home(tmp_path):
    fleet = FleetHome(tmp_path)
    fleet.write(Demo={"PROVIDER": "demo"})
    return fleet


async def test_it_prints_a_working_link_and_exits_on_a_signal(home):
    async with serve_page(home) as live, aiohttp.ClientSession() as client:
        code = code_of(live)
        assert len(code) == 32
        async with client.post(f"{live.url}session", json={"code": code}) as answer:
            assert set(await answer.json()) == {"token"}
        live.ui.terminate()
        assert await live.ui.wait() == 0


async def test_the_page_is_served_while_a_browser_runs_in_the_terminal(home, tmp_path):
    browser = tmp_path / "browser"
    opened = tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho $$ "$1" > {opened}\nexec sleep 1000\n')
    browser.chmod(0o755)
    async with serve_page(home, browser=str(browser)) as live, aiohttp.ClientSession() as client:
        pid, url = (await eventually(lambda: opened.exists() and opened.read_text())).split()
        assert url.startswith("file://")
        async with client.get(live.url) as answer:
            assert answer.status == 200
        os.kill(int(pid), signal.SIGKILL)


async def test_without_a_writable_folder_the_link_is_printed(home):
    (home.path / "state").write_text("not a folder")
    async with serve_page(home, browser="true") as live, aiohttp.ClientSession() as client:
        answer = await client.get(live.url)
        assert answer.status == 200


async def test_a_used_port(home):
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


async def test_a_proxy_without_a_table(tmp_path):
    home = FleetHome(tmp_path)
    proxy = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ccproxy", "up", "--port", str(free_port())),
        cwd=tmp_path,
        env={**home.environ, "PROVIDER": "demo"},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        while b"is ready" not in (line := await proxy.stderr.readline()):
            assert line
        async with serve_page(home) as live, aiohttp.ClientSession() as client:
            async with client.post(f"{live.url}session", json={"code": code_of(live)}) as answer:
                headers = {TOKEN_HEADER: (await answer.json())["token"]}
                headers["Cookie"] = answer.headers["Set-Cookie"].partition(";")[0]

            async def ask(path, command=None):
                method = "GET" if command is None else "POST"
                url = f"{live.url}api/{path}"
                async with client.request(method, url, json=command, headers=headers) as answer:
                    return answer.status, await answer.text()

            assert '"labels":["demo"]' in (await ask("fleet"))[1]
            assert (await ask("requests"))[0] == 200
            keys = await ask("keys", {"label": "demo", "action": "list"})
            assert keys[0] == 200, keys
            for refused in (
                await ask("routes"),
                await ask("doctor"),
                await ask("entries", {"action": "restart", "label": "demo"}),
            ):
                assert refused[0] == 400
                assert "has no ccproxy.toml\\n  fix: ccproxy init" in refused[1]
    finally:
        proxy.terminate()
        await proxy.communicate()


def code_of(live):
    return live.link.partition("#")[2]
