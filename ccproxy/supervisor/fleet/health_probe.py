"""
Finds workers that run but do not respond.

Every 5 s each serving worker is queried for its state over its control socket. One that has not
answered after 2 s has missed a probe, and after three misses in a row it is hung. The request stays
pending: a worker that is only busy answers late, and its answer clears the misses. A socket that
cannot be reached (its file was removed) is reported, but not counted as a miss.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ccproxy.ipc.control_messages import StateRequest, WorkerState
from ccproxy.supervisor.fleet.worker_slot import WorkerSlot
from ccproxy.supervisor.sockets.unix_server import ask_worker_async
from ccproxy.supervisor.sockets.unix_socket import NoAnswer
from ccproxy.supervisor.state.records import WorkerRecord

PERIOD = 5.0
LIMIT = 2.0

UNREACHABLE = "its control socket cannot be reached"

Sleep = Callable[[float], Awaitable[None]]
AskState = Callable[[str, StateRequest, type[WorkerState]], Awaitable[WorkerState]]
"""`ask_worker_async`, for the one request that the probe sends."""


class HealthProbe:
    """Queries every serving worker for its state."""

    def __init__(
        self,
        slots: list[WorkerSlot],
        *,
        on_change: Callable[[], None],
        period: float = PERIOD,
        limit: float = LIMIT,
        ask: AskState = ask_worker_async,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._slots = slots
        self._on_change = on_change
        self._ask = ask
        self._sleep = sleep
        self._period = period
        self._limit = limit
        self._open: dict[str, asyncio.Task[None]] = {}
        """The pending requests, by nonce."""
        self._due: set[str] = set()
        self._last_answer: dict[str, float] = {}
        """When each worker last answered, or was first queried, by nonce."""

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await self._sleep(self._period - self._limit)
            self.begin()
            await self._sleep(self._limit)
            self.count_misses()

    def begin(self) -> None:
        """Query every worker without a pending request; answers are due at `count_misses`."""
        self._ask_all()
        self._due = set(self._open)

    def count_misses(self) -> None:
        """Count a miss for every worker that has not answered since `begin`."""
        for slot in self._slots:
            nonce = slot.record.nonce if slot.record else ""
            if nonce in self._due and nonce in self._open:
                slot.missed_probe()
                self._on_change()

    async def refresh(self, seconds: float) -> None:
        """
        Query all workers now and wait at most *seconds*, without counting misses.

        A worker that neither answers now nor has answered recently is marked silent at once, so
        that `status` need not wait for the next probe.
        """
        self._ask_all()
        if self._open:
            await asyncio.wait(set(self._open.values()), timeout=seconds)
        recent = asyncio.get_running_loop().time() - self._limit
        for slot in self._slots:
            nonce = slot.record.nonce if slot.record else ""
            slot.set_silent(nonce in self._open and self._last_answer[nonce] <= recent)

    async def close(self) -> None:
        """Cancel the pending requests."""
        tasks = list(self._open.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask_all(self) -> None:
        now = asyncio.get_running_loop().time()
        nonces = {slot.record.nonce for slot in self._slots if slot.record}
        self._last_answer = {nonce: self._last_answer.get(nonce, now) for nonce in nonces}
        for slot in self._slots:
            record = slot.record
            if record is not None and slot.is_serving and record.nonce not in self._open:
                self._open[record.nonce] = asyncio.ensure_future(self._probe(slot, record))

    async def _probe(self, slot: WorkerSlot, record: WorkerRecord) -> None:
        try:
            state = await self._ask(record.control, StateRequest(), WorkerState)
        except NoAnswer:
            state = WorkerState(nonce=record.nonce, reason=UNREACHABLE)
        finally:
            self._open.pop(record.nonce, None)
        if slot.record is not record:
            return
        self._last_answer[record.nonce] = asyncio.get_running_loop().time()
        if state.nonce == record.nonce:
            slot.answered(state)
            self._on_change()
