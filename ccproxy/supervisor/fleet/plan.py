"""
WorkerFacts -> Phase -> Action: what a worker's position is in, and what is done about it.

Rules:

- A phase is read off facts, never stored: a stored "running" lies after a kill -9.
- Whatever is dead is buried first, whatever the goal: burying counts the crash and reaps.
- Nothing is spawned before its port is ours, so that a crash never refuses a connection.
- SIGTERM (the drain) comes before SIGKILL; SIGABRT before it where a worker hangs or does not
  become ready, for its stack.
- A worker that called its settings wrong is not started again before somebody asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
SPREAD = 0.2
"""Restarts are put off by 0.5 s, doubling to 30 s, each 20 % more or less: ten workers that die
together do not come back together."""

CRASHES_IN_A_LOOP = 5
"""So many crashes in a row are called a crash loop."""

HEALTHY_AFTER = 60.0
"""Seconds of service after which earlier crashes are forgiven."""

MISSES_OF_THE_HUNG = 3
"""So many unanswered probes in a row make a worker a hung one."""


class Goal(Enum):
    """What is wanted of a unit."""

    RUNNING = "running"
    STOPPED = "stopped"


class Phase(StrEnum):
    """What a unit is in; also the words of `status`."""

    READY = "ready"
    STARTING = "starting"
    DEGRADED = "degraded"
    CRASH_LOOP = "crash-loop"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    FOREIGN = "foreign"


class Action(Enum):
    """The next step towards the goal."""

    NOTHING = "nothing"
    BIND = "bind"
    SPAWN = "spawn"
    DRAIN = "drain"
    ABORT = "abort"
    KILL = "kill"
    BURY = "bury"


class Port(Enum):
    """Who has the unit's port."""

    FREE = "free"
    """Not bound by us, and it is time to try."""
    OURS = "ours"
    FOREIGN = "foreign"
    """Somebody else has it, and it is not yet time to try again."""
    HELD = "held"
    """A worker of ours that is on its way out still has it."""
    BARRED = "barred"
    """The system does not let us have it (no permission, no such address); not yet time."""


class Life(Enum):
    """How far the unit's process has come."""

    NONE = "none"
    UNREADY = "unready"
    SERVING = "serving"
    ENDED = "ended"


class Sent(Enum):
    """The strongest thing that the process was asked."""

    NOTHING = "nothing"
    DRAIN = "drain"
    ABORT = "abort"
    KILL = "kill"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFacts:
    """What is known of a unit at one moment."""

    port: Port = Port.OURS
    life: Life = Life.NONE
    sent: Sent = Sent.NOTHING
    late: bool = False
    """What is waited for (readiness, the end of a drain, death after SIGABRT) is overdue."""
    misses: int = 0
    """Probes in a row that were not answered."""
    ailing: bool = False
    """The worker answers, but says that it cannot serve as it should."""
    failures: int = 0
    """Crashes in a row."""
    rested: bool = True
    """The delay after the last crash is over."""
    refused: bool = False
    """The worker called its settings wrong (exit code 78); there is no use in trying again."""
    never_ready: bool = False
    """The last process did not become ready in time."""


def next_action(goal: Goal, facts: WorkerFacts) -> Action:
    """Decide one step towards *goal*."""
    match goal, facts.life, facts.sent:
        case _, Life.ENDED, _:
            return Action.BURY
        case Goal.RUNNING, Life.NONE, _:
            return _revival(facts)
        case Goal.STOPPED, Life.NONE, _:
            return Action.NOTHING
        case _, _, Sent.KILL:
            return Action.NOTHING
        case _, _, Sent.ABORT:
            return Action.KILL if facts.late else Action.NOTHING
        case Goal.STOPPED, _, Sent.NOTHING:
            return Action.KILL if _is_hung(facts) else Action.DRAIN
        case _, _, Sent.DRAIN:
            return Action.KILL if facts.late or _is_hung(facts) else Action.NOTHING
        case Goal.RUNNING, Life.UNREADY, _:
            return Action.ABORT if facts.late else Action.NOTHING
        case _:
            return Action.ABORT if _is_hung(facts) else Action.NOTHING


def phase_of(goal: Goal, facts: WorkerFacts) -> Phase:
    """Name what *facts* amount to."""
    match goal, facts.life:
        case Goal.STOPPED, Life.NONE:
            return Phase.STOPPED
        case Goal.STOPPED, _:
            return Phase.STOPPING
        case Goal.RUNNING, Life.SERVING if facts.sent is Sent.NOTHING:
            return Phase.DEGRADED if facts.ailing or facts.misses else Phase.READY
        case Goal.RUNNING, Life.SERVING:
            return Phase.DEGRADED
        case _ if facts.refused:
            return Phase.FAILED
        case Goal.RUNNING, Life.NONE if facts.port is Port.FOREIGN:
            return Phase.FOREIGN
        case Goal.RUNNING, Life.NONE if facts.port is Port.BARRED:
            return Phase.FAILED
        case _ if facts.failures >= CRASHES_IN_A_LOOP:
            return Phase.CRASH_LOOP
        case Goal.RUNNING, Life.NONE if facts.never_ready:
            return Phase.FAILED
        case _:
            return Phase.STARTING


def restart_delay(failures: int, jitter: float) -> float:
    """Return the seconds before the start after so many *failures*; *jitter* is from -1 to 1."""
    doubled = FIRST_DELAY * 2.0 ** min(failures - 1, 16)
    return min(doubled, LONGEST_DELAY) * (1 + SPREAD * jitter)


def _revival(facts: WorkerFacts) -> Action:
    """Decide what brings a unit without a process to life."""
    if facts.refused or not facts.rested:
        return Action.NOTHING
    match facts.port:
        case Port.OURS:
            return Action.SPAWN
        case Port.FREE:
            return Action.BIND
        case _:
            return Action.NOTHING


def _is_hung(facts: WorkerFacts) -> bool:
    return facts.misses >= MISSES_OF_THE_HUNG
