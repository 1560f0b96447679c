"""The decision table: every situation of a slot, its phase and the next action."""

# ruff: noqa: E501 - a situation is one line

from __future__ import annotations

import itertools

import pytest

from ccproxy.supervisor.fleet.plan import (
    Action,
    Goal,
    Life,
    Phase,
    Port,
    StopSignal,
    WorkerFacts,
    next_action,
    phase_of,
    restart_delay,
)

RUN, STOP = Goal.RUNNING, Goal.STOPPED
NO, UNREADY, SERVING, EXITED = Life.NONE, Life.UNREADY, Life.SERVING, Life.EXITED
OURS, FREE, HELD, FOREIGN, REFUSED = Port.OURS, Port.FREE, Port.HELD, Port.FOREIGN, Port.REFUSED
DRAINED, ABORTED, KILLED = StopSignal.DRAIN, StopSignal.ABORT, StopSignal.KILL

# fmt: off
TABLE = [
    # situation                                      goal  life     port     more facts                               phase             action
    # From nothing to ready.
    ("the port is bound first",                       RUN,  NO,      FREE,    {},                                      Phase.STARTING,   Action.BIND),
    ("with the port, a worker is spawned",            RUN,  NO,      OURS,    {},                                      Phase.STARTING,   Action.SPAWN),
    ("a spawned worker gets time",                    RUN,  UNREADY, OURS,    {},                                      Phase.STARTING,   Action.NOTHING),
    ("an overdue start is aborted",                   RUN,  UNREADY, OURS,    {"overdue": True},                       Phase.STARTING,   Action.ABORT),
    ("a ready worker is left alone",                  RUN,  SERVING, OURS,    {},                                      Phase.READY,      Action.NOTHING),
    ("past crashes do not show while it serves",      RUN,  SERVING, OURS,    {"failures": 9},                         Phase.READY,      Action.NOTHING),
    ("an adopted worker may hold its port alone",     RUN,  SERVING, FREE,    {},                                      Phase.READY,      Action.NOTHING),
    ("an impaired worker is degraded",                RUN,  SERVING, OURS,    {"impaired": True},                      Phase.DEGRADED,   Action.NOTHING),
    # Unavailable ports.
    ("another program's port is waited for",          RUN,  NO,      FOREIGN, {},                                      Phase.FOREIGN,    Action.NOTHING),
    ("a refused port is a failure",                   RUN,  NO,      REFUSED, {},                                      Phase.FAILED,     Action.NOTHING),
    ("a stopping worker's port is waited for",        RUN,  NO,      HELD,    {},                                      Phase.STARTING,   Action.NOTHING),
    ("another program took the port after a crash",   RUN,  NO,      FOREIGN, {"failures": 1},                         Phase.FOREIGN,    Action.NOTHING),
    # Crashes.
    ("an exited worker is reaped",                    RUN,  EXITED,  OURS,    {},                                      Phase.STARTING,   Action.REAP),
    ("a killed worker is reaped",                     RUN,  EXITED,  OURS,    {"last_signal": KILLED},                 Phase.STARTING,   Action.REAP),
    ("a crashed worker waits",                        RUN,  NO,      OURS,    {"failures": 1, "may_retry": False},     Phase.STARTING,   Action.NOTHING),
    ("then it is started again",                      RUN,  NO,      OURS,    {"failures": 1},                         Phase.STARTING,   Action.SPAWN),
    ("four crashes are no loop",                      RUN,  NO,      OURS,    {"failures": 4, "may_retry": False},     Phase.STARTING,   Action.NOTHING),
    ("five are a loop",                               RUN,  NO,      OURS,    {"failures": 5, "may_retry": False},     Phase.CRASH_LOOP, Action.NOTHING),
    ("a loop is always retried",                       RUN,  NO,      OURS,    {"failures": 50},                        Phase.CRASH_LOOP, Action.SPAWN),
    ("a loop shows while it is retried",              RUN,  UNREADY, OURS,    {"failures": 5},                         Phase.CRASH_LOOP, Action.NOTHING),
    ("a timed-out start has failed, and is retried",  RUN,  NO,      OURS,    {"failures": 1, "timed_out": True},      Phase.FAILED,     Action.SPAWN),
    ("between the attempts it has failed",              RUN,  NO,      OURS,    {"failures": 1, "timed_out": True,
                                                                              "may_retry": False},                       Phase.FAILED,     Action.NOTHING),
    ("rejected settings are not retried",             RUN,  NO,      OURS,    {"rejected": True},                      Phase.FAILED,     Action.NOTHING),
    ("nor is a port bound for them",                  RUN,  NO,      FREE,    {"rejected": True},                      Phase.FAILED,     Action.NOTHING),
    # Hangs.
    ("one missed probe is degraded",                  RUN,  SERVING, OURS,    {"misses": 1},                           Phase.DEGRADED,   Action.NOTHING),
    ("two are degraded",                              RUN,  SERVING, OURS,    {"misses": 2},                           Phase.DEGRADED,   Action.NOTHING),
    ("three make it hung: it is aborted",             RUN,  SERVING, OURS,    {"misses": 3},                           Phase.DEGRADED,   Action.ABORT),
    ("it may write its stack",                        RUN,  SERVING, OURS,    {"misses": 3, "last_signal": ABORTED},   Phase.DEGRADED,   Action.NOTHING),
    ("then it is killed",                            RUN,  SERVING, OURS,    {"misses": 3, "last_signal": ABORTED,
                                                                              "overdue": True},                         Phase.DEGRADED,   Action.KILL),
    ("only once",                                         RUN,  SERVING, OURS,    {"misses": 3, "last_signal": KILLED,
                                                                              "overdue": True},                          Phase.DEGRADED,   Action.NOTHING),
    # A drain that was not requested.
    ("a draining worker is replaced",                 RUN,  SERVING, OURS,    {"draining": True},                      Phase.READY,      Action.REPLACE),
    ("one that drains as requested is not",           STOP, SERVING, OURS,    {"draining": True, "last_signal": DRAINED},     Phase.STOPPING,   Action.NOTHING),
    # Stopping.
    ("without a process it is stopped",               STOP, NO,      OURS,    {},                                      Phase.STOPPED,    Action.NOTHING),
    ("also with the port of another program",         STOP, NO,      FOREIGN, {},                                      Phase.STOPPED,    Action.NOTHING),
    ("also after crashes",                            STOP, NO,      OURS,    {"failures": 7},                         Phase.STOPPED,    Action.NOTHING),
    ("a serving worker is drained",                   STOP, SERVING, OURS,    {},                                      Phase.STOPPING,   Action.DRAIN),
    ("one that is not ready is drained",              STOP, UNREADY, OURS,    {},                                      Phase.STOPPING,   Action.DRAIN),
    ("a drain takes its time",                        STOP, SERVING, OURS,    {"last_signal": DRAINED},                Phase.STOPPING,   Action.NOTHING),
    ("an overdue drain is killed",                    STOP, SERVING, OURS,    {"last_signal": DRAINED, "overdue": True},      Phase.STOPPING,   Action.KILL),
    ("killed once is enough",                         STOP, SERVING, OURS,    {"last_signal": KILLED, "overdue": True},       Phase.STOPPING,   Action.NOTHING),
    ("a hung worker is not drained",                  STOP, SERVING, OURS,    {"misses": 3},                           Phase.STOPPING,   Action.KILL),
    ("one that hangs in its drain is killed",         STOP, SERVING, OURS,    {"misses": 3, "last_signal": DRAINED},   Phase.STOPPING,   Action.KILL),
    ("one that writes its stack may finish",          STOP, SERVING, OURS,    {"misses": 3, "last_signal": ABORTED},   Phase.STOPPING,   Action.NOTHING),
    ("a stopped worker is reaped",                    STOP, EXITED,  OURS,    {"last_signal": DRAINED},                Phase.STOPPING,   Action.REAP),
]
# fmt: on


