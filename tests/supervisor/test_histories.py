"""Scripted histories: a unit, a clock that is turned by hand, and a host that keeps notes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ccproxy.errors import ConfigError, Mistake
from ccproxy.supervisor.fleet.converge import settle, step
from ccproxy.supervisor.fleet.plan import Action, Goal, Phase, Port, Sent
from ccproxy.supervisor.fleet.worker_slot import ABORT_GRACE, DRAIN_GRACE, READY_LIMIT, WorkerSlot
from ccproxy.supervisor.processes.identity import Identity
from ccproxy.supervisor.state.records import Spec, WorkerRecord

SPEC = Spec(label="Kimi", host="127.0.0.1", port=8081, env_file="envs/kimi.env")


class ScriptedHost:
    """Does nothing but tell the units what a machine would have told them."""

    def __init__(self) -> None:
        self.clock = 1000.0
        self.has = Port.FREE
        self.can_bind = True
        self.can_spawn = True
        self.said: list[str] = []
        self.closed: list[list[WorkerSlot]] = []
        self._pids = iter(range(1, 1000))

    def now(self) -> float:
        return self.clock

    def port(self, unit: WorkerSlot) -> Port:
        return self.has

    def next_wake(self, now: float) -> float:
        return math.inf

    def tend_ports(self, units: list[WorkerSlot]) -> None:
        self.closed.append(list(units))

    def perform(self, action: Action, unit: WorkerSlot) -> None:
        self.said.append(action.value)
        match action:
            case Action.BIND:
                self.has = Port.OURS if self.can_bind else Port.FOREIGN
            case Action.SPAWN if self.can_spawn:
                pid = next(self._pids)
                identity = Identity(pid, 1.0, "boot")
                nonce = f"nonce{pid}"
                record = WorkerRecord(
                    identity=identity, nonce=nonce, control="c", index=unit.index, spec=unit.spec
                )
                unit.spawned(record, self.clock)
            case Action.SPAWN:
                unit.could_not_spawn(self.clock, jitter=0.0, words="no more processes")
            case Action.DRAIN:
                unit.sent(Sent.DRAIN, self.clock + unit.drain + DRAIN_GRACE)
            case Action.ABORT:
                unit.sent(Sent.ABORT, self.clock + ABORT_GRACE)
            case Action.KILL:
                unit.sent(Sent.KILL, math.inf)
            case Action.BURY:
                unit.bury(self.clock, jitter=0.0)


class History:
    """One unit's life, told in the order of its events."""

    def __init__(self) -> None:
        self.host = ScriptedHost()
        self.unit = WorkerSlot(SPEC, 1)
        self.units = [self.unit]

    def settles(self) -> str:
        """Let the loop act, and return what it did since the last time."""
        settle(self.units, self.host)
        said, self.host.said = self.host.said, []
        return " ".join(said)

    def passes(self, seconds: float) -> str:
        self.host.clock += seconds
        return self.settles()

    def crashes(self, code: int | None = 1, words: str = "") -> str:
        self.unit.ended(code, words=words)
        return self.settles()

    def becomes_ready(self) -> str:
        self.unit.became_ready(self.host.clock)
        return self.settles()

    @property
    def phase(self) -> str:
        return self.unit.phase(self.host.clock, self.host.has).value

    @property
    def reason(self) -> str:
        return self.unit.reason(self.host.clock)


@pytest.fixture
def history() -> History:
    return History()


@pytest.fixture
def running(history: History) -> History:
    history.settles()
    history.becomes_ready()
    return history


def test_a_good_start(history):
    assert history.phase == "starting"
    assert history.settles() == "bind spawn"
    assert history.phase == "starting"
    assert history.becomes_ready() == ""
    assert (history.phase, history.reason) == ("ready", "")


def test_a_stranger_on_the_port_and_its_leaving(history):
    history.host.can_bind = False
    assert history.settles() == "bind"
    assert history.phase == "foreign"
    assert history.passes(1.0) == ""
    history.host.can_bind, history.host.has = True, Port.FREE
    assert history.settles() == "bind spawn"


def test_a_crash_keeps_the_port_and_comes_back_after_half_a_second(running):
    assert running.crashes(-9) == "bury"
    assert running.phase == "starting"
    assert running.host.has is Port.OURS
    assert running.passes(0.49) == ""
    assert running.passes(0.02) == "spawn"
    assert running.unit.record.identity.pid == 2


