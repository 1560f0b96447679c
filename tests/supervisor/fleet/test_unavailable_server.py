"""During a crash loop the supervisor answers clients; otherwise they wait for the worker."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from dataclasses import dataclass, field

import pytest

from ccproxy.supervisor.fleet.unavailable_server import MAX_CLIENTS, UnavailableServer
from ccproxy.supervisor.fleet.worker_slot import WorkerSlot
from ccproxy.supervisor.processes.identity import Identity
from ccproxy.supervisor.sockets.listeners import Listeners
from ccproxy.supervisor.state.records import Spec, WorkerRecord
from tests.descriptors import exhausted
from tests.ports import free_port

HELLO = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
NOW = 1000.0


@dataclass
class CrashingPort:
    """A bound port, the slots that serve it, and the responder."""

    spec: Spec
    listeners: Listeners
    responder: UnavailableServer
    slots: list[WorkerSlot] = field(default_factory=list)

    def slot(self, crashes: int) -> WorkerSlot:
        """Add a slot that has crashed *crashes* times and is waiting for its next start."""
        slot = WorkerSlot(self.spec, len(self.slots) + 1)
        for _ in range(crashes):
            slot.could_not_spawn(NOW, jitter=0.0, message="exited with code 1")
        self.slots.append(slot)
        self.responder.update(self.slots)
        return slot

    def spawn(self, slot: WorkerSlot) -> None:
        record = WorkerRecord(
            identity=Identity(1, 1.0, "boot"),
            nonce="n",
            control="c",
            index=1,
            spec=self.spec,
            home="/h",
        )
        slot.spawned(record, NOW)
        self.responder.update(self.slots)

    async def ask(self, request: bytes = HELLO) -> tuple[list[str], bytes]:
        """Send *request*; return the lines of the head, and the body."""
        reader, writer = await asyncio.open_connection(*self.spec.address)
        writer.write(request)
        head, _, body = (await asyncio.wait_for(reader.read(), 30)).partition(b"\r\n\r\n")
        writer.close()
        return head.decode().splitlines(), body

    def waits(self) -> bool:
        """Return True if a connection waits for the next worker; this method acts as the worker."""
        with (
            socket.create_connection(self.spec.address),
            socket.socket(fileno=socket.dup(self.listeners.fileno(self.spec.address))) as worker,
        ):
            worker.settimeout(30)
            worker.accept()[0].close()
            return True


@pytest.fixture
async def port():
    listeners = Listeners(clock=lambda: NOW)
    spec = Spec(label="Kimi", host="127.0.0.1", port=free_port(), env_file="envs/kimi.env")
    assert listeners.bind(spec.address) is None
    responder = UnavailableServer(listeners, lambda: NOW)
    yield CrashingPort(spec, listeners, responder)
    await responder.close()
    listeners.keep_only(())


async def test_a_client_gets_an_error_of_the_messages_api(port):
    port.slot(crashes=5)
    head, body = await port.ask()
    assert head[0] == "HTTP/1.1 503 Service Unavailable"
    assert f"content-length: {len(body)}" in head
    assert "retry-after: 9" in head
    assert json.loads(body) == {
        "type": "error",
        "error": {
            "type": "overloaded_error",
            "message": "the proxy Kimi is down: it exited 5 times in a row; next start in 8 s. "
            "See why: ccproxy status, ccproxy logs Kimi",
        },
    }


async def test_without_free_descriptors_the_next_update_tries_again(port):
    with exhausted():
        port.slot(crashes=5)
    port.responder.update(port.slots)
    assert (await port.ask())[0][0] == "HTTP/1.1 503 Service Unavailable"


async def test_a_socket_that_cannot_be_watched_is_tried_again(port, monkeypatch):
    """Such as one beyond fs.epoll.max_user_watches."""

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "add_reader", refuse)
        port.slot(crashes=5)
    port.responder.update(port.slots)
    assert (await port.ask())[0][0] == "HTTP/1.1 503 Service Unavailable"


async def test_a_client_that_was_already_waiting_gets_the_error_too(port):
    request = asyncio.ensure_future(port.ask())
    port.slot(crashes=5)
    assert (await request)[0][0].startswith("HTTP/1.1 503")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"Content-Length: 3000000\r\n\r\n" + b"x" * 3_000_000, id="of a known length"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n10000\r\n", id="that is still being sent"),
    ],
)
async def test_a_request_body_does_not_prevent_the_answer(port, body):
    port.slot(crashes=5)
    head, answer = await port.ask(b"POST / HTTP/1.1\r\n" + body)
    assert head[0].startswith("HTTP/1.1 503")
    assert json.loads(answer)["type"] == "error"


@pytest.mark.parametrize(
    "crashes",
    [
        pytest.param([0], id="a new one"),
        pytest.param([4], id="four crashes"),
        pytest.param([5, 1], id="another one is about to be started"),
        pytest.param([1, 5], id="in another order"),
    ],
)
async def test_without_a_crash_loop_clients_wait_for_the_worker(port, crashes):
    for count in crashes:
        port.slot(count)
    assert port.waits()


async def test_all_processes_of_an_entry_can_be_in_a_crash_loop(port):
    port.slot(crashes=5)
    port.slot(crashes=6)
    assert (await port.ask())[0][0].startswith("HTTP/1.1 503")


async def test_clients_wait_during_a_start_attempt(port):
    slot = port.slot(crashes=5)
    await port.ask()
    port.spawn(slot)
    assert port.waits()
    slot.exited(1)
    slot.reap(NOW, jitter=0.0)
    port.responder.update(port.slots)
    assert (await port.ask())[0][0].startswith("HTTP/1.1 503")


async def test_a_stopped_entry_refuses_connections(port):
    port.slot(crashes=5)
    port.responder.update([])
    port.listeners.keep_only(())
    with pytest.raises(ConnectionRefusedError):
        await port.ask()


@pytest.mark.parametrize("nonsense", [b"", b"\r\n", b"x" * 200_000])
async def test_malformed_requests_do_not_affect_other_clients(port, nonsense):
    port.slot(crashes=5)
    _, writer = await asyncio.open_connection(*port.spec.address)
    writer.write(nonsense)
    writer.close()
    assert (await port.ask())[0][0].startswith("HTTP/1.1 503")


async def test_the_number_of_concurrent_clients_is_limited(port):
    port.slot(crashes=5)
    silent = [await asyncio.open_connection(*port.spec.address) for _ in range(MAX_CLIENTS)]
    reader, writer = await asyncio.open_connection(*port.spec.address)
    assert await asyncio.wait_for(reader.read(), 30) == b""
    for _, other in [*silent, (reader, writer)]:
        other.close()
