"""
The status of one entry: a row of `ccproxy status`.

A new column needs a field of `ReportedState`, which the worker sets, a column in the command line's
table, and a line in `_reported` if its value may differ between the processes of an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from ccproxy.ipc.control_messages import ReportedState, Traffic, WorkerState
from ccproxy.log_rotation import log_path
from ccproxy.supervisor.fleet.plan import Goal, Phase, Port
from ccproxy.supervisor.fleet.worker_slot import UNKNOWN, WorkerSlot
from ccproxy.supervisor.processes.identity import age_of
from ccproxy.supervisor.state.records import Spec

Change = Literal["", "changed", "removed", "unreadable"]
"""How the user's files differ from the running fleet: the entry or its env file was changed, the
entry was removed from the table, or a file cannot be read."""

_BEST_FIRST = (
    *(Phase.READY, Phase.DEGRADED, Phase.STARTING),
    *(Phase.CRASH_LOOP, Phase.FAILED, Phase.FOREIGN),
)
_SERVING = (Phase.READY, Phase.DEGRADED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(ReportedState):
    """One entry, as `status --json` shows it."""

    label: str
    port: int
    host: str = "127.0.0.1"
    state: str
    pids: tuple[int, ...] = ()
    uptime_s: float | None = None
    keys: Mapping[str, int] | None = None
    """`ready` and `total` of the process with the fewest ready keys, as for `key_rows`."""
    log: str = ""
    reason: str | None = None
    changed: Change = ""
    """How the files differ from the running fleet; `ccproxy reload` applies them."""
    late: bool = False
    """Whether a worker did not become ready in time."""

    def as_json(self) -> dict[str, Any]:
        """Return the row for `status --json`."""
        return {"label": self.label} | asdict(self) | {"pids": list(self.pids)}


def row_of(
    spec: Spec,
    slots: Sequence[WorkerSlot],
    *,
    port: Callable[[WorkerSlot], Port],
    now: float,
    logs: Path,
    changed: Change = "",
) -> Row:
    """Return the row of the entry *spec*; the spec of a running slot takes precedence."""
    current = [slot for slot in slots if slot.goal is Goal.RUNNING]
    spec = next((slot.spec for slot in current), spec)
    phases = [(slot, slot.phase(now, port(slot))) for slot in current]
    state = state_of([(slot.index, phase) for slot, phase in phases], is_stopping=bool(slots))
    ordered = sorted(current or slots, key=lambda slot: slot.index)
    running = [slot for slot in ordered if slot.record is not None]
    serving = [slot for slot in running if slot.is_serving]
    ages = [age_of(slot.record.identity) for slot in serving if slot.record]
    reasons = (slot.reason(now) for slot, phase in phases if phase is not Phase.READY)
    reported = _reported([slot.state for slot in serving])
    reported["models"] = reported["models"] or spec.models
    reported["base_url"] = reported["base_url"] or spec.base_url
    return Row(
        label=spec.label,
        port=spec.port,
        host=spec.host,
        state=state.value,
        pids=tuple(slot.record.identity.pid for slot in running if slot.record),
        uptime_s=round(min(ages), 1) if ages else None,
        log=str(log_path(logs, spec.label)),
        reason=None if state is Phase.READY else next(filter(None, reasons), None),
        changed=changed,
        late=any(slot.is_timed_out for slot in current),
        **reported,
    )


def _reported(states: Sequence[WorkerState]) -> dict[str, Any]:
    """
    Return the row fields that the processes of an entry report.

    Fields that are not listed here are the same in all processes.
    """
    first = next((one for one in states if one != UNKNOWN), UNKNOWN)
    # Every process has its own pool of the same keys; the one with the fewest ready keys counts.
    pools = [(one.keys, one.key_rows) for one in states if one.keys is not None]
    counts, key_rows = min(pools, key=lambda pool: pool[0].ready, default=(None, ()))
    return {one.name: getattr(first, one.name) for one in fields(ReportedState)} | {
        "keys": None if counts is None else {"ready": counts.ready, "total": counts.total},
        "key_rows": key_rows,
        "in_flight": sum(one.in_flight for one in states),
        "connections": sum(one.connections for one in states),
        "max_connections": sum(one.max_connections for one in states),
        "keeps_history": any(one.keeps_history for one in states),
        "inspects": any(one.inspects for one in states),
        "inspects_s": max((one.inspects_s for one in states), default=0.0),
        "faulty_key": next((one.faulty_key for one in states if one.faulty_key), ""),
        "log_dropped_total": sum(one.log_dropped_total for one in states),
        "traffic": _added([one.traffic for one in states]),
    }


def state_of(phases: Iterable[tuple[int, Phase]], *, is_stopping: bool = False) -> Phase:
    """
    Return the phase of an entry, given the index and phase of each of its slots.

    Of two slots with the same index, the better one counts: the old worker serves until the new
    one is ready.
    """
    best: dict[int, Phase] = {}
    for index, phase in phases:
        best[index] = min(best.get(index, phase), phase, key=_BEST_FIRST.index)
    if not best:
        return Phase.STOPPING if is_stopping else Phase.STOPPED
    worst = max(best.values(), key=_BEST_FIRST.index)
    serves = any(phase in _SERVING for phase in best.values())
    return Phase.DEGRADED if serves and worst is not Phase.READY else worst


def _added(parts: Sequence[Traffic]) -> Traffic:
    """
    Return the traffic of all processes of an entry.

    The median is the mean of the processes' medians, weighted by answers; the 95th percentile
    is the highest one.
    """
    if len(parts) == 1:
        return parts[0]
    answers = sum(part.answers for part in parts)
    histories = [part.history for part in parts if part.history]
    weighted = sum((part.ttft_median_s or 0.0) * part.answers for part in parts)
    return Traffic(
        requests_per_minute=sum(part.requests_per_minute for part in parts),
        output_tokens_per_s=round(sum(part.output_tokens_per_s for part in parts), 1),
        requests=sum(part.requests for part in parts),
        errors=sum(part.errors for part in parts),
        answers=answers,
        ttft_median_s=round(weighted / answers, 3) if answers else None,
        ttft_p95_s=max((part.ttft_p95_s or 0.0 for part in parts), default=0.0) or None,
        history=tuple(map(sum, zip(*histories, strict=False))),
    )
