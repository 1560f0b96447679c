"""
The operations of the supervisor: start, stop, restart, reload, status, plan.

An operation changes goals and the list of slots, and waits until the loop has reached the goals.
The user's files are checked completely before anything changes. Operations that replace workers
run one after another; `stop` does not wait for them and takes precedence.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from ccproxy.config.fleet import Fleet
from ccproxy.errors import Busy, UsageError
from ccproxy.log_rotation import archive_label
from ccproxy.supervisor.config_changes import ConfigChanges
from ccproxy.supervisor.config_check import CheckResult, ConfigCheck
from ccproxy.supervisor.control.protocol import (
    ControlCommand,
    ControlReply,
    PlannedChange,
    PlanSign,
    Progress,
)
from ccproxy.supervisor.control.status import Row, row_of
from ccproxy.supervisor.fleet.converge import Loop
from ccproxy.supervisor.fleet.plan import Goal, Phase
from ccproxy.supervisor.fleet.worker_slot import DRAIN_GRACE, START_LIMIT, WorkerSlot
from ccproxy.supervisor.processes.child_environment import NetworkEnvironment
from ccproxy.supervisor.state.records import Spec
from ccproxy.supervisor.state.stopped_entries import StoppedEntries

TURN_LIMIT = 25.0
"""Seconds that an operation waits for another one to finish."""

STACK_SECONDS = 1.0
"""Seconds beyond the start limit that a late worker has to write its stack."""

AFTER_DRAIN = 10.0
"""Seconds beyond a drain after which `stop` returns even if a worker is still running."""

Refresh = Callable[[], Awaitable[None]]
"""Queries the workers for their states."""


@dataclass(slots=True)
class _Replacement:
    """The replacement of one entry's workers."""

    spec: Spec
    """The spec of the new workers."""
    old: list[WorkerSlot]
    new: list[WorkerSlot]

    @property
    def has_failed(self) -> bool:
        """Whether the old workers continue because a new one does not serve."""
        is_served = any(slot.is_serving for slot in self.old)
        return is_served and not all(slot.is_serving for slot in self.new)


