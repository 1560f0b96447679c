"""
The status of one entry: a row of `ccproxy status`.

A new column of the worker needs a field of `WorkerState`, a field and a line here, and a column in
the command line's table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ccproxy.ipc.control_messages import (
    AccountRow,
    BudgetRow,
    KeyCounts,
    KeyRow,
    PoolSharing,
    RetiringModel,
    Traffic,
)
from ccproxy.logs import log_path
from ccproxy.supervisor.fleet.plan import Goal, Phase, Port
from ccproxy.supervisor.fleet.worker_slot import UNKNOWN, WorkerSlot
from ccproxy.supervisor.processes.identity import age_of
from ccproxy.supervisor.state.records import Spec

Change = Literal["", "changed", "removed", "unreadable"]
"""How the user's files differ from what runs: the entry or its env file was changed, the entry was
removed from the table, or one of them cannot be read."""

_BEST_FIRST = (
    *(Phase.READY, Phase.DEGRADED, Phase.STARTING),
    *(Phase.CRASH_LOOP, Phase.FAILED, Phase.FOREIGN),
)
_SERVING = (Phase.READY, Phase.DEGRADED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One entry, as `status --json` shows it."""

    label: str
    port: int
    host: str
    state: str
    pids: tuple[int, ...] = ()
    uptime_s: float | None = None
    keys: Mapping[str, int] | None = None
    """`ready` and `total`."""
    in_flight: int = 0
    connections: int = 0
    """Open client connections, of which there are at most `max_connections`."""
    max_connections: int = 0
    models: Mapping[str, str | None] = field(default_factory=dict)
    retiring: tuple[RetiringModel, ...] = ()
    switched: str = ""
    """Name of the active switch of models; empty if the env file's models are used."""
    passes_to: str = ""
    """Where requests go unchanged in bypass mode; empty if bypass is off."""
    keeps_history: bool = False
    inspects: bool = False
    """Whether INSPECT makes request bodies readable now."""
    inspects_s: float = 0.0
    """Seconds until that ends."""
    budgets: tuple[BudgetRow, ...] = ()
    accounts: tuple[AccountRow, ...] = ()
    base_url: str = ""
    log: str = ""
    reason: str | None = None
    faulty_key: str = ""
    """Id of the first key that was rejected or is out of credit."""
    changed: Change = ""
    """How the files differ from the running fleet; `ccproxy reload` applies them."""
    late: bool = False
    """A worker did not become ready in time."""
    version: str = ""
    """Of ccproxy when the worker was started; empty if unknown."""
    build: str = ""
    """Hash of the source that the worker runs; empty if unknown."""
    log_dropped_total: int = 0
    """Log lines lost since the start because the disk was full."""
    traffic: Traffic = field(default_factory=Traffic)
    key_rows: tuple[KeyRow, ...] = ()
    """The keys of the process with the fewest ready ones."""
    pool: PoolSharing | None = None
    """None without REDIS_URL."""

    def as_json(self) -> dict[str, Any]:
        """Return the row for `status --json`."""
        return asdict(self) | {"pids": list(self.pids)}


def row_of(
    spec: Spec,
    slots: Sequence[WorkerSlot],
    *,
    port: Callable[[WorkerSlot], Port],
    now: float,
    logs: Path,
    changed: Change = "",
) -> Row:
    """Return the row of the entry *spec*; what its *slots* run takes precedence over *spec*."""
    current = [slot for slot in slots if slot.goal is Goal.RUNNING]
    spec = next((slot.spec for slot in current), spec)
    phases = [(slot, slot.phase(now, port(slot))) for slot in current]
    state = state_of([(slot.index, phase) for slot, phase in phases], is_stopping=bool(slots))
    ordered = sorted(current or slots, key=lambda slot: slot.index)
    running = [slot for slot in ordered if slot.record is not None]
    serving = [slot for slot in running if slot.is_serving]
    states = [slot.state for slot in serving]
    first = next((one for one in states if one != UNKNOWN), UNKNOWN)
    ages = [age_of(slot.record.identity) for slot in serving if slot.record]
    reasons = (slot.reason(now) for slot, phase in phases if phase is not Phase.READY)
    poorest = _poorest(one.keys for one in states)
    return Row(
        label=spec.label,
        port=spec.port,
        host=spec.host,
        state=state.value,
        pids=tuple(slot.record.identity.pid for slot in running if slot.record),
        uptime_s=round(min(ages), 1) if ages else None,
        keys=None if poorest is None else {"ready": poorest.ready, "total": poorest.total},
        in_flight=sum(one.in_flight for one in states),
        connections=sum(one.connections for one in states),
        max_connections=sum(one.max_connections for one in states),
        models=first.models or spec.models,
        retiring=first.retiring,
        switched=first.switched,
        passes_to=first.passes_to,
        keeps_history=any(one.keeps_history for one in states),
        inspects=any(one.inspects for one in states),
        inspects_s=max((one.inspects_s for one in states), default=0.0),
        budgets=first.budgets,
        accounts=first.accounts,
        base_url=first.base_url or spec.base_url,
        log=str(log_path(logs, spec.label)),
        reason=None if state is Phase.READY else next(filter(None, reasons), None),
        faulty_key=next((one.faulty_key for one in states if one.faulty_key), ""),
        changed=changed,
        late=any(slot.is_timed_out for slot in current),
        version=first.version,
        build=first.build,
        log_dropped_total=sum(one.log_dropped_total for one in states),
        traffic=_added([one.traffic for one in states]),
        key_rows=next((one.key_rows for one in states if one.keys is poorest), ()),
        pool=first.pool,
    )


def state_of(phases: Iterable[tuple[int, Phase]], *, is_stopping: bool = False) -> Phase:
    """
    Return the phase of an entry from those of its slots, each given with its index.

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


def _poorest(pools: Iterable[KeyCounts | None]) -> KeyCounts | None:
    # Every process has its own pool of the same keys; the one with the fewest ready keys counts.
    counts = [pool for pool in pools if pool is not None]
    return min(counts, key=lambda pool: pool.ready, default=None)


def _added(parts: Sequence[Traffic]) -> Traffic:
    """
    Return the traffic of all processes of an entry.

    The median is the mean of theirs, weighted by answers, and the 95th percentile is the highest.
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
