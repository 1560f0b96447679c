"""Scripted histories of a slot, with a manual clock and a host that records the actions."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ccproxy.errors import ConfigError, Mistake
from ccproxy.ipc.control_messages import KeyCounts, WorkerState
from ccproxy.supervisor.fleet.converge import settle, step
from ccproxy.supervisor.fleet.plan import Action, Goal, Phase, Port, StopSignal
from ccproxy.supervisor.fleet.worker_slot import ABORT_GRACE, DRAIN_GRACE, START_LIMIT, WorkerSlot
from ccproxy.supervisor.processes.identity import Identity
from ccproxy.supervisor.state.records import Spec, WorkerRecord

SPEC = Spec(label="Kimi", host="127.0.0.1", port=8081, env_file="envs/kimi.env")
READY = WorkerState(state="ready")


def record_of(pid: int, *, index: int = 1) -> WorkerRecord:
    identity = Identity(pid, 1.0, "boot")
    return WorkerRecord(
        identity=identity, nonce=f"nonce{pid}", control="c", index=index, spec=SPEC, home="/h"
    )


class ScriptedHost:
    """Reports to the slots like a real machine."""

    def __init__(self) -> None:
        self.clock = 1000.0
        self.port_state = Port.FREE
        self.can_bind = True
        self.can_spawn = True
        self.actions: list[str] = []
        self.slots_at_update: list[list[WorkerSlot]] = []
        self._pids = iter(range(1, 1000))

    def now(self) -> float:
        return self.clock

    def port(self, slot: WorkerSlot) -> Port:
        return self.port_state

    def next_try(self, now: float) -> float:
        return math.inf

    def update_ports(self, slots: list[WorkerSlot]) -> None:
        self.slots_at_update.append(list(slots))

    def prepare(self) -> None: ...

    async def prepared(self) -> None: ...

    def perform(self, action: Action, slot: WorkerSlot) -> None:
        self.actions.append(action.value)
        match action:
            case Action.BIND:
                self.port_state = Port.OURS if self.can_bind else Port.FOREIGN
            case Action.SPAWN if self.can_spawn:
                slot.spawned(record_of(next(self._pids), index=slot.index), self.clock)
            case Action.SPAWN:
                slot.could_not_spawn(self.clock, jitter=0.0, message="no more processes")
            case Action.DRAIN:
                slot.end_requested(StopSignal.DRAIN, self.clock + slot.drain_seconds + DRAIN_GRACE)
            case Action.ABORT:
                slot.end_requested(StopSignal.ABORT, self.clock + ABORT_GRACE)
            case Action.KILL:
                slot.end_requested(StopSignal.KILL, math.inf)
            case Action.REAP:
                slot.reap(self.clock, jitter=0.0)


class History:
    """One slot's life, as a sequence of events."""

    def __init__(self) -> None:
        self.host = ScriptedHost()
        self.slot = WorkerSlot(SPEC, 1)
        self.slots = [self.slot]

    def settles(self) -> str:
        """Run the loop until nothing changes, and return its actions."""
        settle(self.slots, self.host)
        actions, self.host.actions = self.host.actions, []
        return " ".join(actions)

    def passes(self, seconds: float) -> str:
        self.host.clock += seconds
        return self.settles()

    def exits(self, code: int | None = 1, output: str = "") -> str:
        self.slot.exited(code, output=output)
        return self.settles()

    def becomes_ready(self) -> str:
        self.slot.became_ready(self.host.clock)
        return self.settles()

    def stops(self, drain_seconds: float) -> str:
        self.slot.stop(drain_seconds, self.host.clock)
        return self.settles()

    def misses(self, probes: int) -> str:
        for _ in range(probes):
            self.slot.missed_probe()
        return self.settles()

    @property
    def phase(self) -> Phase:
        return self.slot.phase(self.host.clock, self.host.port_state)

    @property
    def reason(self) -> str:
        return self.slot.reason(self.host.clock)


@pytest.fixture
def history() -> History:
    return History()


@pytest.fixture
def running(history: History) -> History:
    history.settles()
    history.becomes_ready()
    return history


# Starts.


def test_a_slot_binds_its_port_then_spawns_and_becomes_ready(history: History) -> None:
    assert history.phase == "starting"
    assert history.settles() == "bind spawn"
    assert history.phase == "starting"
    assert history.becomes_ready() == ""
    assert (history.phase, history.reason) == ("ready", "")


def test_a_slot_waits_for_a_port_of_another_program(history: History) -> None:
    history.host.can_bind = False
    assert history.settles() == "bind"
    assert history.phase == "foreign"
    assert history.passes(1.0) == ""
    history.host.can_bind, history.host.port_state = True, Port.FREE
    assert history.settles() == "bind spawn"


def test_rejected_settings_are_retried_only_on_request(history: History) -> None:
    history.settles()
    history.slot.explained("PROVIDER_BASE_URL must be an http:// address")
    assert history.exits(78) == "reap"
    assert history.passes(10_000) == ""
    assert history.phase == "failed"
    assert history.reason == "PROVIDER_BASE_URL must be an http:// address"
    history.slot.retry()
    assert history.settles() == "spawn"


