"""
The loop: observe every slot, decide, act; then sleep until something happens or is due.

`step` and `settle` use neither asyncio nor the machine; tests drive them with a scripted host and
a fake clock.
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
    """The interface to the machine that the loop uses."""

    def now(self) -> float:
        """Return the seconds of a monotonic clock."""

    def port(self, slot: WorkerSlot) -> Port:
        """Return the state of the slot's port."""

    def next_try(self, now: float) -> float:
        """Return the next time at which to retry a port."""

    def perform(self, action: Action, slot: WorkerSlot) -> None:
        """Perform *action* and report the outcome to *slot*."""

    def update_ports(self, slots: list[WorkerSlot]) -> None:
        """Close the ports that no slot needs; answer on the ports of crash-looping entries."""

    def prepare(self) -> None:
        """Prepare to start workers, because a command is likely to."""

    async def prepared(self) -> None:
        """Wait until workers can be started quickly, if `prepare` was called."""


def step(slots: list[WorkerSlot], host: Host) -> list[tuple[WorkerSlot, Action]]:
    """Observe every slot once, decide and act; return the actions taken."""
    actions: list[tuple[WorkerSlot, Action]] = []
    for slot in list(slots):
        action = next_action(slot.goal, slot.facts(host.now(), host.port(slot)))
        if action is Action.NOTHING:
            continue
        if action is Action.REPLACE:
            slots.append(slot.hand_over(host.now()))
        else:
            host.perform(action, slot)
        actions.append((slot, action))
    return actions


def settle(slots: list[WorkerSlot], host: Host) -> None:
    """Step until nothing is left to do but wait, and remove slots that are no longer needed."""
    while step(slots, host):
        _remove_finished(slots)
    _remove_finished(slots)
    host.update_ports(slots)


def _remove_finished(slots: list[WorkerSlot]) -> None:
    # In place: other objects hold the same list.
    slots[:] = [slot for slot in slots if slot.goal is Goal.RUNNING or slot.record]


class Loop:
    """Settles the slots when woken, and when the passage of time changes a fact."""

    def __init__(self, slots: list[WorkerSlot], host: Host) -> None:
        self._slots = slots
        self.host = host
        self._changed = asyncio.Event()
        self._settled = asyncio.Condition()

    def wake(self) -> None:
        """Settle again, because something has happened."""
        self._changed.set()

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            self._changed.clear()
            settle(self._slots, self.host)
            async with self._settled:
                self._settled.notify_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds_to_change()):
                    await self._changed.wait()

    async def wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until *condition* holds; return whether it did within *seconds*."""
        self.wake()
        try:
            async with asyncio.timeout(seconds), self._settled:
                # The loop must first act on what the caller has just changed.
                await self._settled.wait()
                await self._settled.wait_for(condition)
        except TimeoutError:
            return False
        return True

    def _seconds_to_change(self) -> float | None:
        now = self.host.now()
        at = min((slot.next_change(now) for slot in self._slots), default=math.inf)
        at = min(at, self.host.next_try(now))
        return None if math.isinf(at) else max(0.0, at - now)
