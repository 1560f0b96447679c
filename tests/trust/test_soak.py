"""Many streams, some of them abandoned by clients: memory and descriptors do not grow."""

from __future__ import annotations

import asyncio
import random
import time

import psutil
import pytest

from tests.fleet import eventually
from tests.trust.conftest import settings
from tests.trust.sizes import note, size
from tests.trust.traffic import STREAMED, CheapProvider, request_bytes

pytestmark = pytest.mark.xdist_group("processes")

CLIENTS = 50


async def soak(port, streams, chance):
    """Request *streams* streams, of which 5 % are abandoned; return the number of complete ones."""
    numbers, whole = iter(range(streams)), 0

    async def client():
        nonlocal whole
        for _ in numbers:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_bytes(STREAMED))
            if chance.random() < 0.05:
                await reader.read(chance.randrange(1, 200))
                writer.transport.abort()
                continue
            answer = await reader.read()
            whole += b"message_stop" in answer
            writer.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return whole


async def test_a_soak(fleet):
    """After 100,000 streams, memory has grown at most 10 % since the warm-up; no zombie is left."""
    streams, chance = size(1_000, 100_000), random.Random(18)
    async with CheapProvider() as upstream:
        fleet.write(kimi=settings(upstream.url))
        assert (await fleet.ccproxy("start")).code == 0
        worker = psutil.Process(await fleet.worker_pid("kimi"))
        supervisor = psutil.Process(await fleet.supervisor_pid())
        files = worker.num_fds()
        await soak(fleet.ports["kimi"], size(500, 25_000), chance)  # the warm-up
        await eventually(lambda: idle(fleet))
        memory, begun = worker.memory_info().rss, time.monotonic()
        whole = await soak(fleet.ports["kimi"], streams, chance)
        took = time.monotonic() - begun
        await eventually(lambda: idle(fleet))
        growth = worker.memory_info().rss / memory - 1
        # Idle connections in the pool are not a leak; they end when the provider closes them.
        upstream.hang_up()
        await eventually(lambda: abs(worker.num_fds() - files) <= 5)
    zombies = [one for process in (worker, supervisor) for one in process.children(recursive=True)
               if one.status() == psutil.STATUS_ZOMBIE]  # fmt: skip
    written = "".join(path.read_text() for path in (fleet.path / "logs").glob("kimi*"))
    note("", streams=streams, whole=whole, per_s=round(streams / took), files_before=files,
         files_after=worker.num_fds(), memory_mib=round(memory / 2**20, 1),
         growth_percent=round(100 * growth, 1), zombies=len(zombies))  # fmt: skip
    assert whole >= 0.93 * streams
    assert growth <= 0.10
    assert zombies == []
    assert "Unclosed" not in written


async def idle(fleet):
    return (await fleet.proxy("kimi"))["in_flight"] == 0