def test_a_crash_loop_is_named_after_five_and_put_off_up_to_30_s(history):
    history.settles()
    delays = []
    for number in range(1, 9):
        history.crashes()
        assert (history.phase == "crash-loop") is (number >= 5)
        delays.append(history.unit.rest_until - history.host.clock)
        assert history.passes(delays[-1]) == "spawn"
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_loop_says_how_often_when_next_and_the_last_words(history):
    history.settles()
    history.crashes(words="Traceback\n  more\nValueError: no such model")
    history.passes(0.5)
    history.crashes(words="Traceback\nValueError: no such model")
    expected = "failed 2 times, next try in 1 s. Last words: ValueError: no such model"
    assert history.reason == expected
    history.passes(1.0)
    assert history.reason == "failed 2 times. Last words: ValueError: no such model"


def test_words_of_an_earlier_crash_are_not_put_into_a_later_ones_mouth(history):
    history.settles()
    history.crashes(words="ValueError: first")
    history.passes(0.5)
    history.crashes(-11)
    assert history.reason.endswith("Last words: killed by signal 11")


def test_every_mistake_that_it_told_is_shown_with_its_place(history):
    history.settles()
    number = Mistake(file=Path("envs/kimi.env"), line=5, text="5 must be a word", fix="write five")
    text = Mistake(file=Path("x.env"), line=None, text="is not UTF-8 text")
    history.unit.said(str(ConfigError([number, text])))
    history.crashes(78)
    assert history.reason == (
        "envs/kimi.env:5: 5 must be a word; fix: write five; x.env: is not UTF-8 text"
    )


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        pytest.param(-9, '{"event":"request.finished"}', "killed by signal 9", id="SIGKILL"),
        pytest.param(-11, "Fatal error\nExtension modules: x", "killed by signal 11", id="stack"),
        pytest.param(0, '{"event":"worker.stopped"}', "exited with code 0", id="kill PID"),
        pytest.param(None, '{"event":"request.finished"}', "ended", id="an adopted one"),
    ],
)
def test_what_it_logged_last_is_not_why_it_ended(history, code, words, said):
    history.settles()
    history.crashes(code, words=words)
    assert history.reason.endswith(f"Last words: {said}")


@pytest.mark.parametrize(
    ("served", "failures"),
    [
        pytest.param(59.9, 3, id="a minute is not over: the crash adds up"),
        pytest.param(60.0, 1, id="after a minute of health earlier crashes are forgiven"),
    ],
)
def test_forgiveness(history, served, failures):
    history.settles()
    history.crashes()
    history.passes(0.5)
    history.crashes()
    history.passes(1.0)
    history.becomes_ready()
    history.passes(served)
    history.crashes()
    assert history.unit.failures == failures


def test_being_up_without_being_ready_is_no_health(history):
    history.settles()
    history.unit.deadline = math.inf
    history.passes(100.0)
    history.crashes()
    history.passes(0.5)
    history.unit.deadline = math.inf
    history.passes(100.0)
    history.crashes()
    assert history.unit.failures == 2


def test_wrong_settings_are_not_tried_again_until_somebody_asks(history):
    history.settles()
    history.unit.said("PROVIDER_BASE_URL must be an http:// address")
    assert history.crashes(78) == "bury"
    assert history.passes(10_000) == ""
    assert history.phase == "failed"
    assert history.reason == "PROVIDER_BASE_URL must be an http:// address"
    history.unit.ask_again()
    assert history.settles() == "spawn"


def test_a_worker_that_never_gets_ready_is_killed_and_tried_again(history):
    history.settles()
    assert history.passes(READY_LIMIT - 0.1) == ""
    assert history.passes(0.2) == "abort", "its stack shows where it hangs"
    assert history.passes(ABORT_GRACE) == "kill"
    assert history.crashes(-9, words="line 1\nline 2") == "bury"
    assert history.phase == "failed"
    assert history.unit.never_ready
    assert "not ready after 15 s" in history.reason
    assert history.passes(0.5) == "spawn"
    history.becomes_ready()
    assert (history.phase, history.reason) == ("ready", "")


def test_a_system_without_processes_to_spare_is_tried_again(history):
    history.host.can_spawn = False
    assert history.settles() == "bind spawn"
    assert history.reason == "failed once, next try in 1 s. Last words: no more processes"
    history.host.can_spawn = True
    assert history.passes(0.5) == "spawn"