def test_every_reported_mistake_is_shown_with_its_file(history: History) -> None:
    history.settles()
    number = Mistake(file=Path("envs/kimi.env"), line=5, text="5 must be a word", fix="write five")
    text = Mistake(file=Path("x.env"), line=None, text="is not UTF-8 text")
    history.slot.explained(str(ConfigError([number, text])))
    history.exits(78)
    assert history.reason == (
        "envs/kimi.env:5: 5 must be a word; fix: write five; x.env: is not UTF-8 text"
    )


def test_a_worker_that_is_not_ready_in_time_is_aborted_killed_and_retried(
    history: History,
) -> None:
    history.settles()
    assert history.passes(START_LIMIT - 0.1) == ""
    assert history.passes(0.2) == "abort", "SIGABRT makes it write its stack"
    assert history.passes(ABORT_GRACE) == "kill"
    assert history.exits(-9, output="line 1\nline 2") == "reap"
    assert history.phase == "failed"
    assert history.slot.is_timed_out
    assert "not ready after 15 s" in history.reason
    assert history.passes(0.5) == "spawn"
    history.becomes_ready()
    assert (history.phase, history.reason) == ("ready", "")


def test_a_start_that_the_system_refuses_is_retried(history: History) -> None:
    history.host.can_spawn = False
    assert history.settles() == "bind spawn"
    expected = "failed once, next attempt in 1 s. Last message: no more processes"
    assert history.reason == expected
    history.host.can_spawn = True
    assert history.passes(0.5) == "spawn"


# Crashes.


def test_a_crashed_worker_keeps_its_port_and_restarts_after_half_a_second(running: History) -> None:
    assert running.exits(-9) == "reap"
    assert running.phase == "starting"
    assert running.host.port_state is Port.OURS
    assert running.passes(0.49) == ""
    assert running.passes(0.02) == "spawn"
    assert running.slot.record is not None
    assert running.slot.record.identity.pid == 2


def test_five_crashes_are_a_crash_loop_and_delays_grow_to_30_seconds(history: History) -> None:
    history.settles()
    delays = []
    for number in range(1, 9):
        history.exits()
        assert (history.phase == "crash-loop") is (number >= 5)
        delays.append(history.slot.retry_at - history.host.clock)
        assert history.passes(delays[-1]) == "spawn"
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_the_reason_of_a_crash_contains_count_next_attempt_and_last_message(
    history: History,
) -> None:
    history.settles()
    history.exits(output="Traceback\n  more\nValueError: no such model")
    history.passes(0.5)
    history.exits(output="Traceback\nValueError: no such model")
    text = "Last message: ValueError: no such model"
    assert history.reason == f"failed 2 times, next attempt in 1 s. {text}"
    history.passes(1.0)
    assert history.reason == f"failed 2 times. {text}"


def test_the_message_of_an_earlier_crash_is_not_shown_for_a_later_one(history: History) -> None:
    history.settles()
    history.exits(output="ValueError: first")
    history.passes(0.5)
    history.exits(-11)
    assert history.reason.endswith("Last message: killed by signal 11")


@pytest.mark.parametrize(
    ("code", "output", "message"),
    [
        pytest.param(-9, '{"event":"request.finished"}', "killed by signal 9", id="SIGKILL"),
        pytest.param(-11, "Fatal error\nExtension modules: x", "killed by signal 11", id="stack"),
        pytest.param(0, '{"event":"worker.stopped"}', "exited with code 0", id="kill PID"),
        pytest.param(None, '{"event":"request.finished"}', "exited", id="adopted"),
    ],
)
def test_a_log_line_is_not_shown_as_the_cause_of_an_exit(
    history: History, code: int | None, output: str, message: str
) -> None:
    history.settles()
    history.exits(code, output=output)
    assert history.reason.endswith(f"Last message: {message}")


@pytest.mark.parametrize(
    ("served", "failures"),
    [
        pytest.param(59.9, 3, id="less than a minute"),
        pytest.param(60.0, 1, id="a minute"),
    ],
)
def test_a_minute_of_service_resets_the_crash_count(
    history: History, served: float, failures: int
) -> None:
    history.settles()
    history.exits()
    history.passes(0.5)
    history.exits()
    history.passes(1.0)
    history.becomes_ready()
    history.passes(served)
    history.exits()
    assert history.slot.failures == failures


def test_a_minute_without_being_ready_does_not_reset_the_crash_count(history: History) -> None:
    history.slot.start_limit = math.inf
    history.settles()
    history.passes(100.0)
    history.exits()
    history.passes(0.5)
    history.passes(100.0)
    history.exits()
    assert history.slot.failures == 2


# Hangs.


def test_three_missed_probes_cause_a_stack_dump_and_a_restart(running: History) -> None:
    assert running.misses(2) == ""
    assert running.reason == "does not answer (2 probes missed)"
    assert running.misses(1) == "abort"
    assert running.passes(ABORT_GRACE) == "kill"
    assert running.exits(-9) == "reap"
    assert running.reason.endswith("stopped responding and was killed")
    assert running.passes(0.5) == "spawn"
    assert running.slot.misses == 0


