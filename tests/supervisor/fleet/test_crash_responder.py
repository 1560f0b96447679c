"""Clients of a worker in a crash loop are told, by the supervisor; all others wait for theirs."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass, field

import pytest

from ccproxy.supervisor.fleet.crash_responder import MOST_CLIENTS, CrashResponder
from ccproxy.supervisor.fleet.worker_slot import WorkerSlot
from ccproxy.supervisor.processes.identity import Identity
from ccproxy.supervisor.sockets.listeners import Listeners
from ccproxy.supervisor.state.records import Spec, WorkerRecord
from tests.supervisor.conftest import free_port

HELLO = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
NOW = 1000.0


@dataclass
class Place:
    """A port of ours, the units that are to serve it, and who answers for them."""

    spec: Spec
    listeners: Listeners
    absences: CrashResponder
    units: list[WorkerSlot] = field(default_factory=list)

    def unit(self, crashes: int) -> WorkerSlot:
        """Add a unit that has crashed so often and rests."""
        unit = WorkerSlot(self.spec, len(self.units) + 1)
        for _ in range(crashes):
            unit.could_not_spawn(NOW, jitter=0.0, words="exited with code 1")
        self.units.append(unit)
        self.absences.update(self.units)
        return unit

    def spawn(self, unit: WorkerSlot) -> None:
        record = WorkerRecord(
            identity=Identity(1, 1.0, "boot"), nonce="n", control="c", index=1, spec=self.spec
        )
        unit.spawned(record, NOW)
        self.absences.update(self.units)

    async def ask(self, request: bytes = HELLO) -> tuple[list[str], bytes]:
        """Return the lines of the head, and the body."""
        reader, writer = await asyncio.open_connection(*self.spec.address)
        writer.write(request)
        head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
        writer.close()
        return head.decode().splitlines(), body

    def waits(self) -> bool:
        """Tell whether a connection is left for the next worker; this is that worker."""
        with (
            socket.create_connection(self.spec.address),
            socket.socket(fileno=socket.dup(self.listeners.fileno(self.spec.address))) as worker,
        ):
            worker.settimeout(10)
            worker.accept()[0].close()
            return True


@pytest.fixture
async def place():
    listeners = Listeners(clock=lambda: NOW)
    spec = Spec(label="Kimi", host="127.0.0.1", port=free_port(), env_file="envs/kimi.env")
    assert listeners.bind(spec.address) is None
    absences = CrashResponder(listeners, lambda: NOW)
    yield Place(spec, listeners, absences)
    await absences.close()
    listeners.keep_only(())


async def test_who_asks_a_crash_looping_worker_is_told(place):
    place.unit(crashes=5)
    head, body = await place.ask()
    assert head[0] == "HTTP/1.1 503 Service Unavailable"
    assert f"content-length: {len(body)}" in head
    assert "retry-after: 9" in head
    assert json.loads(body) == {
        "type": "error",
        "error": {
            "type": "overloaded_error",
            "message": "the proxy Kimi is down: it ended 5 times in a row and is started again in "
            "8 s. See why: ccproxy status, ccproxy logs Kimi",
        },
    }


async def test_who_waited_already_is_told_too(place):
    asked = asyncio.ensure_future(place.ask())
    place.unit(crashes=5)
    assert (await asked)[0][0].startswith("HTTP/1.1 503")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"Content-Length: 3000000\r\n\r\n" + b"x" * 3_000_000, id="of a known length"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n10000\r\n", id="that is still being sent"),
    ],
)
async def test_a_body_does_not_cost_the_answer(place, body):
    place.unit(crashes=5)
    head, answer = await place.ask(b"POST / HTTP/1.1\r\n" + body)
    assert head[0].startswith("HTTP/1.1 503")
    assert json.loads(answer)["type"] == "error"


@pytest.mark.parametrize(
    "crashes",
    [
        pytest.param([0], id="a new one"),
        pytest.param([4], id="bad luck"),
        pytest.param([5, 1], id="another one is about to be started"),
        pytest.param([1, 5], id="in whatever order"),
    ],
)
async def test_others_are_waited_for(place, crashes):
    for count in crashes:
        place.unit(count)
    assert place.waits()


async def test_all_of_several_may_be_in_a_loop(place):
    place.unit(crashes=5)
    place.unit(crashes=6)
    assert (await place.ask())[0][0].startswith("HTTP/1.1 503")


async def test_a_worker_that_is_tried_again_is_waited_for(place):
    unit = place.unit(crashes=5)
    await place.ask()
    place.spawn(unit)
    assert place.waits()
    unit.ended(1)
    unit.bury(NOW, jitter=0.0)
    place.absences.update(place.units)
    assert (await place.ask())[0][0].startswith("HTTP/1.1 503")


async def test_one_that_was_stopped_is_not_spoken_for(place):
    place.unit(crashes=5)
    place.absences.update([])
    place.listeners.keep_only(())
    with pytest.raises(ConnectionRefusedError):
        await place.ask()


@pytest.mark.parametrize("nonsense", [b"", b"\r\n", b"x" * 200_000])
async def test_nonsense_harms_nobody(place, nonsense):
    place.unit(crashes=5)
    _, writer = await asyncio.open_connection(*place.spec.address)
    writer.write(nonsense)
    writer.close()
    assert (await place.ask())[0][0].startswith("HTTP/1.1 503")


async def test_only_so_many_are_answered_at_once(place):
    place.unit(crashes=5)
    silent = [await asyncio.open_connection(*place.spec.address) for _ in range(MOST_CLIENTS)]
    reader, writer = await asyncio.open_connection(*place.spec.address)
    assert await asyncio.wait_for(reader.read(), 10) == b""
    for _, other in [*silent, (reader, writer)]:
        other.close()
