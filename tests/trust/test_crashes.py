"""Workers and supervisors that are killed or hang under load."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack

import psutil
import pytest

from tests.fleet import eventually, pause
from tests.provider import chunk, stream
from tests.trust.conftest import settings
from tests.trust.sizes import IS_FULL, limit, note, size
from tests.trust.traffic import STREAMED, Traffic, request_bytes

pytestmark = pytest.mark.xdist_group("processes")

LABELS = ("kimi", "glm", "qwen", "groq")


async def traffic_on_all(stack, fleet, *, rate) -> dict[str, Traffic]:
    return {
        label: await stack.enter_async_context(Traffic(fleet.ports[label], rate=rate))
        for label in LABELS
    }


def is_gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_a_killed_worker_under_load(fleet, upstream, events):
    """The worker is replaced, the others lose nothing, and no connection is refused."""
    fleet.write(**{label: settings(upstream) for label in LABELS})
    assert (await fleet.ccproxy("start")).code == 0
    pid = await fleet.worker_pid("kimi")
    async with AsyncExitStack() as stack:
        all_traffic = await traffic_on_all(stack, fleet, rate=size(20, 50))
        kimi = all_traffic.pop("kimi")
        await eventually(lambda: kimi.answered > 20)
        os.kill(pid, signal.SIGKILL)
        killed, killed_at = time.monotonic(), time.time()
        await eventually(lambda: is_gone(pid))
        answered = kimi.answered
        await eventually(lambda: kimi.answered > answered + 5)
        back = kimi.answered_at - killed
        await eventually(lambda: kimi.answered > answered + size(40, 500), within=60)
    detected = next(e["at"] for e in events("worker.exited") if e["pid"] == pid) - killed_at
    others = [(one.refused, one.broken) for one in all_traffic.values()]
    note("", detected_s=round(detected, 3), back_s=round(back, 2), refused=kimi.refused,
         broken_in_flight=len(kimi.broken), others_lost=sum(len(b) + r for r, b in others),
         answered=kimi.answered + sum(one.answered for one in all_traffic.values()))  # fmt: skip
    assert detected <= limit(0.2)
    assert back <= limit(2.0)
    assert kimi.refused == 0
    assert len(kimi.broken) <= 3, "only what was under way may be lost"
    assert others == [(0, [])] * 3


async def test_a_killed_supervisor_under_load(fleet, upstream, events):
    """After a time without a supervisor, `start` keeps the pids, and later crashes are detected."""
    fleet.write(**{label: settings(upstream) for label in LABELS})
    assert (await fleet.ccproxy("start")).code == 0
    before = {row["label"]: row["pids"] for row in (await fleet.status())["proxies"]}
    old = await fleet.supervisor_pid()
    async with AsyncExitStack() as stack:
        all_traffic = await traffic_on_all(stack, fleet, rate=size(20, 50))
        os.kill(old, signal.SIGKILL)
        killed = time.monotonic()
        await eventually(lambda: is_gone(old))
        done = await fleet.ccproxy("status")
        assert done.code == 1
        assert "supervisor down, 4 workers serving" in done.out
        kimi = all_traffic["kimi"]
        await eventually(
            lambda: time.monotonic() - killed > size(2, 60) and kimi.answered > 20, within=90
        )
        assert (await fleet.ccproxy("start")).code == 0
        answered = kimi.answered
        await eventually(lambda: kimi.answered > answered + 20)
    lost = sum(one.refused + len(one.broken) for one in all_traffic.values())
    rows = (await fleet.status())["proxies"]
    (started,) = events("supervisor.started")
    adoption = max(e["at"] for e in events("worker.adopted")) - started["at"]
    os.kill(before["kimi"][0], signal.SIGKILL)
    killed_at = time.time()
    exited = (await eventually(lambda: events("worker.exited")))[0]
    detected = exited["at"] - killed_at
    note("", lost=lost, answered=sum(one.answered for one in all_traffic.values()),
         adoption_s=round(adoption, 3), crash_detected_s=round(detected, 3))  # fmt: skip
    assert lost == 0
    assert {row["label"]: row["pids"] for row in rows} == before
    assert adoption <= limit(1.0)
    assert detected <= limit(1.0)

    async def is_back():
        row = await fleet.proxy("kimi")
        return row["state"] == "ready" and row["pids"] != before["kimi"]

    await eventually(is_back)


@pytest.mark.timed
@pytest.mark.skipif(not IS_FULL, reason="22 s; scaled down in supervisor/test_fleet.py")
async def test_a_suspended_worker_is_replaced_in_22_s(fleet, upstream, events):
    """Three missed probes -> SIGABRT with its stack -> SIGKILL -> restart."""
    fleet.write(kimi=settings(upstream))
    assert (await fleet.ccproxy("start")).code == 0
    pid = await fleet.worker_pid("kimi")
    pause(pid)
    stopped = time.monotonic()
    await eventually(lambda: len(events("worker.ready")) == 2, within=40)
    took = time.monotonic() - stopped
    note("hang", back_s=round(took, 1), misses=events("worker.hung")[0]["misses"])
    assert took <= 22.0
    assert "Aborted" in (fleet.path / "logs/kimi.out").read_text()


async def test_a_busy_worker_is_not_considered_hung(fleet, provider, events):
    """A worker with 500 slow streams is never considered hung (full size: an hour)."""
    words = [asyncio.Event() for _ in range(size(1, 60))]
    spoken = [part for word in words for part in (word, chunk("b"))]
    provider.script(lambda _: stream(chunk("a"), *spoken, chunk("c", finish="stop")))
    fleet.write(kimi=settings(provider.url, LOG_LEVEL="WARNING"))
    assert (await fleet.ccproxy("start")).code == 0
    pid = await fleet.worker_pid("kimi")

    async def read_stream():
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet.ports["kimi"])
        writer.write(request_bytes(STREAMED))
        answer = await reader.read()
        writer.close()
        return answer.count(b"message_stop")

    streams = size(100, 500)
    reading = [asyncio.create_task(read_stream()) for _ in range(streams)]
    await eventually(lambda: len(provider.calls) == streams, within=60)
    began, pause = time.monotonic(), size(6, 60)  # at least one round of probes
    for number, word in enumerate(words, start=1):
        due = began + number * pause
        await eventually(lambda due=due: time.monotonic() > due, within=2 * pause)
        assert await fleet.worker_pid("kimi") == pid
        word.set()
    stops = [await one for one in reading]
    seconds = round(time.monotonic() - began)
    note("busy", streams=streams, seconds=seconds, hung=len(events("worker.hung")))
    assert all(stops)
    assert events("worker.hung") == []
    assert await fleet.worker_pid("kimi") == pid