@pytest.mark.parametrize(
    ("goal", "life", "port", "more", "phase", "action"),
    [pytest.param(*row[1:], id=row[0]) for row in TABLE],
)
def test_phase_and_action(goal, life, port, more, phase, action):
    facts = WorkerFacts(life=life, port=port, **more)
    assert (phase_of(goal, facts), next_action(goal, facts)) == (phase, action)


EVERYTHING = [
    (goal, WorkerFacts(port=port, life=life, last_signal=signal, misses=misses, **dict(zip(names, flags, strict=True))))
    for names in [("overdue", "rejected", "may_retry", "timed_out", "draining")]
    for goal, port, life, signal, misses in itertools.product(Goal, Port, Life, StopSignal, (0, 3))
    for flags in itertools.product((False, True), repeat=5)
]  # fmt: skip


def test_a_worker_is_spawned_only_with_its_port_and_without_another_process():
    spawned = [facts for goal, facts in EVERYTHING if next_action(goal, facts) is Action.SPAWN]
    assert spawned
    assert {(facts.port, facts.life) for facts in spawned} == {(Port.OURS, Life.NONE)}


def test_a_stopped_slot_starts_nothing():
    durations = {next_action(goal, facts) for goal, facts in EVERYTHING if goal is STOP}
    assert durations == {Action.NOTHING, Action.DRAIN, Action.KILL, Action.REAP}


def test_only_a_running_process_is_signalled():
    signals = {Action.DRAIN, Action.ABORT, Action.KILL}
    signalled = {facts.life for goal, facts in EVERYTHING if next_action(goal, facts) in signals}
    assert signalled == {UNREADY, SERVING}


def test_a_killed_process_is_not_signalled_again():
    request = {
        next_action(goal, facts) for goal, facts in EVERYTHING if facts.last_signal is KILLED
    }
    assert request.isdisjoint({Action.DRAIN, Action.ABORT, Action.KILL})


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 0.5), (2, 1), (3, 2), (4, 4), (5, 8), (6, 16), (7, 30), (8, 30), (10_000, 30)],
)
def test_restart_delays_double_up_to_thirty_seconds(failures, seconds):
    assert restart_delay(failures, 0.0) == seconds
    assert restart_delay(failures, -1.0) == pytest.approx(seconds * 0.8)
    assert restart_delay(failures, 1.0) == pytest.approx(seconds * 1.2)
