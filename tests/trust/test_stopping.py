"""After a stop with open streams no process and no file remains."""

from __future__ import annotations

import asyncio
import errno
import socket
import time

import pytest

from tests.fleet import eventually
from tests.provider import chunk, stream
from tests.trust.conftest import settings
from tests.trust.sizes import limit, note, size
from tests.trust.traffic import STREAMED, request_bytes

pytestmark = pytest.mark.xdist_group("processes")

STREAMS = 20


async def read_stream(port, answers):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_bytes(STREAMED))
    answers.append(await reader.read())
    writer.close()


def is_refused(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


@pytest.fixture
async def streams(fleet, provider):
    """Twenty open streams; `gate` lets them continue, and `answers` has their results."""
    gate = asyncio.Event()
    provider.script(lambda _: stream(chunk("one "), gate, chunk("two", finish="stop")))
    fleet.write(kimi=settings(provider.url))
    assert (await fleet.ccproxy("start")).code == 0
    answers: list[bytes] = []
    tasks = [asyncio.create_task(read_stream(fleet.ports["kimi"], answers)) for _ in range(STREAMS)]
    await eventually(lambda: len(provider.calls) == STREAMS)
    yield gate, answers
    gate.set()
    await asyncio.gather(*tasks)


@pytest.mark.timed
async def test_streams_finish_and_nothing_new_is_accepted(fleet, streams):
    """20 streams of 20 s finish completely; from the first moment on the port refuses."""
    gate, answers = streams
    begun = time.monotonic()
    stopping = asyncio.create_task(fleet.ccproxy("stop"))
    await eventually(lambda: is_refused(fleet.ports["kimi"]))
    refused_after = time.monotonic() - begun
    probes = []
    until = begun + size(1.0, 19.0)

    def probe():
        probes.append(is_refused(fleet.ports["kimi"]))
        return time.monotonic() > until

    await eventually(probe, within=60)
    assert answers == [], "none was cut"
    gate.set()
    done = await stopping
    took = time.monotonic() - begun
    whole = sum(b"message_stop" in one and b"event: error" not in one for one in answers)
    note("drain", whole=whole, of=STREAMS, accepted=probes.count(False), probes=len(probes),
         refused_after_s=round(refused_after, 2), stop_s=round(took, 1))  # fmt: skip
    assert done.code == 0
    assert whole == STREAMS
    assert all(probes)
    assert took <= 21.0
    assert fleet.processes() == []


@pytest.mark.timed
@pytest.mark.parametrize("how", ["drain", "now in the middle of a drain"])
async def test_requests_that_outlast_the_drain_get_an_error(fleet, streams, how):
    """Each stream gets one `event: error` and ends; no process is left."""
    _, answers = streams
    seconds = size(1, 5) if how == "drain" else 30
    begun = time.monotonic()
    stopping = asyncio.create_task(fleet.ccproxy("stop", "--drain", f"{seconds}s"))
    if how != "drain":
        await eventually(lambda: is_refused(fleet.ports["kimi"]))
        begun, seconds = time.monotonic(), 0
        assert (await fleet.ccproxy("stop", "--now")).code == 0
    done = await stopping
    took = time.monotonic() - begun
    await eventually(lambda: len(answers) == STREAMS)
    errors = [one.count(b"event: error") for one in answers]
    note(f"{how}", errors=sum(errors), of=STREAMS, beyond_drain_s=round(took - seconds, 2))
    assert done.code == 0
    assert errors == [1] * STREAMS
    assert all(b"overloaded_error" in one and b"shutting down" in one for one in answers)
    assert not any(b"message_stop" in one for one in answers)
    assert took - seconds <= limit(2.0)
    assert fleet.processes() == []
