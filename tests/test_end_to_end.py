"""
The whole product: command line, supervisor, workers, and a scripted provider.

The tests run real processes in a temporary home; they wait for conditions, never a fixed time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import psutil
import pytest

from tests.fleet import PATIENCE, FleetHome, eventually
from tests.messages import ask, prompt
from tests.ports import free_port
from tests.provider import chunk, completion, stream, tool_call
from tests.trust.sizes import limit

pytestmark = pytest.mark.xdist_group("processes")

BACK_WITHIN = limit(2.0)
"""The limit for a killed worker to be replaced, in seconds."""


@pytest.fixture
async def home(tmp_path) -> AsyncIterator[FleetHome]:
    async with FleetHome(tmp_path) as home:
        yield home


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    # One connection per request, to test that the port accepts new ones.
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


@pytest.fixture
async def kimi(home, provider) -> FleetHome:
    """A running fleet with one entry."""
    home.write(kimi=settings(provider))
    done = await home.ccproxy("start")
    assert done.code == 0, done
    return home


def settings(provider, **more):
    return {
        "PROVIDER_BASE_URL": provider.url,
        "PROVIDER_API_KEY": "sk-upstream-1",
        "BIG_MODEL": "big",
        "MIDDLE_MODEL": "big",
        "SMALL_MODEL": "small",
        **more,
    }


@dataclass
class Load:
    """The results of clients that send requests continuously."""

    answers: int = 0
    answered_at: float = 0.0
    refused: list[Exception] = field(default_factory=list)
    """The number of refused connections."""
    broken: list[Exception] = field(default_factory=list)
    """The number of connections that broke."""


@asynccontextmanager
async def load(session, base_url, *, clients=4) -> AsyncIterator[Load]:
    """Send requests from *clients* concurrent clients until the block ends."""
    observed, over = Load(), asyncio.Event()

    async def client() -> None:
        while not over.is_set():
            try:
                answer = await ask(session, base_url, prompt())
            except aiohttp.ClientConnectorError as error:
                observed.refused.append(error)
            except aiohttp.ClientError as error:
                observed.broken.append(error)
            else:
                assert answer.text == "ok"
                observed.answers += 1
                observed.answered_at = time.monotonic()

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
        try:
            await eventually(lambda: observed.answers > clients)
            yield observed
        finally:
            over.set()


async def grows(load: Load, by: int = 20) -> None:
    """Wait until *by* more requests have been answered."""
    enough = load.answers + by
    await eventually(lambda: load.answers >= enough)


# Normal operation.


async def test_a_fleet_works_from_start_to_stop(home, provider, session):
    home.write(kimi=settings(provider), glm=settings(provider))
    done = await home.ccproxy("start")
    assert done.code == 0, done

    status = await home.status()
    assert status["schema"] == 1
    assert status["config"] == str(home.path / "ccproxy.toml")
    assert psutil.pid_exists(status["supervisor"]["pid"])
    assert [(row["label"], row["port"], row["state"]) for row in status["proxies"]] == [
        ("kimi", home.ports["kimi"], "ready"),
        ("glm", home.ports["glm"], "ready"),
    ]

    provider.script(completion("Hello", tool_calls=[tool_call("Bash", {"command": "ls"})]))
    for streamed in (False, True):
        answer = await ask(session, home.url("kimi"), prompt(stream=streamed))
        assert answer.text == "Hello"
        assert answer.blocks("tool_use")[0]["input"] == {"command": "ls"}
        assert bool(answer.events) is streamed
    assert [(call.path, call.key, call.json["model"]) for call in provider.calls] == [
        ("/v1/chat/completions", "sk-upstream-1", "big")
    ] * 2

    done = await home.ccproxy("stop")
    assert done.code == 0, done
    assert home.processes() == []
    assert list((home.path / "pids").glob("*.pid")) == []
    assert [path for path in home.path.rglob("*") if path.is_socket()] == []
    with pytest.raises(aiohttp.ClientConnectorError):
        await ask(session, home.url("kimi"), prompt())
    assert [row["state"] for row in (await home.status())["proxies"]] == ["stopped", "stopped"]


async def test_a_second_start_has_no_effect(kimi):
    before = await kimi.worker_pid("kimi"), await kimi.supervisor_pid()
    assert (await kimi.ccproxy("start")).code == 0
    assert (await kimi.worker_pid("kimi"), await kimi.supervisor_pid()) == before


async def test_no_key_is_written_anywhere(kimi, provider, session):
    provider.script(completion("ok"))
    await ask(session, kimi.url("kimi"), prompt(), headers={"x-api-key": "sk-client-secret-1"})
    await kimi.ccproxy("status")
    await kimi.ccproxy("stop")
    written = [path for path in kimi.path.rglob("*") if path.is_file() and path.suffix != ".env"]
    assert any("kimi.log" in path.name for path in written)
    for path in written:
        assert b"sk-upstream-1" not in path.read_bytes(), path
        assert b"sk-client-secret-1" not in path.read_bytes(), path


async def test_invalid_files_start_nothing(home, provider):
    home.write(kimi=settings(provider, BIG_MODLE="x"), glm={"PROVIDER_BASE_URL": "nonsense"})
    done = await home.ccproxy("start")
    assert done.code == 78
    assert "BIG_MODLE" in done.err
    assert "nonsense" in done.err
    assert home.processes() == []


async def test_status_starts_nothing(home, provider):
    home.write(kimi=settings(provider))
    assert (await home.proxy("kimi"))["state"] == "stopped"
    assert (await home.status())["supervisor"] is None
    assert home.processes() == []


# Stopping and restarting.


async def test_a_stop_waits_for_open_streams(kimi, provider, session):
    rest = asyncio.Event()
    provider.script(stream(chunk("one "), rest, chunk("two"), chunk(finish="stop")))
    asking = asyncio.create_task(ask(session, kimi.url("kimi"), prompt(stream=True)))
    await provider.called()
    stopping = asyncio.create_task(kimi.ccproxy("stop"))
    await eventually(lambda: is_stopping(kimi))
    assert not asking.done()
    rest.set()
    assert (await asking).text == "one two"
    assert (await stopping).code == 0


async def test_a_restart_refuses_no_connection(kimi, session):
    before = await kimi.worker_pid("kimi")
    async with load(session, kimi.url("kimi")) as observed:
        done = await kimi.ccproxy("restart")
        await grows(observed)
    assert done.code == 0, done
    assert await kimi.worker_pid("kimi") != before
    assert (observed.refused, observed.broken) == ([], [])


async def is_stopping(home):
    return (await home.proxy("kimi"))["state"] == "stopping"


# Crashes.


@pytest.mark.timed
async def test_a_killed_worker_restarts_without_a_refused_connection(kimi, session):
    before = await kimi.worker_pid("kimi")
    async with load(session, kimi.url("kimi")) as observed:
        answers = observed.answers
        os.kill(before, signal.SIGKILL)
        killed_at = time.monotonic()
        await eventually(lambda: not psutil.pid_exists(before))
        await eventually(
            lambda: observed.answers > answers and observed.answered_at > killed_at + 0.1
        )
        took = observed.answered_at - killed_at
        await grows(observed)
    assert observed.refused == []
    assert len(observed.broken) <= 4, "only what was under way may be lost"
    assert took < BACK_WITHIN
    row = await kimi.proxy("kimi")
    assert row["state"] == "ready"
    assert row["pids"] != [before]


async def test_workers_survive_their_supervisor_and_are_adopted(kimi, session):
    worker, supervisor = await kimi.worker_pid("kimi"), await kimi.supervisor_pid()
    async with load(session, kimi.url("kimi")) as observed:
        os.kill(supervisor, signal.SIGKILL)
        await eventually(lambda: not psutil.pid_exists(supervisor))
        await grows(observed)

        status = await kimi.status()
        assert status["supervisor"] is None
        assert [(row["state"], row["pids"]) for row in status["proxies"]] == [("ready", [worker])]

        done = await kimi.ccproxy("start")
        assert done.code == 0, done
        await grows(observed)
    assert (observed.refused, observed.broken) == ([], [])
    assert await kimi.worker_pid("kimi") == worker
    assert await kimi.supervisor_pid() != supervisor


async def test_an_adopted_worker_is_restarted_on_the_same_port(kimi, session):
    worker, supervisor = await kimi.worker_pid("kimi"), await kimi.supervisor_pid()
    os.kill(supervisor, signal.SIGKILL)
    await eventually(lambda: not psutil.pid_exists(supervisor))
    await kimi.ccproxy("start")
    async with load(session, kimi.url("kimi")) as observed:
        os.kill(worker, signal.SIGKILL)
        await eventually(lambda: not psutil.pid_exists(worker))
        await grows(observed)
    assert observed.refused == [], "the new supervisor holds the old listening socket"


async def test_twenty_concurrent_starts_create_one_fleet(home, provider):
    home.write(kimi=settings(provider), glm=settings(provider))
    done = await asyncio.gather(*(home.ccproxy("start") for _ in range(20)))
    assert [one for one in done if one.code != 0] == []
    status = await home.status()
    pids = [status["supervisor"]["pid"], *(pid for row in status["proxies"] for pid in row["pids"])]
    assert sorted(pids) == sorted(process.pid for process in home.processes())
    assert len(pids) == 3


# Other programs.


async def test_a_port_in_use_is_reported_and_the_others_start(home, provider, session):
    home.write(kimi=settings(provider), glm=settings(provider))
    async with stranger(home.ports["kimi"]) as pid:
        done = await home.ccproxy("start")
        assert done.code == 1, done
        assert f"(pid {pid}" in done.out
        assert (await home.ccproxy("start", "kimi")).code == 5
        states = {row["label"]: row["state"] for row in (await home.status())["proxies"]}
        assert states == {"kimi": "foreign", "glm": "ready"}
        assert (await ask(session, home.url("glm"), prompt())).text == "ok"
        assert (await home.ccproxy("stop")).code == 0
        assert psutil.pid_exists(pid)


@asynccontextmanager
async def stranger(port) -> AsyncIterator[int]:
    """Another program that listens on *port*."""
    code = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); "
        "print('up', flush=True); sys.stdin.read()"
    )
    pipes: dict[str, Any] = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(port), **pipes)
    try:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"up\n"
        yield child.pid
    finally:
        assert child.stdin is not None
        child.stdin.close()
        await asyncio.wait_for(child.wait(), PATIENCE)


async def test_a_recycled_pid_is_not_signalled(kimi, provider):
    """A stale record never causes a signal to a new process with its pid."""
    worker, supervisor = await kimi.worker_pid("kimi"), await kimi.supervisor_pid()
    record = kimi.path / "pids/kimi.pid"
    text = record.read_text()
    for pid in (supervisor, worker):
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda pid=pid: not psutil.pid_exists(pid))
    async with stranger(free_port()) as other:
        record.write_text(text.replace(str(worker), str(other)))
        assert (await kimi.proxy("kimi"))["state"] == "stopped"
        assert (await kimi.ccproxy("stop")).code == 0
        assert psutil.pid_exists(other)


# One proxy without a table.


async def test_up_serves_in_the_foreground_without_a_table(tmp_path, provider, session):
    port = free_port()
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **settings(provider)}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ccproxy", "up", "--port", str(port)),
        cwd=tmp_path,
        env={**environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await eventually(lambda: accepts(port))
        assert (await ask(session, f"http://127.0.0.1:{port}", prompt(stream=True))).text == "ok"
        child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.wait(), PATIENCE) == 0
    finally:
        if child.returncode is None:
            child.kill()


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
