"""
What can be asked of the supervisor.

An order changes what is wanted (goals, and which units there are) and waits until the loop has
brought it about. Everything that could be wrong with the user's files is found before anything
changes. Operations that replace workers wait for each other; `stop` waits for nobody and wins.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ccproxy.config.fleet import Fleet
from ccproxy.errors import Busy, UsageError
from ccproxy.logs import archive_label
from ccproxy.supervisor.config_check import ConfigCheck
from ccproxy.supervisor.control.row import Row
from ccproxy.supervisor.control.status_rows import row_of
from ccproxy.supervisor.fleet.converge import Loop
from ccproxy.supervisor.fleet.plan import Goal, Phase
from ccproxy.supervisor.fleet.worker_slot import READY_LIMIT, WorkerSlot
from ccproxy.supervisor.state.records import Spec
from ccproxy.supervisor.state.stopped_entries import StoppedEntries

TURN = 25.0
"""Seconds that an order waits for another one to finish."""

STACK = 1.0
"""Seconds beyond the readiness limit, for a worker that missed it to write where it hangs."""

AFTER_DRAIN = 10.0
"""Seconds beyond a drain after which `stop` reports even if something is still there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One request."""

    op: str
    labels: tuple[str, ...] = ()
    """In lower case; empty: all."""
    timeout: float = 15.0
    """Seconds to wait for readiness."""
    drain: float = 30.0
    """Seconds that running requests get."""
    cwd: str | None = None
    command: str = ""
    """What the user typed, to be named to others that have to wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an order."""

    ok: bool
    rows: list[Row]
    plan: list[tuple[str, str]] = field(default_factory=list)
    """What a reload does: labels with `+` new, `~` changed, `-` removed, `=` the same."""
    error: str = ""


Refresh = Callable[[], Awaitable[None]]
"""Asks the workers how they are."""


class Operations:
    """Carries out what is asked."""

    def __init__(
        self,
        fleet: Fleet,
        units: list[WorkerSlot],
        *,
        loop: Loop,
        examine: ConfigCheck,
        refresh: Refresh,
    ) -> None:
        self._fleet = fleet
        self._units = units
        self._host = loop.host
        self._loop = loop
        self._refresh = refresh
        self._examine = examine
        self._table: dict[str, Spec] = {}
        self._unwanted = StoppedEntries(fleet.state)
        self._turn = asyncio.Lock()
        self._holder = ""
        self._since = 0.0
        self.ending = False

    # The orders...

    async def start(self, order: Command) -> Outcome:
        """Want the entries running; what runs already is left alone."""
        async with self._in_turn(order):
            if self._lacks_workers(order):
                self._host.expect()
            specs = self._chosen(await self._read(order.labels, order), order)
            self._check_ports(specs)
            await self._host.ready()
            self._refuse_at_the_end()
            for spec in specs:
                self._want(spec, order)
            self._note_unwanted()
        labels = [spec.label for spec in specs]
        patience = order.timeout + (STACK if order.timeout >= READY_LIMIT else 0.0)
        await self._loop.until(lambda: self._has_settled(self._wanted(labels)), patience)
        return await self._outcome(labels)

    async def stop(self, order: Command) -> Outcome:
        """Want the entries gone, and wait until they are."""
        leaving = [unit for unit in self._units if self._is_chosen(unit, order)]
        for unit in leaving:
            unit.stop(order.drain, self._host.now())
        if not self.ending:
            self._note_unwanted(order.labels)
        gone = await self._loop.until(
            lambda: not any(unit in self._units for unit in leaving), order.drain + AFTER_DRAIN
        )
        rows = [
            row for row in self._rows() if not order.labels or row.label.lower() in order.labels
        ]
        return Outcome(ok=gone, rows=rows)

    async def restart(self, order: Command) -> Outcome:
        """Replace the workers of the entries, the old ones going when the new ones are ready."""
        async with self._in_turn(order):
            self._host.expect()
            specs = self._chosen(await self._read(order.labels, order), order)
            error = await self._roll(specs, order)
            self._note_unwanted()
        outcome = await self._outcome([spec.label for spec in specs])
        return Outcome(ok=outcome.ok and not error, rows=outcome.rows, error=error)

    async def plan(self, order: Command) -> Outcome:
        """Say what `reload` would do."""
        specs = await self._examine((), cwd=order.cwd)
        return Outcome(ok=True, rows=[], plan=self._plan(specs))

    async def reload(self, order: Command) -> Outcome:
        """Replace what changed, start what is new, stop what is no longer in the table."""
        async with self._in_turn(order):
            self._host.expect()
            specs = await self._read((), order)
            plan = self._plan(specs)
            changes = dict(plan)
            for unit in self._units:
                if changes.get(unit.spec.label) == "=" and unit.record is None:
                    unit.ask_again()
            error = await self._roll(
                [spec for spec in specs if changes[spec.label] in ("+", "~")], order
            )
            self._table = {spec.label.lower(): spec for spec in specs}
            for unit in self._units:
                if unit.spec.label.lower() not in self._table:
                    unit.stop(order.drain, self._host.now())
            self._note_unwanted()
            self._loop.wake()
        labels = [spec.label for spec in specs if self._wanted([spec.label])]
        await self._loop.until(lambda: self._has_settled(self._wanted(labels)), order.timeout)
        outcome = await self._outcome(labels)
        return Outcome(ok=outcome.ok and not error, rows=outcome.rows, plan=plan, error=error)

    async def status(self) -> Outcome:
        """Tell how every entry is doing."""
        await self._refresh()
        return Outcome(ok=True, rows=self._rows())

    def _rows(self) -> list[Row]:
        """Return a row for every entry of the table, then for those that are gone from it."""
        specs = dict(self._table)
        for unit in self._units:
            specs.setdefault(unit.spec.label.lower(), unit.spec)
        return [self._row(spec) for spec in specs.values()]

    # ...what they want...

    def _want(self, spec: Spec, order: Command) -> None:
        units = [unit for unit in self._of(spec.label) if unit.goal is Goal.RUNNING]
        if not any(unit.record for unit in self._of(spec.label)):
            archive_label(self._fleet.logs, spec.label)
        for index in range(1, spec.workers + 1):
            unit = next((unit for unit in units if unit.index == index), None)
            if unit is None:
                unit = WorkerSlot(spec, index)
                self._units.append(unit)
            elif unit.record is None:
                unit.spec = spec
                unit.ask_again()
            unit.patience = max(READY_LIMIT, order.timeout)
        self._loop.wake()

    async def _roll(self, specs: Sequence[Spec], order: Command) -> str:
        """
        Replace the units of each spec by new ones; return what went wrong.

        A worker that serves is let go only when its successor does; if that never happens, the
        successor is taken back.
        """
        await self._clear_ports(specs, order)
        if specs:
            await self._host.ready()
        self._refuse_at_the_end()
        old = {spec.label: self._wanted([spec.label]) for spec in specs}
        new = {}
        for spec in specs:
            for unit in old[spec.label]:
                if not unit.serves:
                    unit.stop(0.0, self._host.now())
            new[spec.label] = [WorkerSlot(spec, index) for index in range(1, spec.workers + 1)]
            self._units += new[spec.label]
        fresh = [unit for units in new.values() for unit in units]
        await self._loop.until(lambda: self._has_settled(fresh), order.timeout)
        errors = []
        for label, units in new.items():
            serving = [unit for unit in old[label] if unit.serves]
            if all(unit.serves for unit in units):
                self._leave(serving, order.drain)
            elif serving:
                reasons = (unit.reason(self._host.now()) for unit in units)
                why = next(filter(None, reasons), "not ready in time")
                errors.append(f"{label}: {why}; the worker that ran before goes on")
                self._leave(units, 0.0)
        return "\n".join(errors)

    async def _clear_ports(self, specs: Sequence[Spec], order: Command) -> None:
        """Stop whoever listens on a wanted port under another host: both cannot be had at once."""
        hosts = {spec.port: spec.host for spec in specs}
        in_the_way = [
            unit
            for unit in self._units
            if hosts.get(unit.spec.port, unit.spec.host) != unit.spec.host
        ]
        if in_the_way:
            self._leave(in_the_way, order.drain)
            await self._loop.until(
                lambda: not any(unit in self._units for unit in in_the_way),
                order.drain + AFTER_DRAIN,
            )

    def _leave(self, units: Iterable[WorkerSlot], drain: float) -> None:
        for unit in units:
            unit.stop(drain, self._host.now())
        self._loop.wake()

    def _plan(self, specs: Sequence[Spec]) -> list[tuple[str, str]]:
        plan = [(spec.label, self._change(spec)) for spec in specs]
        labels = {spec.label for spec in specs}
        gone = {unit.spec.label for unit in self._units if unit.goal is Goal.RUNNING} - labels
        return [*plan, *((label, "-") for label in sorted(gone))]

    def _change(self, spec: Spec) -> str:
        units = [unit for unit in self._wanted([spec.label]) if unit.spec.label == spec.label]
        if units:
            return "=" if all(unit.spec.digest == spec.digest for unit in units) else "~"
        # What the user has stopped stays stopped; only what was not there before is started.
        known = spec.label.lower() in self._unwanted.labels or spec.label.lower() in self._table
        return "=" if known else "+"

    def _note_unwanted(self, stopped: Iterable[str] = ()) -> None:
        known = self._unwanted.labels | set(self._table) | set(stopped)
        if self._table:
            known &= set(self._table)  # what is gone from the table is no entry any more
        wanted = {unit.spec.label.lower() for unit in self._units if unit.goal is Goal.RUNNING}
        self._unwanted.note(known - wanted)

    def forget(self) -> None:
        """Leave nothing behind of what was wanted: the fleet has been stopped as a whole."""
        self._unwanted.note(())

    # ...and who is meant.

    def _chosen(self, specs: Sequence[Spec], order: Command) -> list[Spec]:
        known = {spec.label.lower(): spec for spec in specs}
        if unknown := set(order.labels) - set(known):
            labels = ", ".join(spec.label for spec in specs)
            raise UsageError(f"not in the table: {', '.join(sorted(unknown))} (it holds {labels})")
        if not order.labels:
            self._table = {}
        chosen = [spec for key, spec in known.items() if not order.labels or key in order.labels]
        fresh = {spec.label.lower(): spec for spec in chosen}
        self._table = {key: fresh.get(key, self._table.get(key, known[key])) for key in known}
        return chosen

    def _check_ports(self, specs: Sequence[Spec]) -> None:
        """Refuse to share a port with a worker of another label: `reload` moves it."""
        holders = {unit.spec.port: unit.spec.label for unit in self._units if unit.record}
        for spec in specs:
            holder = holders.get(spec.port, spec.label)
            if holder.lower() != spec.label.lower():
                raise UsageError(f"port {spec.port} still serves {holder}\n  fix: ccproxy reload")

    @staticmethod
    def _is_chosen(unit: WorkerSlot, order: Command) -> bool:
        return not order.labels or unit.spec.label.lower() in order.labels

    def _lacks_workers(self, order: Command) -> bool:
        """Say whether an entry may have none; which there are is not known before the first."""
        asked = order.labels or self._table
        running = {unit.spec.label.lower() for unit in self._units if unit.record}
        return not asked or not running.issuperset(asked)

    def _of(self, label: str) -> list[WorkerSlot]:
        return [unit for unit in self._units if unit.spec.label.lower() == label.lower()]

    def _wanted(self, labels: Iterable[str]) -> list[WorkerSlot]:
        keys = {label.lower() for label in labels}
        return [
            unit
            for unit in self._units
            if unit.spec.label.lower() in keys and unit.goal is Goal.RUNNING
        ]

    def _has_settled(self, units: Iterable[WorkerSlot]) -> bool:
        now = self._host.now()
        phases = (unit.phase(now, self._host.port(unit)) for unit in units)
        return Phase.STARTING not in phases

    def _row(self, spec: Spec) -> Row:
        units, now = self._of(spec.label), self._host.now()
        return row_of(spec, units, port=self._host.port, now=now, logs=self._fleet.logs)

    async def _outcome(self, labels: Sequence[str]) -> Outcome:
        await self._refresh()
        rows = [self._row(self._table[label.lower()]) for label in labels]
        well = all(row.state in (Phase.READY, Phase.DEGRADED) for row in rows)
        return Outcome(ok=well, rows=rows)

    # One at a time, and nothing once the end has begun.

    async def _read(self, labels: Sequence[str], order: Command) -> list[Spec]:
        specs = await self._examine(labels, cwd=order.cwd)
        # Meanwhile a stop may have come: what was started now would outlive it.
        self._refuse_at_the_end()
        return specs

    def _refuse_at_the_end(self) -> None:
        if self.ending:
            raise Busy("busy: the supervisor is stopping\n  fix: try again when it is gone")

    @asynccontextmanager
    async def _in_turn(self, order: Command) -> AsyncIterator[None]:
        self._refuse_at_the_end()
        try:
            async with asyncio.timeout(TURN):
                await self._turn.acquire()
        except TimeoutError as error:
            seconds = math.ceil(self._host.now() - self._since)
            text = f"busy: `{self._holder}` is under way since {seconds} s"
            raise Busy(text) from error
        self._holder, self._since = order.command or f"ccproxy {order.op}", self._host.now()
        try:
            yield
        finally:
            self._turn.release()
