"""
Finds workers that live but do not work.

Every 5 s each serving worker is asked for its state over its control socket. One that has not
answered after 2 s has missed a probe, and three misses in a row make it hung. The question stays
open meanwhile: a worker that is merely busy answers late, and the answer clears its misses. Only
silence counts. A socket that cannot be reached (somebody removed the file) is no hang, but it
is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ccproxy.supervisor.fleet.worker_slot import WorkerSlot
from ccproxy.supervisor.sockets.unix_server import ask_soon
from ccproxy.supervisor.sockets.unix_socket import NoAnswer
from ccproxy.supervisor.state.records import WorkerRecord

PERIOD = 5.0
LIMIT = 2.0

UNREACHABLE = "its control socket cannot be reached"

Ask = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
Sleep = Callable[[float], Awaitable[None]]


class Prober:
    """Asks every serving worker how it is."""

    def __init__(
        self,
        units: list[WorkerSlot],
        *,
        changed: Callable[[], None],
        period: float = PERIOD,
        limit: float = LIMIT,
        ask: Ask = ask_soon,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._units = units
        self._changed = changed
        self._ask = ask
        self._sleep = sleep
        self._period = period
        self._limit = limit
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._due: set[str] = set()
        self._heard: dict[str, float] = {}
        """When each nonce last answered, or was first asked."""

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await self._sleep(self._period - self._limit)
            self.begin()
            await self._sleep(self._limit)
            self.count()

    def begin(self) -> None:
        """Ask whoever is not being asked already; the answers are due at the next `count`."""
        self._ask_all()
        self._due = set(self._asking)

    def count(self) -> None:
        """Note a miss for whoever has still not answered."""
        for unit in self._units:
            nonce = unit.record.nonce if unit.record else ""
            if nonce in self._due and nonce in self._asking:
                unit.misses += 1
                self._changed()

    async def refresh(self, patience: float) -> None:
        """
        Ask everybody now and wait for what comes within *patience* seconds; count nothing.

        Who does not answer, and was not heard just before, is called silent at once: `status`
        need not wait for the next turn to be honest.
        """
        self._ask_all()
        if self._asking:
            await asyncio.wait(set(self._asking.values()), timeout=patience)
        long_ago = asyncio.get_running_loop().time() - self._limit
        for unit in self._units:
            nonce = unit.record.nonce if unit.record else ""
            unit.silent = nonce in self._asking and self._heard[nonce] <= long_ago

    async def close(self) -> None:
        """Stop asking."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask_all(self) -> None:
        current = {unit.record.nonce for unit in self._units if unit.record}
        self._heard = {nonce: at for nonce, at in self._heard.items() if nonce in current}
        for unit in self._units:
            record = unit.record
            if record is not None and unit.serves and record.nonce not in self._asking:
                self._heard.setdefault(record.nonce, asyncio.get_running_loop().time())
                task = asyncio.ensure_future(self._probe(unit, record))
                self._asking[record.nonce] = task

    async def _probe(self, unit: WorkerSlot, record: WorkerRecord) -> None:
        try:
            state = await self._ask(record.control, {"op": "state"})
        except NoAnswer:
            state = {"nonce": record.nonce, "reason": UNREACHABLE}
        finally:
            self._asking.pop(record.nonce, None)
        if unit.record is not record:
            return
        self._heard[record.nonce] = asyncio.get_running_loop().time()
        if state.get("nonce") == record.nonce:
            unit.answered(state)
            self._changed()
