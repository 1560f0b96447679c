"""
Facts -> phase -> action: the state of a worker slot, and what to do about it.

Rules:

- A phase is derived from facts and never stored: a stored "running" is wrong after a kill -9.
- An exited process is reaped first, regardless of the goal: this counts the crash.
- A worker is started only when its port is bound, so that no connection is refused after a crash.
- SIGTERM (the drain) is sent before SIGKILL. A worker that hangs or does not become ready gets
  SIGABRT first, to write its stack.
- A worker that drains unasked (after an external SIGTERM) is replaced at once.
- A worker that rejects its settings is not restarted until the user requests it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

FIRST_DELAY = 0.5
MAX_DELAY = 30.0
JITTER = 0.2
"""Restarts are delayed by 0.5 s, doubling up to 30 s, each varied by 20 % so that ten workers
that crash together do not restart together."""

CRASH_LOOP_FAILURES = 5
"""Crashes in a row that constitute a crash loop."""

HEALTHY_SECONDS = 60.0
"""Seconds of service after which earlier crashes no longer count."""

HUNG_PROBES = 3
"""Unanswered probes in a row after which a worker is considered hung."""


class Goal(Enum):
    """The desired state of a slot."""

    RUNNING = "running"
    STOPPED = "stopped"


class Phase(StrEnum):
    """The present state of a slot, as `status` shows it."""

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
    REPLACE = "replace"
    DRAIN = "drain"
    ABORT = "abort"
    KILL = "kill"
    REAP = "reap"


class Port(Enum):
    """The state of the slot's port."""

    FREE = "free"
    """Not bound by us; ready for an attempt."""
    OURS = "ours"
    FOREIGN = "foreign"
    """Bound by another program; not yet due for another attempt."""
    HELD = "held"
    """Bound by a worker of this fleet that is stopping."""
    REFUSED = "refused"
    """Refused by the system (no permission, no such address); not yet due for another attempt."""


class Life(Enum):
    """The stage of the slot's process."""

    NONE = "none"
    UNREADY = "unready"
    SERVING = "serving"
    EXITED = "exited"


class StopSignal(Enum):
    """The strongest request to exit that the process has received."""

    NOTHING = "nothing"
    DRAIN = "drain"
    ABORT = "abort"
    KILL = "kill"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFacts:
    """The facts about a slot at one moment."""

    port: Port = Port.OURS
    life: Life = Life.NONE
    last_signal: StopSignal = StopSignal.NOTHING
    overdue: bool = False
    """The deadline has passed (for readiness, for a drain, or for exiting after SIGABRT)."""
    misses: int = 0
    """Unanswered probes in a row."""
    impaired: bool = False
    """The worker reports that it cannot serve normally."""
    draining: bool = False
    """The worker reports that it is draining."""
    failures: int = 0
    """Crashes in a row."""
    may_retry: bool = True
    """The delay after the last crash is over."""
    rejected: bool = False
    """The worker rejected its settings (exit code 78); restarting it is useless."""
    timed_out: bool = False
    """The last process did not become ready in time."""


def next_action(goal: Goal, facts: WorkerFacts) -> Action:
    """Return the next action towards *goal*."""
    match goal, facts.life, facts.last_signal:
        case _, Life.EXITED, _:
            return Action.REAP
        case Goal.RUNNING, Life.NONE, _:
            return _start_action(facts)
        case Goal.STOPPED, Life.NONE, _:
            return Action.NOTHING
        case _, _, StopSignal.KILL:
            return Action.NOTHING
        case _, _, StopSignal.ABORT:
            return Action.KILL if facts.overdue else Action.NOTHING
        case Goal.STOPPED, _, StopSignal.NOTHING:
            return Action.KILL if _is_hung(facts) else Action.DRAIN
        case _, _, StopSignal.DRAIN:
            return Action.KILL if facts.overdue or _is_hung(facts) else Action.NOTHING
        case Goal.RUNNING, Life.UNREADY, _:
            return Action.ABORT if facts.overdue else Action.NOTHING
        case _ if facts.draining:
            return Action.REPLACE
        case _:
            return Action.ABORT if _is_hung(facts) else Action.NOTHING


def phase_of(goal: Goal, facts: WorkerFacts) -> Phase:
    """Return the phase of a slot with these *facts*."""
    match goal, facts.life:
        case Goal.STOPPED, Life.NONE:
            return Phase.STOPPED
        case Goal.STOPPED, _:
            return Phase.STOPPING
        case Goal.RUNNING, Life.SERVING if facts.last_signal is StopSignal.NOTHING:
            return Phase.DEGRADED if facts.impaired or facts.misses else Phase.READY
        case Goal.RUNNING, Life.SERVING:
            return Phase.DEGRADED
        case _ if facts.rejected:
            return Phase.FAILED
        case Goal.RUNNING, Life.NONE if facts.port is Port.FOREIGN:
            return Phase.FOREIGN
        case Goal.RUNNING, Life.NONE if facts.port is Port.REFUSED:
            return Phase.FAILED
        case _ if facts.failures >= CRASH_LOOP_FAILURES:
            return Phase.CRASH_LOOP
        case Goal.RUNNING, Life.NONE if facts.timed_out:
            return Phase.FAILED
        case _:
            return Phase.STARTING


def restart_delay(failures: int, jitter: float) -> float:
    """
    Return how long to wait, in seconds, before the restart after *failures* crashes.

    *jitter* is from -1 to 1.
    """
    doubled = FIRST_DELAY * 2.0 ** min(failures - 1, 16)
    return min(doubled, MAX_DELAY) * (1 + JITTER * jitter)


def _start_action(facts: WorkerFacts) -> Action:
    if facts.rejected or not facts.may_retry:
        return Action.NOTHING
    match facts.port:
        case Port.OURS:
            return Action.SPAWN
        case Port.FREE:
            return Action.BIND
        case _:
            return Action.NOTHING


def _is_hung(facts: WorkerFacts) -> bool:
    return facts.misses >= HUNG_PROBES
