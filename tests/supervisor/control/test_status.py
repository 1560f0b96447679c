"""The row of an entry: one state from the states of its processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ccproxy.ipc.codec import from_fields
from ccproxy.ipc.control_messages import (
    KeyCounts,
    WorkerState,
)
from ccproxy.supervisor.control.status import Row, row_of, state_of
from ccproxy.supervisor.fleet.plan import Phase, Port
from ccproxy.supervisor.fleet.worker_slot import WorkerSlot
from ccproxy.supervisor.processes.identity import Identity, identify
from ccproxy.supervisor.state.records import Spec, WorkerRecord

SPEC = Spec(
    label="Kimi", host="127.0.0.1", port=8081, env_file="e", base_url="https://k", digest="d"
)


def slot(
    *,
    index: int = 1,
    identity: Identity | None = None,
    state: WorkerState | None = None,
    spec: Spec = SPEC,
) -> WorkerSlot:
    made = WorkerSlot(spec, index)
    identity = identity or Identity(4711, 1.0, "boot")
    record = WorkerRecord(
        identity=identity, nonce="n", control="c", index=index, spec=spec, home="/h"
    )
    made.adopted(record, 0.0, state)
    return made


def row(*slots: WorkerSlot, spec: Spec = SPEC) -> Row:
    return row_of(spec, slots, port=lambda _: Port.OURS, now=0.0, logs=Path("/l"))


@pytest.mark.parametrize(
    ("phases", "state"),
    [
        pytest.param([], "stopped", id="nothing"),
        pytest.param([(1, Phase.READY)], "ready", id="one"),
        pytest.param([(1, Phase.READY), (2, Phase.READY)], "ready", id="all"),
        pytest.param([(1, Phase.READY), (2, Phase.STARTING)], "degraded", id="one is starting"),
        pytest.param([(1, Phase.READY), (2, Phase.CRASH_LOOP)], "degraded", id="one crashes"),
        pytest.param([(1, Phase.READY), (2, Phase.DEGRADED)], "degraded", id="one is degraded"),
        pytest.param([(1, Phase.STARTING), (2, Phase.FAILED)], "failed", id="the worst counts"),
        pytest.param([(1, Phase.FOREIGN), (2, Phase.FOREIGN)], "foreign", id="no port"),
        pytest.param([(1, Phase.READY), (1, Phase.STARTING)], "ready", id="successor starts"),
        pytest.param([(1, Phase.FAILED), (1, Phase.READY)], "ready", id="successor failed"),
    ],
)
def test_an_entry_combines_the_states_of_its_slots(
    phases: list[tuple[int, Phase]], state: str
) -> None:
    assert state_of(phases) == state


def test_an_entry_with_stopping_workers_only_is_stopping() -> None:
    assert state_of([], is_stopping=True) == "stopping"


def test_without_slots_the_row_has_the_values_of_the_table() -> None:
    assert row() == Row(
        label="Kimi",
        port=8081,
        host="127.0.0.1",
        state="stopped",
        base_url="https://k",
        log="/l/Kimi.log",
    )


def test_a_row_adds_up_its_processes_and_shows_the_smallest_key_pool() -> None:
    me = identify(os.getpid())
    assert me is not None
    first = WorkerState(
        in_flight=3, connections=5, max_connections=10, keys=KeyCounts(ready=2, total=3)
    )
    second = WorkerState(
        in_flight=4, connections=1, max_connections=10, keys=KeyCounts(ready=1, total=3)
    )
    total = row(slot(identity=me, state=first), slot(index=2, identity=me, state=second))
    assert (total.in_flight, total.connections, total.max_connections) == (7, 6, 20)
    assert total.keys == {"ready": 1, "total": 3}
    assert (total.state, total.reason) == ("degraded", "1 of 3 keys out")
    assert total.pids == (me.pid, me.pid)
    assert total.uptime_s is not None
    assert total.uptime_s > 0


def test_a_ready_entry_has_no_reason_even_if_its_successor_failed() -> None:
    failed = WorkerSlot(SPEC, 1)
    failed.spawned(slot().record, 0.0)
    failed.explained("no such model")
    failed.exited(78)
    failed.reap(0.0, jitter=0.0)
    assert row(slot(), failed).reason is None
    assert row(failed).reason == "no such model"


def test_a_running_worker_is_shown_with_its_actual_address() -> None:
    old = Spec(label="Kimi", host="0.0.0.0", port=8099, env_file="e")
    output = row(slot(spec=old))
    assert (output.host, output.port) == ("0.0.0.0", 8099)


def test_a_stopping_worker_is_shown_with_its_pid() -> None:
    stopping = slot()
    stopping.stop(30.0, 0.0)
    assert (row(stopping).state, row(stopping).pids) == ("stopping", (4711,))


def test_unknown_fields_of_a_newer_row_are_ignored() -> None:
    outgoing = row(slot())
    assert from_fields(Row, outgoing.as_json() | {"tomorrow": 1}) == outgoing
