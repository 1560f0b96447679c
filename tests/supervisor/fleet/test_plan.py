"""The facts table: every situation that a unit can be in, what it is called and what is done."""

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
    Sent,
    WorkerFacts,
    next_action,
    phase_of,
    restart_delay,
)

RUN, STOP = Goal.RUNNING, Goal.STOPPED
NO, UNREADY, SERVING, ENDED = Life.NONE, Life.UNREADY, Life.SERVING, Life.ENDED
OURS, FREE, HELD, FOREIGN, BARRED = Port.OURS, Port.FREE, Port.HELD, Port.FOREIGN, Port.BARRED
DRAINED, ABORTED, KILLED = Sent.DRAIN, Sent.ABORT, Sent.KILL

# fmt: off
TABLE = [
    # the story                                      goal  life     port     more facts                               phase             action
    # From nothing to ready.
    ("a new unit binds its port first",              RUN,  NO,      FREE,    {},                                      Phase.STARTING,   Action.BIND),
    ("with the port, it is spawned",                 RUN,  NO,      OURS,    {},                                      Phase.STARTING,   Action.SPAWN),
    ("a spawned worker gets time",                   RUN,  UNREADY, OURS,    {},                                      Phase.STARTING,   Action.NOTHING),
    ("one that takes too long shows its stack",      RUN,  UNREADY, OURS,    {"late": True},                          Phase.STARTING,   Action.ABORT),
    ("a ready worker is left alone",                 RUN,  SERVING, OURS,    {},                                      Phase.READY,      Action.NOTHING),
    ("past crashes do not show while it serves",     RUN,  SERVING, OURS,    {"failures": 9},                         Phase.READY,      Action.NOTHING),
    ("an adopted worker may hold its port alone",    RUN,  SERVING, FREE,    {},                                      Phase.READY,      Action.NOTHING),
    ("one that ails serves, but not as it should",   RUN,  SERVING, OURS,    {"ailing": True},                        Phase.DEGRADED,   Action.NOTHING),
    # Ports that cannot be had.
    ("a stranger's port is not fought for",          RUN,  NO,      FOREIGN, {},                                      Phase.FOREIGN,    Action.NOTHING),
    ("a port that is not allowed is a failure",      RUN,  NO,      BARRED,  {},                                      Phase.FAILED,     Action.NOTHING),
    ("a leaving worker's port is waited for",        RUN,  NO,      HELD,    {},                                      Phase.STARTING,   Action.NOTHING),
    ("a stranger took the port of a crashed worker", RUN,  NO,      FOREIGN, {"failures": 1},                         Phase.FOREIGN,    Action.NOTHING),
    # Crashes.
    ("the dead are buried",                          RUN,  ENDED,   OURS,    {},                                      Phase.STARTING,   Action.BURY),
    ("the dead are buried when killed, too",         RUN,  ENDED,   OURS,    {"sent": KILLED},                        Phase.STARTING,   Action.BURY),
    ("a crashed worker rests",                       RUN,  NO,      OURS,    {"failures": 1, "rested": False},        Phase.STARTING,   Action.NOTHING),
    ("then it is started again",                     RUN,  NO,      OURS,    {"failures": 1},                         Phase.STARTING,   Action.SPAWN),
    ("four crashes are bad luck",                    RUN,  NO,      OURS,    {"failures": 4, "rested": False},        Phase.STARTING,   Action.NOTHING),
    ("five are a loop",                              RUN,  NO,      OURS,    {"failures": 5, "rested": False},        Phase.CRASH_LOOP, Action.NOTHING),
    ("a loop is tried for ever",                     RUN,  NO,      OURS,    {"failures": 50},                        Phase.CRASH_LOOP, Action.SPAWN),
    ("a loop shows also while it is tried",          RUN,  UNREADY, OURS,    {"failures": 5},                         Phase.CRASH_LOOP, Action.NOTHING),
    ("one never ready has failed, and is retried",   RUN,  NO,      OURS,    {"failures": 1, "never_ready": True},    Phase.FAILED,     Action.SPAWN),
    ("between the tries it has failed",              RUN,  NO,      OURS,    {"failures": 1, "never_ready": True,
                                                                              "rested": False},                       Phase.FAILED,     Action.NOTHING),
    ("wrong settings are not tried again",           RUN,  NO,      OURS,    {"refused": True},                       Phase.FAILED,     Action.NOTHING),
    ("nor is a port bound for them",                 RUN,  NO,      FREE,    {"refused": True},                       Phase.FAILED,     Action.NOTHING),
    # Hangs.
    ("one missed probe is a remark",                 RUN,  SERVING, OURS,    {"misses": 1},                           Phase.DEGRADED,   Action.NOTHING),
    ("two are, too",                                 RUN,  SERVING, OURS,    {"misses": 2},                           Phase.DEGRADED,   Action.NOTHING),
    ("three make it hung: it shows its stack",       RUN,  SERVING, OURS,    {"misses": 3},                           Phase.DEGRADED,   Action.ABORT),
    ("it has a moment for that",                     RUN,  SERVING, OURS,    {"misses": 3, "sent": ABORTED},          Phase.DEGRADED,   Action.NOTHING),
    ("then it is killed",                            RUN,  SERVING, OURS,    {"misses": 3, "sent": ABORTED,
                                                                              "late": True},                          Phase.DEGRADED,   Action.KILL),
    ("once",                                         RUN,  SERVING, OURS,    {"misses": 3, "sent": KILLED,
                                                                              "late": True},                          Phase.DEGRADED,   Action.NOTHING),
    # Stopping.
    ("what does not run is stopped",                 STOP, NO,      OURS,    {},                                      Phase.STOPPED,    Action.NOTHING),
    ("also where the port is a stranger's",          STOP, NO,      FOREIGN, {},                                      Phase.STOPPED,    Action.NOTHING),
    ("also what kept crashing",                      STOP, NO,      OURS,    {"failures": 7},                         Phase.STOPPED,    Action.NOTHING),
    ("a serving worker is drained",                  STOP, SERVING, OURS,    {},                                      Phase.STOPPING,   Action.DRAIN),
    ("one that is not ready yet, too",               STOP, UNREADY, OURS,    {},                                      Phase.STOPPING,   Action.DRAIN),
    ("a drain takes its time",                       STOP, SERVING, OURS,    {"sent": DRAINED},                       Phase.STOPPING,   Action.NOTHING),
    ("until it is over",                             STOP, SERVING, OURS,    {"sent": DRAINED, "late": True},         Phase.STOPPING,   Action.KILL),
    ("killed once is enough",                        STOP, SERVING, OURS,    {"sent": KILLED, "late": True},          Phase.STOPPING,   Action.NOTHING),
    ("a hung worker is not asked to drain",          STOP, SERVING, OURS,    {"misses": 3},                           Phase.STOPPING,   Action.KILL),
    ("one that hangs in its drain is killed",        STOP, SERVING, OURS,    {"misses": 3, "sent": DRAINED},          Phase.STOPPING,   Action.KILL),
    ("one that writes its stack may finish that",    STOP, SERVING, OURS,    {"misses": 3, "sent": ABORTED},          Phase.STOPPING,   Action.NOTHING),
    ("the dead are buried here, too",                STOP, ENDED,   OURS,    {"sent": DRAINED},                       Phase.STOPPING,   Action.BURY),
]
# fmt: on