def test_a_late_answer_clears_the_misses(running: History) -> None:
    running.misses(2)
    running.slot.answered(READY)
    assert (running.phase, running.reason) == ("ready", "")


# Stops.


def test_a_drain_ends_with_the_process(running: History) -> None:
    assert running.stops(30.0) == "drain"
    assert running.phase == "stopping"
    assert running.passes(20.0) == ""
    assert running.exits(0) == "reap"
    assert running.slots == []


def test_a_drain_that_takes_too_long_is_killed(running: History) -> None:
    assert running.stops(5.0) == "drain"
    assert running.passes(5.0) == ""
    assert running.passes(DRAIN_GRACE) == "kill"
    assert running.passes(100.0) == ""


def test_a_second_stop_can_only_shorten_the_drain(running: History) -> None:
    running.stops(30.0)
    assert running.stops(60.0) == ""
    assert running.stops(0.0) == "drain"
    assert running.passes(DRAIN_GRACE) == "kill"


def test_stopping_a_crashed_slot_ends_it_at_once(running: History) -> None:
    running.exits()
    assert running.stops(30.0) == ""
    assert running.slots == []


def test_the_exit_of_a_stopped_worker_is_not_a_crash(running: History) -> None:
    running.stops(30.0)
    running.exits(-15)
    assert running.slot.failures == 0


# Drains that the supervisor did not request.


def test_an_unrequested_drain_starts_a_successor_immediately(running: History) -> None:
    """After a SIGTERM from outside, the old worker finishes its streams and a new one accepts."""
    running.slot.began_drain()
    assert running.settles() == "spawn"
    old, successor = running.slots
    assert (old.goal, successor.goal) == (Goal.STOPPED, Goal.RUNNING)
    assert old.record is not None
    assert successor.record is not None
    assert old.record.identity != successor.record.identity
    assert running.exits(0) == "reap"
    assert running.slots == [successor]
    assert successor.failures == 0


def test_a_probe_reveals_the_drain_of_an_adopted_worker(history: History) -> None:
    history.slot.adopted(record_of(77), history.host.clock, READY)
    history.settles()
    history.slot.answered(WorkerState(state="draining"))
    assert history.settles() == "bind spawn"
    assert [slot.goal for slot in history.slots] == [Goal.STOPPED, Goal.RUNNING]


def test_an_unrequested_drain_that_takes_too_long_is_killed(running: History) -> None:
    running.slot.began_drain()
    running.settles()
    running.slots[1].became_ready(running.host.clock)
    assert running.passes(30.0 + DRAIN_GRACE) == "kill"


# Adoption.


def test_an_adopted_worker_follows_the_same_rules(history: History) -> None:
    history.slot.adopted(record_of(77), history.host.clock, READY)
    assert history.settles() == ""
    assert history.phase == "ready"
    assert history.exits(None) == "reap"
    assert history.passes(0.5) == "bind spawn"


def test_an_adopted_worker_that_drains_continues_to_drain(history: History) -> None:
    history.slot.adopted(record_of(77), history.host.clock, WorkerState(state="draining"))
    assert history.slot.goal is Goal.STOPPED
    assert history.settles() == ""
    assert history.passes(30.0 + DRAIN_GRACE) == "kill"


# States.


@pytest.mark.parametrize(
    ("state", "phase", "reason"),
    [
        pytest.param(WorkerState(keys=KeyCounts(ready=2, total=2)), "ready", "", id="all keys"),
        pytest.param(
            WorkerState(keys=KeyCounts(ready=1, total=3)), "degraded", "2 of 3 keys out", id="some"
        ),
        pytest.param(WorkerState(reason="disk full"), "degraded", "disk full", id="a reason"),
        pytest.param(WorkerState(), "ready", "", id="no keys reported"),
    ],
)
def test_a_reported_impairment_makes_a_worker_degraded(
    running: History, state: WorkerState, phase: str, reason: str
) -> None:
    running.slot.answered(state)
    assert (running.phase, running.reason) == (phase, reason)


# The loop.


def test_step_returns_its_actions(history: History) -> None:
    assert step(history.slots, history.host) == [(history.slot, Action.BIND)]
    assert step(history.slots, history.host) == [(history.slot, Action.SPAWN)]
    assert step(history.slots, history.host) == []


def test_the_loop_wakes_exactly_when_a_deadline_passes(running: History) -> None:
    now = running.host.clock
    assert running.slot.next_change(now) == math.inf
    running.exits()
    assert running.slot.next_change(now) == now + 0.5
    running.passes(0.5)
    assert running.slot.next_change(running.host.clock) == running.host.clock + START_LIMIT


def test_the_host_is_told_which_slots_still_need_ports(running: History) -> None:
    running.stops(1.0)
    running.exits(0)
    assert running.host.slots_at_update[-1] == []
