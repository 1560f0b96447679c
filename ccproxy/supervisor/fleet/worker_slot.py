"""
One worker position: what happened to it, read as facts.

Nothing here touches the machine. The host tells a unit what happened and when; `facts` is what
`plan` decides by. A unit lives as long as its position is wanted or its process has not ended;
a worker that is replaced and its successor are two units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ccproxy.supervisor.fleet.plan import (
    HEALTHY_AFTER,
    MISSES_OF_THE_HUNG,
    Goal,
    Life,
    Phase,
    Port,
    Sent,
    WorkerFacts,
    phase_of,
    restart_delay,
)
from ccproxy.supervisor.state.records import Spec, WorkerRecord

READY_LIMIT = 15.0
"""Seconds that a worker may take to become ready."""

DRAIN_GRACE = 1.5
"""Seconds between the end of a drain and SIGKILL, for the worker to say goodbye."""

ABORT_GRACE = 1.5
"""Seconds that a hung worker gets to write its stack."""

CODE_OF_WRONG_SETTINGS = 78
"""EX_CONFIG of sysexits.h."""


class WorkerSlot:
    """One worker position of an entry, with its process if it has one."""

    def __init__(self, spec: Spec, index: int) -> None:
        self.spec = spec
        self.index = index
        self.goal = Goal.RUNNING
        self.record: WorkerRecord | None = None
        """The process; None if there is none."""
        self.state: Mapping[str, Any] = {}
        """What the worker last said about itself."""
        self.words = ""
        """The last thing worth telling the user."""
        self.patience = READY_LIMIT
        """Seconds that the process may take to become ready."""
        self.drain = 30.0
        """Seconds that running requests get when the unit is stopped."""
        self.misses = 0
        self.silent = False
        """It left the last question of `status` without an answer."""
        self.failures = 0
        self.refused = False
        self.never_ready = False
        self.deadline = math.inf
        self.rest_until = -math.inf
        self.ready_at: float | None = None
        self._sent = Sent.NOTHING
        self._ended = False
        self._code: int | None = None
        self._said = ""

    def __repr__(self) -> str:
        pid = self.record.identity.pid if self.record else "-"
        return f"<{self.spec.label}@{self.index} {self.goal.value} pid={pid} {self._sent.value}>"

    # Reading...

    @property
    def serves(self) -> bool:
        """Whether there is a process that has become ready and has not ended."""
        return self._life is Life.SERVING

    def facts(self, now: float, port: Port) -> WorkerFacts:
        """Tell what is known at *now*."""
        return WorkerFacts(
            port=port,
            life=self._life,
            sent=self._sent,
            late=now >= self.deadline,
            misses=self.misses,
            ailing=self.silent or bool(ailment_of(self.state)),
            failures=self.failures,
            rested=now >= self.rest_until,
            refused=self.refused,
            never_ready=self.never_ready,
        )

    def phase(self, now: float, port: Port) -> Phase:
        """Name what the unit is in."""
        return phase_of(self.goal, self.facts(now, port))

    def next_wake(self, now: float) -> float:
        """Return the next moment after *now* at which time alone changes the facts."""
        return min((at for at in (self.deadline, self.rest_until) if at > now), default=math.inf)

    def reason(self, now: float) -> str:
        """Say why the unit is not simply ready; empty if it is."""
        if self.misses:
            return f"does not answer ({self.misses} probes missed)"
        if self.serves:
            return "does not answer" if self.silent else ailment_of(self.state)
        if self.refused or not self.failures:
            return self.words
        times = "once" if self.failures == 1 else f"{self.failures} times"
        wait = max(0.0, self.rest_until - now)
        soon = f", next try in {math.ceil(wait)} s" if wait and self.record is None else ""
        return f"failed {times}{soon}. Last words: {self.words}"

    # What is wanted...

    def stop(self, drain: float, now: float) -> None:
        """Want the unit gone, after at most *drain* seconds for what runs."""
        self.goal = Goal.STOPPED
        sooner = now + drain + DRAIN_GRACE < self.deadline
        if self._sent is Sent.NOTHING or (self._sent is Sent.DRAIN and sooner):
            self.drain = drain
            self._sent = Sent.NOTHING

    def ask_again(self) -> None:
        """Want another try now, whatever happened before."""
        self.refused = self.never_ready = False
        self.failures = 0
        self.rest_until = -math.inf

    # ...and what happened.

    def spawned(self, record: WorkerRecord, now: float) -> None:
        """A process was started; it is not ready yet."""
        self._new_process(record)
        self.deadline = now + self.patience

    def adopted(self, record: WorkerRecord, now: float, state: Mapping[str, Any]) -> None:
        """A process was found running; an empty *state* says that it does not answer."""
        self._new_process(record)
        self.ready_at = now
        self.state = state
        if state.get("state") == "draining":
            self.goal = Goal.STOPPED
            self.sent(Sent.DRAIN, now + self.drain + DRAIN_GRACE)

    def became_ready(self, now: float) -> None:
        """The process says that it accepts."""
        self.ready_at = now
        self.never_ready = False
        self.words = ""
        if self._sent is Sent.NOTHING:
            self.deadline = math.inf

    def answered(self, state: Mapping[str, Any]) -> None:
        """The process answered a probe."""
        self.state = state
        self.misses = 0
        self.silent = False

    def sent(self, what: Sent, deadline: float) -> None:
        """The process was asked to end; at *deadline* something stronger follows."""
        self._sent = what
        self.deadline = deadline

    def said(self, words: str) -> None:
        """The process told why it cannot serve: a sentence, or mistakes of several lines each."""
        self._said = "; ".join(line.strip(" -") for line in words.splitlines() if line.strip(" -"))

    def ended(self, code: int | None, *, words: str = "") -> None:
        """
        The process is gone.

        *code* is as of subprocess, None for what is not our child; *words* are the end of what it
        wrote, for the case that it told nothing.
        """
        self._ended = True
        self._code = code
        self._said = self._said or words

    def bury(self, now: float, *, jitter: float) -> None:
        """Take the process off, and count its end if it was not wanted."""
        served = 0.0 if self.ready_at is None else now - self.ready_at
        code = self._code
        late = self.ready_at is None and self._sent in (Sent.ABORT, Sent.KILL)
        hung = self.misses >= MISSES_OF_THE_HUNG
        self.record = None
        self.state = {}
        self.misses = 0
        self.deadline = math.inf
        if self.goal is Goal.STOPPED:
            return
        late_after = self.patience if late else None
        self.words = _last_words(code, self._said, late_after=late_after, hung=hung)
        if code == CODE_OF_WRONG_SETTINGS:
            self.refused = True
            return
        self.never_ready = late
        self._failed(now, served, jitter)

    def could_not_spawn(self, now: float, *, jitter: float, words: str) -> None:
        """The system refused to start a process."""
        self.words = words
        self._failed(now, 0.0, jitter)

    def _failed(self, now: float, served: float, jitter: float) -> None:
        self.failures = 1 if served >= HEALTHY_AFTER else self.failures + 1
        self.rest_until = now + restart_delay(self.failures, jitter)

    def _new_process(self, record: WorkerRecord) -> None:
        self.record = record
        self.state = {}
        self.misses = 0
        self.silent = False
        self.ready_at = None
        self.deadline = math.inf
        self._sent = Sent.NOTHING
        self._ended = False
        self._code = None
        self._said = ""

    @property
    def _life(self) -> Life:
        if self.record is None:
            return Life.NONE
        if self._ended:
            return Life.ENDED
        return Life.UNREADY if self.ready_at is None else Life.SERVING


def ailment_of(state: Mapping[str, Any]) -> str:
    """Say what keeps a worker in *state* from serving as it should; empty if nothing does."""
    if reason := state.get("reason"):
        return str(reason)
    keys = state.get("keys") or {}
    ready, total = keys.get("ready"), keys.get("total")
    if ready is None or total is None or ready >= total:
        return ""
    return f"{total - ready} of {total} keys out"


def _last_words(code: int | None, words: str, *, late_after: float | None, hung: bool) -> str:
    if late_after is not None:
        return f"not ready after {late_after:.0f} s"
    if hung:
        return "did not answer any more and was ended"
    if code is not None and code < 0:
        return f"killed by signal {-code}"  # it had no time to say anything about that
    last = words.splitlines()[-1] if words else ""
    if last and not last.startswith("{"):  # a line of its log tells of a request, not of its end
        return last
    return "ended" if code is None else f"exited with code {code}"
