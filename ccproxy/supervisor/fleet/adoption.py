"""
Takes over the workers that an earlier supervisor of this fleet left running.

A process is a worker of this fleet if a record of this home names it with its start time and boot,
and the process on its control socket has the record's nonce. One that does not answer is ours if
the nonce is among its arguments; it is treated as hung. Every other process is left alone, even if
its pid is in a record.

Workers without a readable record are found by their control sockets, and, where these were removed
as well (`git clean -fdx`), by their arguments: a worker recreates its socket within a second. A
socket's report is accepted only from the process that listens on it, and only if that process was
started for this home with the nonce that it reports.

Adopted workers are not our children, so their exit codes are unknown: one that rejects its settings
(exit code 78) is started once more before that is detected.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ccproxy.config.fleet import Fleet
from ccproxy.ipc.control_messages import WorkerState
from ccproxy.ipc.socket_paths import worker_sockets
from ccproxy.supervisor.fleet.host import LocalHost
from ccproxy.supervisor.fleet.worker_slot import WorkerSlot
from ccproxy.supervisor.journal import Journal
from ccproxy.supervisor.processes.identity import command_line, identify, option_of
from ccproxy.supervisor.sockets.unix_socket import (
    NoAnswer,
    RunningWorker,
    announced_sockets,
    state_and_peer,
    take_listener,
    worker_of,
)
from ccproxy.supervisor.state.records import Spec, WorkerRecord, is_home

ANSWER_LIMIT = 2.0
"""Seconds that a worker may take to answer before it is considered hung."""

RESTORE_LIMIT = 3.0
"""Seconds that a worker may take to recreate its control socket."""

_POLL = 0.05


async def adopt_all(
    fleet: Fleet, slots: list[WorkerSlot], host: LocalHost, journal: Journal
) -> None:
    """Add a slot for every running worker, and take over its listening socket."""
    workers = await find_workers(fleet, host, journal)
    await asyncio.gather(*(_adopt_listener(worker, host, journal) for worker in workers))
    positions: set[tuple[str, int]] = set()
    # The newest serving worker counts: a successor that is not ready yet might never be.
    for worker in sorted(workers, key=lambda one: (one.is_ready, one.start), reverse=True):
        record = worker.record
        slot = WorkerSlot(record.spec, record.index)
        slot.adopted(record, host.now(), worker.state)
        slots.append(slot)
        host.watch(slot, record)
        journal("worker.adopted", label=record.spec.label, pid=record.identity.pid)
        position = (record.spec.label.lower(), record.index)
        if position in positions:  # the earlier supervisor was replacing one with the other
            slot.stop(slot.drain_seconds, host.now())
        positions.add(position)


async def find_workers(fleet: Fleet, host: LocalHost, journal: Journal) -> list[RunningWorker]:
    """Return the running workers; delete the records of dead workers and of other fleets."""
    records = list(_records_of_living(fleet, host, journal))
    answers = await asyncio.gather(
        *(asyncio.to_thread(worker_of, record, timeout=ANSWER_LIMIT) for record in records)
    )
    workers: dict[str, RunningWorker] = {}
    for record, worker in zip(records, answers, strict=True):
        if worker is None:
            host.records.remove(record)
            journal("record.foreign", level="warning", label=record.spec.label)
        else:
            workers[record.nonce] = worker
    recorded = {record.control for record in records}
    announced = {socket.path for socket in announced_sockets(fleet.home)}
    others = sorted(
        path
        for path in {*map(Path, worker_sockets(fleet.home)), *announced}
        if str(path) not in recorded
    )
    rebuilding = (asyncio.to_thread(_rebuild, path, fleet) for path in others)
    for worker in filter(None, await asyncio.gather(*rebuilding)):
        record = worker.record
        if record.nonce in workers:  # its record names another socket, but has more data
            record = replace(workers[record.nonce].record, control=record.control)
        workers[record.nonce] = RunningWorker(record, worker.state)
        journal("record.rebuilt", level="warning", label=record.spec.label)
        with contextlib.suppress(OSError):
            host.records.write(record)
    return list(workers.values())


def _records_of_living(fleet: Fleet, host: LocalHost, journal: Journal) -> Iterable[WorkerRecord]:
    for path, record in host.records.read():
        if record is None:
            journal("record.unreadable", level="warning", file=path.name)
            _delete(path)
        elif not record.identity.is_alive():
            journal("record.stale", label=record.spec.label, pid=record.identity.pid)
            _delete(path)
        elif not is_home(record.home, fleet.home):
            label, pid = record.spec.label, record.identity.pid
            journal("record.copied", level="warning", label=label, pid=pid, home=record.home)
            _delete(path)
        else:
            yield record


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):  # a folder, or not ours to delete; harmless
        path.unlink(missing_ok=True)


def _rebuild(path: Path, fleet: Fleet) -> RunningWorker | None:
    """Return the worker that listens on *path*; delete the socket of a dead one."""
    deadline = time.monotonic() + RESTORE_LIMIT
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(_POLL)
    try:
        state, peer = state_and_peer(path, timeout=ANSWER_LIMIT)
        arguments = command_line(state.pid)
        identity = identify(state.pid)
        if identity is None or os.getsid(state.pid) != state.pid or peer.uid != os.getuid():
            return None
        if peer.pid not in (state.pid, None) or state.nonce not in arguments:
            return None
        if not is_home(option_of(arguments, "--home"), fleet.home):
            return None
        spec = _spec_of(state, fleet, path)
        index = int(option_of(arguments, "--index") or 1)
    except NoAnswer as error:
        if isinstance(error.__cause__, ConnectionRefusedError):
            _delete(path)
        return None
    except (ValueError, OSError):
        return None
    record = WorkerRecord(
        identity=identity,
        nonce=state.nonce,
        control=str(path),
        index=index,
        spec=spec,
        home=str(fleet.home),
    )
    return RunningWorker(record, state)


def _spec_of(state: WorkerState, fleet: Fleet, control: Path) -> Spec:
    entry = fleet.entry(state.label)
    with take_listener(control, timeout=ANSWER_LIMIT) as listener:
        host = str(listener.getsockname()[0])
    env_file = str(entry.env_file) if entry else ""
    return Spec(label=state.label, host=host, port=state.port, env_file=env_file)


async def _adopt_listener(worker: RunningWorker, host: LocalHost, journal: Journal) -> None:
    spec, control = worker.record.spec, worker.record.control
    if not worker.is_ready:
        return
    try:
        listener = await asyncio.to_thread(take_listener, control, timeout=ANSWER_LIMIT)
    except NoAnswer as error:
        journal("listener.missing", level="warning", label=spec.label, reason=str(error))
        return
    if listener.getsockname()[1] != spec.port:
        listener.close()
        return
    host.listeners.adopt(spec.address, listener)
    journal("listener.adopted", label=spec.label, host=spec.host, port=spec.port)