class Operations:
    """Executes the commands that concern the fleet."""

    def __init__(
        self,
        fleet: Fleet,
        slots: list[WorkerSlot],
        *,
        loop: Loop,
        check: ConfigCheck,
        refresh: Refresh,
        network: NetworkEnvironment,
    ) -> None:
        self.is_ending = False
        """Whether the supervisor is about to exit; if so, nothing is started."""
        self._fleet = fleet
        self._slots = slots
        self._host = loop.host
        self._loop = loop
        self._refresh = refresh
        self._check = check
        self._network = network
        self._table: dict[str, Spec] = {}
        self._routing = ""
        self._changes = ConfigChanges(fleet.file)
        self._stopped = StoppedEntries(fleet.state)
        self._turn = asyncio.Lock()
        self._turn_holder = ""
        self._turn_since = 0.0
        self._turn_stops = 0
        """The value of `_stops` when the operation that has its turn was requested."""
        self._stops = 0
        """How many times entries were stopped."""
        self._last_stops: dict[str, int] = {}
        """The value of `_stops` when each entry was last stopped, by its label in lowercase."""

    # Operations.

    async def start(self, command: ControlCommand) -> ControlReply:
        """Start the entries; running ones are left alone."""
        async with self._in_turn(command):
            notes = self._take_network(command)
            if self._lacks_workers(command):
                self._host.prepare()
            result = await self._read(command.labels, command)
            specs = self._select(result.specs, command)
            self._check_ports(specs)
            await self._host.prepared()
            self._refuse_if_ending()
            for spec in self._unless_stopped(specs):
                self._want(spec, command)
            self._save_stopped()
            self._routing = self._routing or result.routing
        labels = [spec.label for spec in specs]
        timeout = command.timeout + (STACK_SECONDS if command.timeout >= START_LIMIT else 0.0)
        await self._loop.wait_for(lambda: self._has_settled(self._wanted(labels)), timeout)
        return replace(await self._reply(labels), notes=notes)

    async def stop(self, command: ControlCommand) -> ControlReply:
        """Stop the entries and wait until their workers have exited."""
        stopping = [slot for slot in self._slots if self._is_selected(slot.spec.label, command)]
        self._stops += 1
        self._last_stops |= dict.fromkeys(command.labels, self._stops)
        self._stop_slots(stopping, command.drain)
        if not self.is_ending:
            self._save_stopped(command.labels)
        ended = await self._wait_until_gone(stopping, command.drain)
        rows = (row for row in self._rows() if self._is_selected(row.label, command))
        return ControlReply(ok=ended, proxies=tuple(rows))

    async def restart(self, command: ControlCommand) -> ControlReply:
        """Replace the workers of the entries; the old ones stop when the new ones are ready."""
        async with self._in_turn(command):
            notes = self._take_network(command)
            self._host.prepare()
            specs = self._select((await self._read(command.labels, command)).specs, command)
            error = await self._replace(specs, command)
            self._save_stopped()
        return self._with_error(await self._reply([spec.label for spec in specs]), error, notes)

    async def reload(self, command: ControlCommand) -> ControlReply:
        """Replace changed entries, start new ones, and stop those removed from the table."""
        async with self._in_turn(command):
            notes = self._take_network(command)
            self._host.prepare()
            result = await self._read((), command)
            planned = self._plan(result)
            signs = {change.label: change.change for change in planned.plan}
            for slot in self._slots:
                if signs.get(slot.spec.label) == "=" and slot.record is None:
                    slot.retry()
            changed = [spec for spec in result.specs if signs[spec.label] in ("+", "~")]
            error = await self._replace(changed, command)
            self._table = {spec.label.lower(): spec for spec in result.specs}
            removed = [slot for slot in self._slots if slot.spec.label.lower() not in self._table]
            self._stop_slots(removed, command.drain)
            self._save_stopped()
            self._routing = result.routing
        labels = [spec.label for spec in result.specs if self._wanted([spec.label])]
        await self._loop.wait_for(lambda: self._has_settled(self._wanted(labels)), command.timeout)
        reply = self._with_error(await self._reply(labels), error, notes)
        return replace(reply, plan=planned.plan, routing_changed=planned.routing_changed)

    async def plan(self, command: ControlCommand) -> ControlReply:
        """Return what `reload` would do."""
        network = self._network.preview(command.network)
        return self._plan(await self._check((), cwd=command.cwd, network=network))

    async def status(self) -> ControlReply:
        """Return the rows of all entries."""
        await self._refresh()
        return ControlReply(ok=True, proxies=tuple(self._rows()))

    async def progress(self) -> Progress | None:
        """Return the progress of the workers that are stopping, or None."""
        await self._refresh()
        stopping = [slot for slot in self._slots if slot.goal is Goal.STOPPED and slot.record]
        if not stopping:
            return None
        now = self._host.now()
        deadlines = [at for slot in stopping if (at := slot.next_change(now)) < math.inf]
        return Progress(
            labels=tuple(sorted({slot.spec.label for slot in stopping})),
            in_flight=sum(slot.state.in_flight for slot in stopping),
            seconds_left=round(max(0.0, max(deadlines, default=now) - now - DRAIN_GRACE), 1),
        )

    def forget_stopped(self) -> None:
        """Clear the list of stopped entries, because the whole fleet is stopped."""
        self._stopped.set(())

    def restore_files(self) -> None:
        """Rewrite the list of stopped entries if it was removed."""
        self._stopped.restore()

    # Goals.

    def _want(self, spec: Spec, command: ControlCommand) -> None:
        """Create the missing slots of *spec*, and retry those without a process."""
        slots = {slot.index: slot for slot in self._wanted([spec.label])}
        if not any(slot.record for slot in self._of(spec.label)):
            labels = {slot.spec.label for slot in self._slots}
            archive_label(self._fleet.logs, spec.label, labels)
        for index in range(1, spec.workers + 1):
            slot = slots.get(index)
            if slot is None:
                slot = WorkerSlot(spec, index)
                self._slots.append(slot)
            elif slot.record is None:
                slot.retry(spec)
            slot.start_limit = max(START_LIMIT, command.timeout)
        self._loop.wake()

    async def _replace(self, specs: Sequence[Spec], command: ControlCommand) -> str:
        """
        Replace the workers of each spec; return the failures as text for the user.

        A worker that serves is stopped only when its successor serves. If a successor fails, all
        of the entry's new workers are stopped instead, unless the port of the old ones has moved to
        another entry. An entry that the user stops meanwhile is not replaced.
        """
        await self._clear_ports(specs, command)
        if specs:
            await self._host.prepared()
        self._refuse_if_ending()
        replacements = [
            self._begin_replacement(spec, command) for spec in self._unless_stopped(specs)
        ]
        new = [slot for one in replacements for slot in one.new]
        await self._loop.wait_for(lambda: self._has_settled(new), command.timeout)
        self._refuse_if_ending()
        remaining = self._unless_stopped(specs)
        return self._end_replacements(
            [one for one in replacements if one.spec in remaining], command
        )

    def _end_replacements(
        self, replacements: Sequence[_Replacement], command: ControlCommand
    ) -> str:
        """Stop the old workers, or the new ones that have failed; return the failures as text."""
        holders = {one.spec.port: one.spec.label for one in replacements if not one.has_failed}
        errors = []
        for one in replacements:
            stopped = one.old
            if one.has_failed:
                reasons = (slot.failure for slot in one.new)
                reason = next(filter(None, reasons), "not ready in time")
                taken = next((slot.spec.port for slot in one.old if slot.spec.port in holders), 0)
                if taken:  # two entries must not share it
                    result = f"port {taken}, which it had, now serves {holders[taken]}"
                else:
                    stopped, result = one.new, "the previous worker continues"
                errors.append(f"{one.spec.label}: {reason}; {result}")
            # Even if the replacement has failed, some of the new workers may have requests.
            self._stop_slots([slot for slot in stopped if slot.is_serving], command.drain)
            self._stop_slots([slot for slot in stopped if not slot.is_serving], 0.0)
        return "\n".join(errors)

    def _unless_stopped(self, specs: Sequence[Spec]) -> list[Spec]:
        """Return the *specs* that no `stop` has named since the current operation was requested."""
        stops = self._last_stops
        return [one for one in specs if stops.get(one.label.lower(), 0) <= self._turn_stops]

    def _begin_replacement(self, spec: Spec, command: ControlCommand) -> _Replacement:
        old = self._wanted([spec.label])
        self._stop_slots([slot for slot in old if not slot.is_serving], 0.0)
        limit = max(START_LIMIT, command.timeout)
        indexes = range(1, spec.workers + 1)
        new = [WorkerSlot(spec, index, start_limit=limit) for index in indexes]
        self._slots += new
        return _Replacement(spec, old, new)

    async def _clear_ports(self, specs: Sequence[Spec], command: ControlCommand) -> None:
        """Stop workers on a requested port with another host: only one address can be bound."""
        hosts = {spec.port: spec.host for spec in specs}
        blocking = [
            slot
            for slot in self._slots
            if hosts.get(slot.spec.port, slot.spec.host) != slot.spec.host
        ]
        if blocking:
            self._stop_slots(blocking, command.drain)
            await self._wait_until_gone(blocking, command.drain)

    def _stop_slots(self, slots: Iterable[WorkerSlot], drain_seconds: float) -> None:
        for slot in slots:
            slot.stop(drain_seconds, self._host.now())
        self._loop.wake()

    async def _wait_until_gone(self, slots: Sequence[WorkerSlot], drain_seconds: float) -> bool:
        def are_gone() -> bool:
            return not any(slot is one for slot in slots for one in self._slots)

        return await self._loop.wait_for(are_gone, drain_seconds + AFTER_DRAIN)

    def _plan(self, result: CheckResult) -> ControlReply:
        plan = [PlannedChange(label=one.label, change=self._sign(one)) for one in result.specs]
        labels = {spec.label.lower() for spec in result.specs}
        running = {slot.spec.label for slot in self._slots if slot.goal is Goal.RUNNING}
        removed = sorted(label for label in running if label.lower() not in labels)
        plan += [PlannedChange(label=label, change="-") for label in removed]
        is_changed = bool(self._routing) and self._routing != result.routing
        return ControlReply(ok=True, plan=tuple(plan), routing_changed=is_changed)

    def _sign(self, spec: Spec) -> PlanSign:
        if slots := self._wanted([spec.label]):
            return "=" if all(slot.spec.digest == spec.digest for slot in slots) else "~"
        # A stopped entry stays stopped; only an entry new to the table is started.
        is_known = spec.label.lower() in self._stopped.labels or spec.label.lower() in self._table
        return "=" if is_known else "+"

    def _save_stopped(self, stopped: Iterable[str] = ()) -> None:
        labels = self._stopped.labels | set(self._table) | set(stopped)
        if self._table:
            labels &= set(self._table)  # the others were removed from the table
        running = {slot.spec.label.lower() for slot in self._slots if slot.goal is Goal.RUNNING}
        self._stopped.set(labels - running)

    def _take_network(self, command: ControlCommand) -> tuple[str, ...]:
        """Use the proxy variables of the user's shell; return notes about differences."""
        if command.network is None:
            return ()
        running = sorted({slot.spec.label for slot in self._slots if slot.record})
        untouched = running if command.op == "start" else []
        return self._network.take(command.network, running=untouched)

    # Selection.

    def _select(self, specs: Sequence[Spec], command: ControlCommand) -> list[Spec]:
        """Return the specs that the command applies to, and update the table."""
        by_label = {spec.label.lower(): spec for spec in specs}
        if unknown := set(command.labels) - set(by_label):
            labels = ", ".join(spec.label for spec in specs)
            raise UsageError(
                f"not in the table: {', '.join(sorted(unknown))} (the table contains {labels})"
            )
        if not command.labels:
            self._table = {}
        selected = [spec for spec in specs if self._is_selected(spec.label, command)]
        fresh = {spec.label.lower(): spec for spec in selected}
        # Unchecked entries keep the spec from which they were started.
        self._table = {
            label: fresh.get(label, self._table.get(label, spec))
            for label, spec in by_label.items()
        }
        return selected

    def _check_ports(self, specs: Sequence[Spec]) -> None:
        """Reject a port that a worker with another label uses; `reload` moves that worker."""
        holders = {slot.spec.port: slot.spec.label for slot in self._slots if slot.record}
        for spec in specs:
            holder = holders.get(spec.port, spec.label)
            if holder.lower() != spec.label.lower():
                raise UsageError(f"port {spec.port} still serves {holder}\n  fix: ccproxy reload")

    def _lacks_workers(self, command: ControlCommand) -> bool:
        """Return True if an entry has no worker, or before the first check."""
        selected = command.labels or self._table
        running = {slot.spec.label.lower() for slot in self._slots if slot.record}
        return not selected or not running.issuperset(selected)

    @staticmethod
    def _is_selected(label: str, command: ControlCommand) -> bool:
        return not command.labels or label.lower() in command.labels

    def _of(self, label: str) -> list[WorkerSlot]:
        return [slot for slot in self._slots if slot.spec.label.lower() == label.lower()]

    def _wanted(self, labels: Iterable[str]) -> list[WorkerSlot]:
        keys = {label.lower() for label in labels}
        return [
            slot
            for slot in self._slots
            if slot.spec.label.lower() in keys and slot.goal is Goal.RUNNING
        ]

    # Results.

    def _has_settled(self, slots: Iterable[WorkerSlot]) -> bool:
        now = self._host.now()
        return all(slot.phase(now, self._host.port(slot)) is not Phase.STARTING for slot in slots)

    def _rows(self) -> list[Row]:
        """Return a row for every entry of the table, followed by those removed from it."""
        specs = dict(self._table)
        for slot in self._slots:
            specs.setdefault(slot.spec.label.lower(), slot.spec)
        return [self._row(spec) for spec in specs.values()]

    def _row(self, spec: Spec) -> Row:
        slots, now = self._of(spec.label), self._host.now()
        running = next((slot.spec for slot in slots if slot.goal is Goal.RUNNING), None)
        changed = self._changes.of(running) if running else ""
        logs = self._fleet.logs
        return row_of(spec, slots, port=self._host.port, now=now, logs=logs, changed=changed)

    async def _reply(self, labels: Sequence[str]) -> ControlReply:
        await self._refresh()
        rows = [self._row(self._table[label.lower()]) for label in labels]
        is_serving = all(row.state in (Phase.READY, Phase.DEGRADED) for row in rows)
        return ControlReply(ok=is_serving, proxies=tuple(rows))

    @staticmethod
    def _with_error(reply: ControlReply, error: str, notes: tuple[str, ...]) -> ControlReply:
        return replace(reply, ok=reply.ok and not error, error=error or None, notes=notes)

    # One operation at a time, and none while the supervisor exits.

    async def _read(self, labels: Sequence[str], command: ControlCommand) -> CheckResult:
        result = await self._check(labels, cwd=command.cwd)
        # A stop may have arrived meanwhile; a worker started here would survive it.
        self._refuse_if_ending()
        return result

    def _refuse_if_ending(self) -> None:
        if self.is_ending:
            raise Busy("busy: the supervisor is stopping\n  fix: try again when it has finished")

    @asynccontextmanager
    async def _in_turn(self, command: ControlCommand) -> AsyncIterator[None]:
        self._refuse_if_ending()
        stops = self._stops
        try:
            async with asyncio.timeout(TURN_LIMIT):
                await self._turn.acquire()
        except TimeoutError as error:
            seconds = math.ceil(self._host.now() - self._turn_since)
            text = f"busy: `{self._turn_holder}` has been running for {seconds} s"
            raise Busy(f"{text}\n  fix: try again when it has finished") from error
        self._turn_holder = command.command or f"ccproxy {command.op}"
        self._turn_since = self._host.now()
        self._turn_stops = stops
        try:
            yield
        finally:
            self._turn.release()
