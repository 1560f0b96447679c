"""
How a supervisor takes over what it finds running.

A worker is ours if its record names a process of this boot that was started at the very moment
that the record says, and if what answers at its control socket knows the record's nonce. One
that does not answer is ours if the nonce stands among its arguments (it hangs, and will be dealt
with as such). Whatever else runs under a recorded pid is a stranger and is never touched.

Workers that nothing readable is written about are found by their control sockets. Where these were
removed as well (`git clean -fdx`), their arguments say where they are to be: a worker makes its
socket anew within a second. What a socket says about itself is believed only of the very process
that listens there, and only if that was started with the nonce that it tells.

Not our children, so how they end stays unknown: one that calls its settings wrong (exit code 78)
is started once more, by us, before that is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ccproxy.config.fleet import Fleet
from ccproxy.supervisor.fleet.host import LocalHost
from ccproxy.supervisor.fleet.worker_slot import WorkerSlot
from ccproxy.supervisor.journal import Journal
from ccproxy.supervisor.processes.identity import has_argument, identify
from ccproxy.supervisor.sockets.unix_socket import (
    NoAnswer,
    ask,
    ask_who,
    promised_sockets,
    take_listener,
    worker_sockets,
)
from ccproxy.supervisor.state.records import Spec, WorkerRecord

PATIENCE = 2.0
"""Seconds that a worker may take to answer before it is taken for hung."""

RETURN = 3.0
"""Seconds that a worker may take to make its control socket anew."""

_POLL = 0.05


@dataclass(frozen=True, slots=True)
class Found:
    """A living worker of ours; an empty state says that it does not answer."""

    record: WorkerRecord
    state: dict[str, Any]


async def adopt_all(
    fleet: Fleet, units: list[WorkerSlot], host: LocalHost, journal: Journal
) -> None:
    """Make a unit of every worker that runs, and take over its listening socket."""
    found = await find_workers(fleet, host, journal)
    await asyncio.gather(*(_adopt_listener(one, host, journal) for one in found))
    newest: set[tuple[str, int]] = set()
    for one in sorted(found, key=lambda one: one.record.identity.start, reverse=True):
        record = one.record
        unit = WorkerSlot(record.spec, record.index)
        unit.adopted(record, host.now(), one.state)
        units.append(unit)
        host.adopt(unit, record)
        journal("worker.adopted", label=record.spec.label, pid=record.identity.pid)
        place = (record.spec.label.lower(), record.index)
        if place in newest:  # its successor was started already
            unit.stop(unit.drain, host.now())
        newest.add(place)


async def find_workers(fleet: Fleet, host: LocalHost, journal: Journal) -> list[Found]:
    """Find our living workers, and clear away what is written about dead ones."""
    records = list(_living_records(host, journal))
    asked = await asyncio.gather(*(_ask(record) for record in records))
    found: dict[str, Found] = {}
    for record, one in zip(records, asked, strict=True):
        if one is None:
            host.records.remove(record)
            journal("record.foreign", level="warning", label=record.spec.label)
        else:
            found[record.nonce] = one
    known = {record.control for record in records}
    promised = (one.path for one in promised_sockets(fleet.home))
    sockets = {*worker_sockets(fleet.home), *promised}
    strays = [path for path in sorted(sockets) if str(path) not in known]
    rebuilding = (asyncio.to_thread(_rebuild, path, fleet) for path in strays)
    for rebuilt in await asyncio.gather(*rebuilding):
        if rebuilt is not None:
            one = _completed(rebuilt, found.get(rebuilt.record.nonce))
            found[one.record.nonce] = one
            journal("record.rebuilt", level="warning", label=one.record.spec.label)
            with contextlib.suppress(OSError):
                host.records.write(one.record)
    return list(found.values())


def _completed(rebuilt: Found, known: Found | None) -> Found:
    """Return the one worker that was found by its socket and by a record of another socket."""
    if known is None:
        return rebuilt
    return Found(replace(known.record, control=rebuilt.record.control), rebuilt.state)


def _living_records(host: LocalHost, journal: Journal) -> Iterable[WorkerRecord]:
    for path, record in host.records.read():
        if record is None:
            journal("record.unreadable", level="warning", file=path.name)
            _clear(path)
        elif record.identity.is_alive():
            yield record
        else:
            journal("record.stale", label=record.spec.label, pid=record.identity.pid)
            _clear(path)


def _clear(path: Path) -> None:
    with contextlib.suppress(OSError):  # a folder, or not ours to remove: it is in nobody's way
        path.unlink(missing_ok=True)


async def _ask(record: WorkerRecord) -> Found | None:
    """Return the worker of *record*; None if somebody else answers in its place."""
    try:
        state = await asyncio.to_thread(ask, record.control, {"op": "state"}, timeout=PATIENCE)
    except NoAnswer:
        ours = has_argument(record.identity.pid, record.nonce)
        return Found(record, {}) if ours else None
    return Found(record, state) if state.get("nonce") == record.nonce else None


def _rebuild(path: Path, fleet: Fleet) -> Found | None:
    """Read from a control socket what its lost record said; a dead socket is removed."""
    until = time.monotonic() + RETURN
    while not path.exists() and time.monotonic() < until:
        time.sleep(_POLL)
    try:
        state, peer = ask_who(path, timeout=PATIENCE)
        label, pid, nonce = str(state["label"]), int(state["pid"]), str(state["nonce"])
        identity = identify(pid)
        if identity is None or os.getsid(pid) != pid or peer.uid != os.getuid():
            return None
        if peer.pid not in (pid, None) or not has_argument(pid, nonce):
            return None
        entry = fleet.entry(label)
        with take_listener(path, timeout=PATIENCE) as listener:
            host = listener.getsockname()[0]
        spec = Spec(
            label=label,
            host=host,
            port=int(state["port"]),
            env_file=str(entry.env_file) if entry else "",
        )
        # The name is <LABEL>.<index>.<nonce>.sock.
        index = int(path.name.split(".")[-3])
    except NoAnswer as error:
        if isinstance(error.__cause__, ConnectionRefusedError):
            _clear(path)
        return None
    except (KeyError, TypeError, ValueError, IndexError, OSError):
        return None
    record = WorkerRecord(identity=identity, nonce=nonce, control=str(path), index=index, spec=spec)
    return Found(record, state)


async def _adopt_listener(one: Found, host: LocalHost, journal: Journal) -> None:
    spec = one.record.spec
    if not one.state or one.state.get("state") == "draining":
        return
    try:
        listener = await asyncio.to_thread(take_listener, one.record.control, timeout=PATIENCE)
    except NoAnswer as error:
        journal("listener.lost", level="warning", label=spec.label, reason=str(error))
        return
    if listener.getsockname()[1] != spec.port:
        listener.close()
        return
    host.listeners.adopt(spec.address, listener)
    journal("listener.adopted", label=spec.label, host=spec.host, port=spec.port)
