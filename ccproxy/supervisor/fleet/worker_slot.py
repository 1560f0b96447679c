"""
A slot: one position of an entry for a worker process, and its history.

No I/O happens here. The host reports events and their times; `plan` decides from
`WorkerSlot.facts`. A slot exists as long as its position is wanted or its process has not exited. A
worker that is being replaced and its successor have separate slots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ccproxy.ipc.control_messages import DRAIN_SECONDS, WorkerState
from ccproxy.supervisor.fleet.plan import (
    HEALTHY_SECONDS,
    HUNG_PROBES,
    Goal,
    Life,
    Phase,
    Port,
    StopSignal,
    WorkerFacts,
    phase_of,
    restart_delay,
)
from ccproxy.supervisor.state.records import Spec, WorkerRecord

START_LIMIT = 15.0
"""Seconds that a worker may take to become ready."""

DRAIN_GRACE = 1.5
"""Seconds between the end of a drain and SIGKILL, for the worker to exit on its own."""

ABORT_GRACE = 1.5
"""Seconds that a hung worker has to write its stack."""

EX_CONFIG = 78
"""Exit code for invalid settings (sysexits.h)."""

UNKNOWN = WorkerState()
"""The state of a worker that has not answered yet."""


@dataclass(slots=True, kw_only=True)
class _Process:
    """The process of a slot, from start to reaping."""

    record: WorkerRecord
    state: WorkerState = UNKNOWN
    ready_at: float | None = None
    deadline: float = math.inf
    last_signal: StopSignal = StopSignal.NOTHING
    misses: int = 0
    is_silent: bool = False
    """Whether it did not answer the last `status` request."""
    is_draining: bool = False
    has_exited: bool = False
    exit_code: int | None = None
    message: str = ""
    """The reason that it reported for exiting."""


@dataclass(slots=True, kw_only=True)
class _Failures:
    """The failed starts and crashes of a slot since it last served long enough."""

    count: int = 0
    retry_at: float = -math.inf
    is_rejected: bool = False
    is_timed_out: bool = False
    message: str = ""


@dataclass(slots=True)
class WorkerSlot:
    """One position of an entry, with its process if there is one."""

    spec: Spec
    index: int
    """The number among the processes that serve one port, from 1."""
    goal: Goal = Goal.RUNNING
    start_limit: float = START_LIMIT
    """Seconds that the process may take to become ready."""
    drain_seconds: float = DRAIN_SECONDS
    """Seconds that running requests have to finish when the slot is stopped."""
    _process: _Process | None = None
    _failures: _Failures = field(default_factory=_Failures)

    def __repr__(self) -> str:
        pid = self.record.identity.pid if self.record else None
        return f"<{self.spec.label}@{self.index} {self.goal.value} pid={pid} {self._life.value}>"

    # Queries.

    @property
    def record(self) -> WorkerRecord | None:
        """The record of the process, or None if there is no process."""
        return self._process.record if self._process else None

    @property
    def state(self) -> WorkerState:
        """The last state that the worker reported."""
        return self._process.state if self._process else UNKNOWN

    @property
    def is_serving(self) -> bool:
        """Whether the process has become ready and has not exited."""
        return self._life is Life.SERVING

    @property
    def is_rejected(self) -> bool:
        """Whether the last process exited because it rejected its settings."""
        return self._failures.is_rejected and self._process is None

    @property
    def is_timed_out(self) -> bool:
        """Whether the last process did not become ready in time."""
        return self._failures.is_timed_out

    @property
    def misses(self) -> int:
        """Unanswered probes in a row."""
        return self._process.misses if self._process else 0

    @property
    def failures(self) -> int:
        """Crashes in a row."""
        return self._failures.count

    @property
    def retry_at(self) -> float:
        """When the process is restarted after a crash."""
        return self._failures.retry_at

    @property
    def failure(self) -> str:
        """Why the last start or process failed; empty if it did not."""
        return self._failures.message

    def facts(self, now: float, port: Port) -> WorkerFacts:
        """Return the facts at time *now*."""
        process, failures = self._process, self._failures
        return WorkerFacts(
            port=port,
            life=self._life,
            last_signal=process.last_signal if process else StopSignal.NOTHING,
            overdue=process is not None and now >= process.deadline,
            misses=self.misses,
            impaired=process is not None and (process.is_silent or bool(impairment(process.state))),
            draining=process is not None and process.is_draining,
            failures=failures.count,
            may_retry=now >= failures.retry_at,
            rejected=failures.is_rejected,
            timed_out=failures.is_timed_out,
        )

    def phase(self, now: float, port: Port) -> Phase:
        """Return the phase at time *now*."""
        return phase_of(self.goal, self.facts(now, port))

    def next_change(self, now: float) -> float:
        """Return the next time after *now* at which the passage of time changes the facts."""
        deadline = self._process.deadline if self._process else math.inf
        times = (deadline, self._failures.retry_at)
        return min((at for at in times if at > now), default=math.inf)

    def reason(self, now: float) -> str:
        """Return why the slot is not ready, for the user; empty if it is."""
        process, failures = self._process, self._failures
        if process is not None and process.misses:
            return f"does not answer ({process.misses} probes missed)"
        if process is not None and self.is_serving:
            return "does not answer" if process.is_silent else impairment(process.state)
        if failures.is_rejected or not failures.count:
            return failures.message
        times = "once" if failures.count == 1 else f"{failures.count} times"
        wait = max(0.0, failures.retry_at - now)
        retry = f", next attempt in {math.ceil(wait)} s" if wait and process is None else ""
        return f"failed {times}{retry}. Last message: {failures.message}"

    # User requests.

    def stop(self, drain_seconds: float, now: float) -> None:
        """Stop the slot; running requests have at most *drain_seconds* to finish."""
        self.goal = Goal.STOPPED
        process = self._process
        if process is None:
            return
        is_sooner = now + drain_seconds + DRAIN_GRACE < process.deadline
        if process.last_signal is StopSignal.NOTHING or (
            process.last_signal is StopSignal.DRAIN and is_sooner
        ):
            self.drain_seconds = drain_seconds
            process.last_signal = StopSignal.NOTHING

    def retry(self, spec: Spec | None = None) -> None:
        """Start the process at once and clear its failures; *spec* replaces the slot's own."""
        self.spec = spec or self.spec
        self._failures.is_rejected = self._failures.is_timed_out = False
        self._failures.count = 0
        self._failures.retry_at = -math.inf

    def hand_over(self, now: float) -> WorkerSlot:
        """Let the draining process exit, and return the slot of its successor."""
        self.goal = Goal.STOPPED
        self.end_requested(StopSignal.DRAIN, now + self.drain_seconds + DRAIN_GRACE)
        return WorkerSlot(self.spec, self.index, start_limit=self.start_limit)

    # Process events.

    def spawned(self, record: WorkerRecord, now: float) -> None:
        """Note that a process was started; it is not ready yet."""
        self._process = _Process(record=record, deadline=now + self.start_limit)

    def adopted(self, record: WorkerRecord, now: float, state: WorkerState | None) -> None:
        """Note that a process was found running; *state* is None if it does not answer."""
        self._process = _Process(record=record, ready_at=now, state=state or UNKNOWN)
        if self.state.state == "draining":
            self.goal = Goal.STOPPED
            self.end_requested(StopSignal.DRAIN, now + self.drain_seconds + DRAIN_GRACE)

    def became_ready(self, now: float) -> None:
        """Note that the process accepts connections."""
        self._failures.is_timed_out = False
        self._failures.message = ""
        if self._process is not None:
            self._process.ready_at = now
            if self._process.last_signal is StopSignal.NOTHING:
                self._process.deadline = math.inf

    def answered(self, state: WorkerState) -> None:
        """Note that the process answered a probe."""
        if self._process is not None:
            self._process.state = state
            self._process.misses = 0
            self._process.is_silent = False
            self._process.is_draining = state.state == "draining"

    def began_drain(self) -> None:
        """Note that the process stopped accepting connections."""
        if self._process is not None:
            self._process.is_draining = True

    def missed_probe(self) -> None:
        """Note that the process did not answer a probe in time."""
        if self._process is not None:
            self._process.misses += 1

    def set_silent(self, is_silent: bool) -> None:
        """Set whether the process failed to answer the last `status` request."""
        if self._process is not None:
            self._process.is_silent = is_silent

    def end_requested(self, request: StopSignal, deadline: float) -> None:
        """Note that the process was asked to exit; at *deadline* a stronger request follows."""
        if self._process is not None:
            self._process.last_signal = request
            self._process.deadline = deadline

    def explained(self, message: str) -> None:
        """Note why the process cannot serve, as it reported in one or more lines."""
        if self._process is not None:
            lines = (line.strip(" -") for line in message.splitlines())
            self._process.message = "; ".join(filter(None, lines))

    def exited(self, code: int | None, *, output: str = "") -> None:
        """
        Note that the process has exited.

        *code* is as in subprocess, or None if the process is not our child. *output* is the tail
        of its output, which explains the exit if it reported no reason.
        """
        if self._process is not None:
            self._process.has_exited = True
            self._process.exit_code = code
            self._process.message = self._process.message or output

    def reap(self, now: float, *, jitter: float) -> None:
        """Remove the process, and count its exit as a failure if it was not requested."""
        process, self._process = self._process, None
        if process is None or self.goal is Goal.STOPPED:
            return
        timed_out = process.ready_at is None and process.last_signal in (
            StopSignal.ABORT,
            StopSignal.KILL,
        )
        self._failures.message = _cause(process, self.start_limit if timed_out else None)
        if process.exit_code == EX_CONFIG:
            self._failures.is_rejected = True
            return
        self._failures.is_timed_out = timed_out
        self._count_failure(
            now, 0.0 if process.ready_at is None else now - process.ready_at, jitter
        )

    def could_not_spawn(self, now: float, *, jitter: float, message: str) -> None:
        """Note that the system refused to start a process."""
        self._failures.message = message
        self._count_failure(now, 0.0, jitter)

    def port_refused(self, reason: str) -> None:
        """Note that the port could not be bound."""
        self._failures.message = reason

    def port_bound(self) -> None:
        """Note that the port was bound after having been refused."""
        self._failures.message = ""

    def _count_failure(self, now: float, served: float, jitter: float) -> None:
        self._failures.count = 1 if served >= HEALTHY_SECONDS else self._failures.count + 1
        self._failures.retry_at = now + restart_delay(self._failures.count, jitter)

    @property
    def _life(self) -> Life:
        if self._process is None:
            return Life.NONE
        if self._process.has_exited:
            return Life.EXITED
        return Life.UNREADY if self._process.ready_at is None else Life.SERVING


def impairment(state: WorkerState) -> str:
    """Return why a worker in *state* cannot serve normally; empty if it can."""
    if state.reason:
        return state.reason
    keys = state.keys
    if keys is None or keys.ready >= keys.total:
        return ""
    return f"{keys.total - keys.ready} of {keys.total} keys out"


def _cause(process: _Process, start_limit: float | None) -> str:
    """Return why *process* exited; *start_limit* is set if it did not become ready in time."""
    code = process.exit_code
    if start_limit is not None:
        return f"not ready after {start_limit:.0f} s"
    if process.misses >= HUNG_PROBES:
        return "stopped responding and was killed"
    if code is not None and code < 0:
        return f"killed by signal {-code}"  # it had no time to report a reason
    last = process.message.splitlines()[-1] if process.message else ""
    if last and not last.startswith("{"):  # a log line is about a request, not about the exit
        return last
    return "exited" if code is None else f"exited with code {code}"
