"""
The status of a fleet whose supervisor does not answer, from the records and the workers.

It only reads: no record, socket or port is changed.
"""

from __future__ import annotations

import socket
import threading
from collections import defaultdict

from ccproxy.config.fleet import Entry, Fleet
from ccproxy.log_rotation import log_path
from ccproxy.supervisor.config_changes import ConfigChanges
from ccproxy.supervisor.control.status import Row, row_of
from ccproxy.supervisor.fleet.plan import Port
from ccproxy.supervisor.fleet.worker_slot import WorkerSlot
from ccproxy.supervisor.sockets.listeners import describe_port_holder
from ccproxy.supervisor.sockets.unix_socket import (
    AnnouncedSocket,
    announced_sockets,
    worker_of,
)
from ccproxy.supervisor.state.records import RecordFolder, WorkerRecord, read_supervisor

LIMIT = 0.3
"""Seconds that a worker may take to answer; all are queried in parallel."""


def offline_rows(fleet: Fleet) -> list[Row]:
    """Return a row for every entry of the table and for every other running worker."""
    slots: defaultdict[str, list[WorkerSlot]] = defaultdict(list)
    for slot in _running_slots(fleet):
        slots[slot.spec.label.lower()].append(slot)
    changes = ConfigChanges(fleet.file)
    rows = [
        row_of(
            group[0].spec,
            group,
            port=lambda _: Port.OURS,
            now=0.0,
            logs=fleet.logs,
            changed=changes.of(group[0].spec),
        )
        for group in slots.values()
    ]
    missing = [entry for entry in fleet.entries if entry.label.lower() not in slots]
    announced: defaultdict[str, list[AnnouncedSocket]] = defaultdict(list)
    for one in announced_sockets(fleet.home) if missing else ():
        announced[one.label].append(one)
    for entry in missing:
        if workers := announced.get(entry.label):
            rows.append(_row_without_record(fleet, entry, workers))
        else:
            rows.append(_idle_row(fleet, entry))
    return rows


def supervisor_pid(fleet: Fleet) -> int | None:
    """Return the pid of the running supervisor, whether or not it answers, or None."""
    record = read_supervisor(fleet.pids)
    return record.pid if record is not None and record.identity.is_alive() else None


def _running_slots(fleet: Fleet) -> list[WorkerSlot]:
    records = RecordFolder(fleet.pids).running()
    slots: list[WorkerSlot] = []
    threads = [threading.Thread(target=_ask, args=(record, slots)) for record in records]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return slots


def _ask(record: WorkerRecord, slots: list[WorkerSlot]) -> None:
    """Append the slot of the worker that *record* describes, unless its pid was reused."""
    worker = worker_of(record, timeout=LIMIT)
    if worker is None:
        return
    slot = WorkerSlot(record.spec, record.index)
    slot.adopted(record, 0.0, worker.state)
    if worker.state is None:
        slot.missed_probe()
    slots.append(slot)


def _row_without_record(fleet: Fleet, entry: Entry, workers: list[AnnouncedSocket]) -> Row:
    return Row(
        label=entry.label,
        port=entry.port,
        state="degraded",
        pids=tuple(sorted(worker.pid for worker in workers)),
        log=str(log_path(fleet.logs, entry.label)),
        reason="runs, but its record was removed; ccproxy start finds it again",
    )


def _idle_row(fleet: Fleet, entry: Entry) -> Row:
    is_taken = _is_taken(entry.port)
    return Row(
        label=entry.label,
        port=entry.port,
        state="foreign" if is_taken else "stopped",
        log=str(log_path(fleet.logs, entry.label)),
        reason=describe_port_holder(entry.port) if is_taken else None,
    )


def _is_taken(port: int) -> bool:
    with socket.socket() as connection:
        connection.settimeout(LIMIT)
        return connection.connect_ex(("127.0.0.1", port)) == 0