@pytest.mark.parametrize(
    ("goal", "life", "port", "more", "phase", "action"),
    [pytest.param(*row[1:], id=row[0]) for row in TABLE],
)
def test_table(goal, life, port, more, phase, action):
    facts = WorkerFacts(life=life, port=port, **more)
    assert (phase_of(goal, facts), next_action(goal, facts)) == (phase, action)


EVERYTHING = [
    (goal, WorkerFacts(port=port, life=life, sent=sent, misses=misses, **dict(zip(names, flags, strict=True))))
    for names in [("late", "refused", "rested", "never_ready")]
    for goal, port, life, sent, misses in itertools.product(Goal, Port, Life, Sent, (0, 3))
    for flags in itertools.product((False, True), repeat=4)
]  # fmt: skip


def test_nothing_is_spawned_without_its_port_or_beside_a_living_process():
    spawned = [facts for goal, facts in EVERYTHING if next_action(goal, facts) is Action.SPAWN]
    assert spawned
    assert {(facts.port, facts.life) for facts in spawned} == {(Port.OURS, Life.NONE)}


def test_nothing_is_started_that_is_to_stop():
    taken = {next_action(goal, facts) for goal, facts in EVERYTHING if goal is STOP}
    assert taken == {Action.NOTHING, Action.DRAIN, Action.KILL, Action.BURY}


def test_only_a_living_process_is_signalled():
    signals = {Action.DRAIN, Action.ABORT, Action.KILL}
    signalled = {facts.life for goal, facts in EVERYTHING if next_action(goal, facts) in signals}
    assert signalled == {UNREADY, SERVING}


def test_a_killed_process_is_never_asked_again():
    asked = {next_action(goal, facts) for goal, facts in EVERYTHING if facts.sent is KILLED}
    assert asked.isdisjoint({Action.DRAIN, Action.ABORT, Action.KILL})


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 0.5), (2, 1), (3, 2), (4, 4), (5, 8), (6, 16), (7, 30), (8, 30), (10_000, 30)],
)
def test_restarts_are_put_off_by_doubling(failures, seconds):
    assert restart_delay(failures, 0.0) == seconds
    assert restart_delay(failures, -1.0) == pytest.approx(seconds * 0.8)
    assert restart_delay(failures, 1.0) == pytest.approx(seconds * 1.2)
