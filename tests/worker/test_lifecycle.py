"""Draining, exiting, and the control socket."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import socket
import stat

import pytest

from ccproxy.worker import lifecycle as serve
from ccproxy.worker.control_socket import ControlSocket
from tests.fleet import eventually
from tests.messages import prompt, read_answer
from tests.provider import chunk, completion, stream


@pytest.fixture
async def control(proxy, tmp_path):
    socket_file = ControlSocket(tmp_path / "c.sock", proxy.worker, proxy.lifecycle, nonce="n1")
    socket_file.open()
    yield tmp_path / "c.sock"
    socket_file.close()
    assert not (tmp_path / "c.sock").exists()


async def say(path, line):
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return json.loads(answer)


async def test_an_error_of_the_control_socket_names_its_file(proxy, tmp_path):
    path = tmp_path / "missing" / "c.sock"
    socket_file = ControlSocket(path, proxy.worker, proxy.lifecycle, nonce="n1")
    with pytest.raises(FileNotFoundError) as caught:
        socket_file.open()
    socket_file.close()
    assert caught.value.filename == str(path)


async def test_a_removed_control_socket_is_created_again(proxy, tmp_path):
    path = tmp_path / "away/c.sock"
    path.parent.mkdir()
    socket_file = ControlSocket(
        path, proxy.worker, proxy.lifecycle, nonce="n1", file_check_seconds=0.01
    )
    socket_file.open()
    for _ in range(2):
        shutil.rmtree(path.parent)
        await eventually(path.exists)
        assert path.stat().st_mode & 0o777 == 0o600
        assert (await say(path, {"op": "state"}))["nonce"] == "n1"
    socket_file.close()
    assert not path.exists()


async def test_a_control_socket_that_cannot_be_removed_does_not_prevent_the_exit(proxy, tmp_path):
    path = tmp_path / "c.sock"
    socket_file = ControlSocket(path, proxy.worker, proxy.lifecycle, nonce="n1")
    socket_file.open()
    path.unlink()
    path.mkdir()  # cannot be unlinked, like a file in a read-only folder
    socket_file.close()


# Draining.


async def test_a_drain_finishes_streams_and_accepts_no_connection(proxy, provider):
    gate = asyncio.Event()
    provider.script(stream(chunk("a"), gate, chunk("b", finish="stop")))
    async with proxy.post("/v1/messages", prompt(stream=True)) as response:
        await response.content.readuntil(b"text_delta")
        proxy.lifecycle.drain(20)
        await eventually(lambda: proxy.worker.requests.draining)
        await eventually(lambda: is_refused(proxy.port))
        gate.set()
        assert (await response.read()).endswith(b'"message_stop"}\n\n')


def is_refused(port):
    with socket.socket() as late:
        return late.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


async def test_the_port_stays_open_for_other_processes(proxy):
    """In a restart, the supervisor or the next worker gets later connections."""
    with proxy.lifecycle.listener.dup() as heir:
        proxy.lifecycle.drain(20)
        await eventually(lambda: proxy.lifecycle.listener.fileno() < 0)
        with socket.create_connection(("127.0.0.1", proxy.port)):
            heir.setblocking(True)
            accepted, _ = await asyncio.to_thread(heir.accept)
            accepted.close()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(600, 0.1, id="a second drain may hurry"),
        pytest.param(0.1, 600, id="and never puts off"),
    ],
)
async def test_the_shortest_drain_applies(proxy, provider, first, second):
    provider.script(stream(chunk("a"), asyncio.Event()))
    async with proxy.post("/v1/messages", prompt(stream=True)) as response:
        head = await response.content.readuntil(b"text_delta")
        proxy.lifecycle.drain(first)
        await eventually(lambda: proxy.worker.requests.draining)
        proxy.lifecycle.drain(second)
        async with asyncio.timeout(30):
            answer = read_answer(200, response.headers, head + await response.read())
    assert answer.error["type"] == "overloaded_error"


async def test_a_stream_that_outlasts_the_drain_gets_one_error(proxy, provider):
    provider.script(stream(chunk("a"), asyncio.Event()))
    async with proxy.post("/v1/messages", prompt(stream=True)) as response:
        head = await response.content.readuntil(b"text_delta")
        proxy.lifecycle.drain(0.1)
        answer = read_answer(200, response.headers, head + await response.read())
    assert answer.error["type"] == "overloaded_error"
    assert "shutting down" in answer.error["message"]
    assert answer.body.count(b"event: error") == 1
    call = await provider.called()
    async with asyncio.timeout(30):
        await call.gone.wait()


async def test_a_whole_answer_that_outlasts_the_drain_is_a_529(proxy, provider):
    provider.script(completion("never", gate=asyncio.Event()))
    asking = asyncio.ensure_future(proxy.ask())
    await provider.called()
    proxy.lifecycle.drain(0.1)
    answer = await asking
    assert (answer.status, answer.error["type"]) == (529, "overloaded_error")


async def test_a_connection_that_is_reused_during_a_drain_is_answered_and_closed(
    proxy, monkeypatch
):
    monkeypatch.setattr(serve, "IDLE_SECONDS", 30)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    ask = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    writer.write(ask)
    await reader.readuntil(b"\r\n\r\nok")
    proxy.lifecycle.drain(30)
    await eventually(lambda: proxy.worker.requests.draining)
    writer.write(ask)
    answer = await reader.read()
    assert b"Connection: close" in answer
    assert answer.endswith(b"ok")
    writer.close()


async def test_an_idle_connection_does_not_delay_a_drain(proxy, monkeypatch):
    monkeypatch.setattr(serve, "IDLE_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"\r\n\r\nok")
    proxy.lifecycle.drain(30)
    async with asyncio.timeout(30):
        assert await reader.read() == b""
    writer.close()


# The control socket.


async def test_only_the_user_may_connect(control):
    assert stat.S_IMODE(control.stat().st_mode) == 0o600


async def test_the_state_describes_the_worker(control, proxy, provider):
    state = await say(control, {"op": "state"})
    assert (state["pid"], state["nonce"], state["label"]) == (os.getpid(), "n1", "Test")
    assert (state["state"], state["in_flight"], state["reason"]) == ("ready", 0, None)
    assert state["keys"] == {"ready": 1, "total": 1}
    assert state["models"] == {"big": "gpt-4o", "middle": "gpt-4o", "small": "gpt-4o-mini"}
    assert state["base_url"] == provider.url
    provider.script(completion("late", gate=asyncio.Event()))
    asking = asyncio.ensure_future(proxy.ask())
    await provider.called()
    assert (await say(control, {"op": "state"}))["in_flight"] == 1
    asking.cancel()


async def test_the_state_during_a_drain(control, proxy, provider):
    provider.script(completion("late", gate=asyncio.Event()))
    asking = asyncio.ensure_future(proxy.ask())
    await provider.called()
    assert await say(control, {"op": "drain", "seconds": 20}) == {"ok": True}
    await eventually(lambda: proxy.worker.requests.draining)
    assert (await say(control, {"op": "state"}))["state"] == "draining"
    asking.cancel()


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"",
        b"[]\n",
        b"\xff\n",
        {"op": "reboot"},
        {"op": ["state"]},
        {"op": "drain", "seconds": -1},
        {"op": "drain", "seconds": "soon"},
    ],
    ids=str,
)
async def test_an_invalid_request_is_only_an_error(control, proxy, line):
    answer = await say(control, line)
    assert answer["ok"] is False
    assert answer["error"]
    assert not proxy.worker.requests.draining


async def test_the_listening_socket_is_transferred(control, proxy):
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(control))
        asking.sendall(b'{"op":"listener"}\n')
        line, fds, _, _ = await asyncio.to_thread(socket.recv_fds, asking, 1000, 4)
    assert json.loads(line) == {"ok": True}
    (fd,) = fds
    with socket.socket(fileno=fd) as listener:
        assert listener.getsockname()[1] == proxy.port


async def test_a_drained_worker_has_no_socket_to_hand_over(control, proxy, provider):
    provider.script(completion("late", gate=asyncio.Event()))
    asking = asyncio.ensure_future(proxy.ask())
    await provider.called()
    proxy.lifecycle.drain(20)
    await eventually(lambda: proxy.worker.requests.draining)
    answer = await say(control, {"op": "listener"})
    assert answer["ok"] is False
    assert "is draining" in answer["error"]
    asking.cancel()


# SIGTERM without a supervisor.


async def test_a_container_accepts_connections_for_a_while_and_logs_it(start, provider):
    proxy = await start(DRAIN_DELAY="0.5", DRAIN_TIMEOUT="20")
    proxy.lifecycle.handle_signals(foreground=True)
    os.kill(os.getpid(), signal.SIGTERM)
    await proxy.logged("worker.leaving")
    async with proxy.get("/readyz") as got:
        assert got.status == 503
    assert (await proxy.ask()).status == 200
    assert (await proxy.logged("worker.draining"))["running"] == 0


async def test_a_container_drains_for_its_configured_time(start, provider):
    proxy = await start(DRAIN_TIMEOUT="0.01")
    proxy.lifecycle.handle_signals(foreground=True)
    gate = asyncio.Event()
    provider.script(stream(chunk(content="Hel"), gate, chunk(content="lo")))
    asking = asyncio.create_task(proxy.ask(prompt(stream=True)))
    await eventually(lambda: provider.calls)
    os.kill(os.getpid(), signal.SIGTERM)
    answer = await asking
    assert answer.error["type"] == "overloaded_error"
