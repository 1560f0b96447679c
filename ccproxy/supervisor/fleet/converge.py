"""
The loop: look at every unit, decide, act; then sleep until something happens or is due.

`step` and `settle` know neither asyncio nor the machine: a host that keeps a script and a clock
that is turned by hand drive them in the tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from typing import Protocol

from ccproxy.supervisor.fleet.plan import Action, Goal, Port, next_action
from ccproxy.supervisor.fleet.worker_slot import WorkerSlot


class Host(Protocol):
    """What the loop needs of the machine."""

    def now(self) -> float:
        """Return the seconds of a clock that only goes forward."""

    def port(self, unit: WorkerSlot) -> Port:
        """Look who has the unit's port."""

    def next_wake(self, now: float) -> float:
        """Return the next moment at which a port is worth another try."""

    def perform(self, action: Action, unit: WorkerSlot) -> None:
        """Do it, and tell the unit what happened."""

    def tend_ports(self, units: list[WorkerSlot]) -> None:
        """Close the ports that none of *units* wants open, and answer where nobody will soon."""

    def expect(self) -> None:
        """Get ready to start workers, because some are likely to be wanted soon."""

    async def ready(self) -> None:
        """Wait until workers can be started quickly, if that was expected."""


def step(units: list[WorkerSlot], host: Host) -> list[tuple[WorkerSlot, Action]]:
    """Look at every unit once, decide, act; return what was done."""
    taken: list[tuple[WorkerSlot, Action]] = []
    for unit in units:
        action = next_action(unit.goal, unit.facts(host.now(), host.port(unit)))
        if action is not Action.NOTHING:
            host.perform(action, unit)
            taken.append((unit, action))
    return taken


def settle(units: list[WorkerSlot], host: Host) -> None:
    """Step until there is nothing to do but wait, and let go of what has come to its end."""
    while step(units, host):
        # In place: the list is shared with whoever gives the orders.
        units[:] = [unit for unit in units if unit.goal is Goal.RUNNING or unit.record]
    units[:] = [unit for unit in units if unit.goal is Goal.RUNNING or unit.record]
    host.tend_ports(units)


class Loop:
    """Settles whenever it is woken, and whenever time alone changes a fact."""

    def __init__(self, units: list[WorkerSlot], host: Host) -> None:
        self._units = units
        self.host = host
        self._news = asyncio.Event()
        self._settled = asyncio.Condition()

    def wake(self) -> None:
        """Say that something happened."""
        self._news.set()

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            self._news.clear()
            settle(self._units, self.host)
            async with self._settled:
                self._settled.notify_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience()):
                    await self._news.wait()

    async def until(self, reached: Callable[[], bool], patience: float) -> bool:
        """Wait until *reached*; return whether it came so far within *patience* seconds."""
        self.wake()
        try:
            async with asyncio.timeout(patience), self._settled:
                # Not before the loop has acted on what was ordered just now.
                await self._settled.wait()
                await self._settled.wait_for(reached)
        except TimeoutError:
            return False
        return True

    def _patience(self) -> float | None:
        now = self.host.now()
        at = min((unit.next_wake(now) for unit in self._units), default=math.inf)
        at = min(at, self.host.next_wake(now))
        return None if math.isinf(at) else max(0.0, at - now)