def test_a_hang_ends_with_a_stack_and_a_restart(running):
    running.unit.misses = 2
    assert running.settles() == ""
    assert running.reason == "does not answer (2 probes missed)"
    running.unit.misses = 3
    assert running.settles() == "abort"
    assert running.passes(ABORT_GRACE) == "kill"
    assert running.crashes(-9) == "bury"
    assert running.reason.endswith("did not answer any more and was ended")
    assert running.passes(0.5) == "spawn"
    assert running.unit.misses == 0


def test_a_late_answer_clears_the_misses(running):
    running.unit.misses = 2
    running.unit.answered({"state": "ready"})
    assert (running.phase, running.reason) == ("ready", "")


def test_a_drain_that_works(running):
    running.unit.stop(30.0, running.host.clock)
    assert running.settles() == "drain"
    assert running.phase == "stopping"
    assert running.passes(20.0) == ""
    assert running.crashes(0) == "bury"
    assert running.units == []


def test_a_drain_that_does_not_ends_with_kill(running):
    running.unit.stop(5.0, running.host.clock)
    assert running.settles() == "drain"
    assert running.passes(5.0) == ""
    assert running.passes(DRAIN_GRACE) == "kill"
    assert running.passes(100.0) == ""


def test_a_second_stop_hurries_and_never_slows_down(running):
    running.unit.stop(30.0, running.host.clock)
    running.settles()
    running.unit.stop(60.0, running.host.clock)
    assert running.settles() == ""
    running.unit.stop(0.0, running.host.clock)
    assert running.settles() == "drain"
    assert running.passes(DRAIN_GRACE) == "kill"


def test_stopping_what_rests_after_a_crash_ends_it_at_once(running):
    running.crashes()
    running.unit.stop(30.0, running.host.clock)
    assert running.settles() == ""
    assert running.units == []


def test_a_worker_that_was_stopped_did_not_crash(running):
    running.unit.stop(30.0, running.host.clock)
    running.settles()
    running.crashes(-15)
    assert running.unit.failures == 0


def test_an_adopted_worker_is_served_by_the_same_rules(history):
    record = WorkerRecord(
        identity=Identity(77, 5.0, "boot"), nonce="n", control="c", index=1, spec=SPEC
    )
    history.unit.adopted(record, history.host.clock, {"state": "ready"})
    assert history.settles() == ""
    assert history.phase == "ready"
    assert history.crashes(None) == "bury"
    assert history.passes(0.5) == "bind spawn"


def test_an_adopted_worker_that_drains_goes_on_draining(history):
    record = WorkerRecord(
        identity=Identity(77, 5.0, "boot"), nonce="n", control="c", index=1, spec=SPEC
    )
    history.unit.adopted(record, history.host.clock, {"state": "draining"})
    assert history.unit.goal is Goal.STOPPED
    assert history.settles() == ""
    assert history.passes(30.0 + DRAIN_GRACE) == "kill"


@pytest.mark.parametrize(
    ("state", "phase", "reason"),
    [
        pytest.param({"keys": {"ready": 2, "total": 2}}, "ready", "", id="all keys"),
        pytest.param({"keys": {"ready": 1, "total": 3}}, "degraded", "2 of 3 keys out", id="some"),
        pytest.param({"reason": "disk full"}, "degraded", "disk full", id="its own words"),
        pytest.param({"keys": {}}, "ready", "", id="no keys told"),
    ],
)
def test_what_a_worker_tells_of_itself(running, state, phase, reason):
    running.unit.answered(state)
    assert (running.phase, running.reason) == (phase, reason)


def test_step_tells_what_it_did(history):
    assert step(history.units, history.host) == [(history.unit, Action.BIND)]
    assert step(history.units, history.host) == [(history.unit, Action.SPAWN)]
    assert step(history.units, history.host) == []


def test_time_wakes_the_loop_exactly_when_it_changes_a_fact(running):
    now = running.host.clock
    assert running.unit.next_wake(now) == math.inf
    running.crashes()
    assert running.unit.next_wake(now) == now + 0.5
    running.passes(0.5)
    assert running.unit.next_wake(running.host.clock) == running.host.clock + READY_LIMIT


def test_the_ports_of_the_gone_are_offered_for_closing(running):
    running.unit.stop(1.0, running.host.clock)
    running.settles()
    running.crashes(0)
    assert running.host.closed[-1] == []


def test_phase_words_are_those_of_status():
    words = "ready starting degraded crash-loop stopping stopped failed foreign"
    assert {phase.value for phase in Phase} == set(words.split())
