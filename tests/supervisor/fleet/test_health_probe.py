"""Probes: missed answers, and the status of silent workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from ccproxy.ipc.control_messages import StateRequest, WorkerState
from ccproxy.supervisor.fleet.health_probe import UNREACHABLE, HealthProbe
from ccproxy.supervisor.fleet.worker_slot import UNKNOWN, WorkerSlot
from ccproxy.supervisor.processes.identity import Identity
from ccproxy.supervisor.sockets.unix_socket import NoAnswer
from ccproxy.supervisor.state.records import Spec, WorkerRecord

SPEC = Spec(label="Kimi", host="127.0.0.1", port=8081, env_file="e")
RECORD = WorkerRecord(
    identity=Identity(4711, 1.0, "boot"), nonce="n", control="c", index=1, spec=SPEC, home="/h"
)


class ScriptedWorker:
    """Answers only while the test allows it."""

    def __init__(self) -> None:
        self.requests = 0
        self.state: WorkerState | None = WorkerState(nonce="n", state="ready")
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(
        self, path: str, request: StateRequest, kind: type[WorkerState], /
    ) -> WorkerState:
        assert (path, request, kind) == ("c", StateRequest(), WorkerState)
        self.requests += 1
        await self.may_answer.wait()
        if self.state is None:
            raise NoAnswer(path)
        return self.state


class Probed(NamedTuple):
    probe: HealthProbe
    slot: WorkerSlot
    worker: ScriptedWorker

    async def round(self) -> None:
        self.probe.begin()
        await turns()
        self.probe.count_misses()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def probed() -> AsyncIterator[Probed]:
    worker, slot = ScriptedWorker(), WorkerSlot(SPEC, 1)
    slot.adopted(RECORD, 0.0, None)
    probe = HealthProbe([slot], on_change=lambda: None, ask=worker)
    yield Probed(probe, slot, worker)
    await probe.close()


async def test_a_worker_that_answers_has_no_misses(probed: Probed) -> None:
    for _ in range(3):
        await probed.round()
    assert (probed.slot.misses, probed.worker.requests) == (0, 3)
    assert probed.slot.state.state == "ready"


async def test_misses_are_counted_while_a_single_request_is_open(probed: Probed) -> None:
    probed.worker.may_answer.clear()
    for misses in (1, 2, 3):
        await probed.round()
        assert (probed.slot.misses, probed.worker.requests) == (misses, 1)


async def test_a_late_answer_clears_the_misses(probed: Probed) -> None:
    probed.worker.may_answer.clear()
    await probed.round()
    probed.worker.may_answer.set()
    await turns()
    assert probed.slot.misses == 0


async def test_a_request_by_status_is_not_counted_as_a_miss(probed: Probed) -> None:
    probed.worker.may_answer.clear()
    await probed.probe.refresh(0.001)
    probed.probe.count_misses()
    assert probed.slot.misses == 0


async def test_a_worker_that_answered_recently_is_not_silent(probed: Probed) -> None:
    await probed.probe.refresh(0.5)
    probed.worker.may_answer.clear()
    await probed.probe.refresh(0.001)
    assert probed.slot.reason(0.0) == ""


async def test_an_unreachable_socket_is_reported_but_is_not_a_miss(probed: Probed) -> None:
    probed.worker.state = None
    for _ in range(5):
        await probed.round()
    assert probed.slot.misses == 0
    assert probed.slot.reason(0.0) == UNREACHABLE


async def test_the_answer_of_another_process_is_ignored(probed: Probed) -> None:
    probed.worker.state = WorkerState(nonce="another", state="ready", in_flight=9)
    await probed.round()
    assert probed.slot.state == UNKNOWN


async def test_a_worker_that_is_not_ready_is_not_probed() -> None:
    worker, slot = ScriptedWorker(), WorkerSlot(SPEC, 1)
    slot.spawned(RECORD, 0.0)
    HealthProbe([slot], on_change=lambda: None, ask=worker).begin()
    await turns()
    assert worker.requests == 0


async def test_a_round_takes_five_seconds_and_waits_two_for_answers() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 4:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await HealthProbe([], on_change=lambda: None, sleep=sleep).run()
    assert slept == [3.0, 2.0, 3.0, 2.0]
