"""
Finds out how a fleet is doing where no supervisor answers: from the records and the workers.

Looks, and touches nothing: not a record, not a socket file, not a port is changed.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from ccproxy.config.fleet import Entry, Fleet
from ccproxy.logs import log_path
from ccproxy.supervisor.control.row import Row
from ccproxy.supervisor.control.status_rows import row_of
from ccproxy.supervisor.fleet.plan import Port
from ccproxy.supervisor.fleet.worker_slot import WorkerSlot
from ccproxy.supervisor.processes.identity import has_argument
from ccproxy.supervisor.sockets.listeners import name_holder_of
from ccproxy.supervisor.sockets.unix_socket import NoAnswer, ask, promised_sockets
from ccproxy.supervisor.state.records import (
    RecordFolder,
    WorkerRecord,
    identity_of,
    read_supervisor,
)

LIMIT = 0.3
"""Seconds that a worker may take to answer; all are asked at once."""


def survey(fleet: Fleet) -> list[Row]:
    """Return a row for every entry of the table and for every other worker that lives."""
    units: dict[str, list[WorkerSlot]] = {}
    for unit in _living(fleet.pids):
        units.setdefault(unit.spec.label.lower(), []).append(unit)
    rows = [
        row_of(group[0].spec, group, port=lambda _: Port.OURS, now=0.0, logs=fleet.logs)
        for group in units.values()
    ]
    rest = [entry for entry in fleet.entries if entry.label.lower() not in units]
    lost: dict[str, list[int]] = {}
    for one in promised_sockets(fleet.home) if rest else ():
        lost.setdefault(one.label, []).append(one.pid)
    return rows + [
        _row_of_lost(fleet, entry, lost[entry.label])
        if entry.label in lost
        else _row_without_worker(fleet, entry)
        for entry in rest
    ]


def supervisor_pid(fleet: Fleet) -> int | None:
    """Return the pid of a supervisor that lives (and does not answer)."""
    record = read_supervisor(fleet.pids)
    if record is None:
        return None
    try:
        identity = identity_of(record)
    except (KeyError, TypeError, ValueError):
        return None
    return identity.pid if identity.is_alive() else None


def _living(folder: Path) -> list[WorkerSlot]:
    records = [record for _, record in RecordFolder(folder).read() if record is not None]
    living = [record for record in records if record.identity.is_alive()]
    units: list[WorkerSlot] = []
    threads = [threading.Thread(target=_look, args=(record, units)) for record in living]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return units


def _look(record: WorkerRecord, units: list[WorkerSlot]) -> None:
    unit = WorkerSlot(record.spec, record.index)
    try:
        state = ask(record.control, {"op": "state"}, timeout=LIMIT)
    except NoAnswer:
        state = {}
    if not state and not has_argument(record.identity.pid, record.nonce):
        return  # a stranger under a number that was ours once
    if state and state.get("nonce") != record.nonce:
        return
    unit.adopted(record, 0.0, state)
    unit.misses = 0 if state else 1
    units.append(unit)


def _row_of_lost(fleet: Fleet, entry: Entry, pids: list[int]) -> Row:
    return Row(
        label=entry.label,
        port=entry.port,
        host="127.0.0.1",
        state="degraded",
        pids=tuple(sorted(pids)),
        log=str(log_path(fleet.logs, entry.label)),
        reason="runs, but its record was removed; ccproxy start finds it again",
    )


def _row_without_worker(fleet: Fleet, entry: Entry) -> Row:
    taken = _is_taken(entry.port)
    return Row(
        label=entry.label,
        port=entry.port,
        host="127.0.0.1",
        state="foreign" if taken else "stopped",
        log=str(log_path(fleet.logs, entry.label)),
        reason=name_holder_of(entry.port) if taken else None,
    )


def _is_taken(port: int) -> bool:
    with socket.socket() as connection:
        connection.settimeout(LIMIT)
        return connection.connect_ex(("127.0.0.1", port)) == 0
