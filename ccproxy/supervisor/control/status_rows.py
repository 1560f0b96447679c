"""Units -> rows: what `status` shows of an entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ccproxy.logs import log_path
from ccproxy.supervisor.control.row import Row
from ccproxy.supervisor.fleet.plan import Goal, Phase, Port
from ccproxy.supervisor.fleet.worker_slot import WorkerSlot
from ccproxy.supervisor.processes.identity import age_of
from ccproxy.supervisor.state.records import Spec

_BEST_FIRST = (
    *(Phase.READY, Phase.DEGRADED, Phase.STARTING),
    *(Phase.CRASH_LOOP, Phase.FAILED, Phase.FOREIGN),
)
_SERVING = (Phase.READY, Phase.DEGRADED)


def row_of(
    spec: Spec,
    units: Sequence[WorkerSlot],
    *,
    port: Callable[[WorkerSlot], Port],
    now: float,
    logs: Path,
) -> Row:
    """Tell how the entry *spec* is doing; *units* are those of its label, which know better."""
    current = [unit for unit in units if unit.goal is Goal.RUNNING]
    spec = next((unit.spec for unit in current), spec)
    phases = [(unit, unit.phase(now, port(unit))) for unit in current]
    state = state_of([(unit.index, phase) for unit, phase in phases], leaving=bool(units))
    places = sorted(current or units, key=lambda unit: unit.index)
    living = [unit for unit in places if unit.record is not None]
    serving = [unit for unit in living if unit.serves]
    said = next((unit.state for unit in serving if unit.state), {})
    ages = [age_of(unit.record.identity) for unit in serving if unit.record]
    reasons = (unit.reason(now) for unit, phase in phases if phase is not Phase.READY)
    reason = None if state is Phase.READY else next(filter(None, reasons), None)
    return Row(
        label=spec.label,
        port=spec.port,
        host=spec.host,
        state=state.value,
        pids=tuple(unit.record.identity.pid for unit in living if unit.record),
        uptime_s=round(min(ages), 1) if ages else None,
        keys=_keys(serving),
        in_flight=sum(int(unit.state.get("in_flight", 0)) for unit in serving),
        models=said.get("models") or spec.models,
        switched=str(said.get("switched") or ""),
        passes_to=str(said.get("passes_to") or ""),
        keeps_history=any(unit.state.get("keeps_history") for unit in serving),
        inspects=any(unit.state.get("inspects") for unit in serving),
        inspects_s=max((float(unit.state.get("inspects_s", 0)) for unit in serving), default=0.0),
        base_url=said.get("base_url") or spec.base_url,
        log=str(log_path(logs, spec.label)),
        reason=reason,
        faulty_key=next((key for unit in serving if (key := unit.state.get("faulty_key"))), ""),
        late=any(unit.never_ready for unit in current),
        version=said.get("version") or "",
        build=said.get("build") or "",
        log_dropped_total=sum(int(unit.state.get("log_dropped_total", 0)) for unit in serving),
    )


def state_of(phases: Iterable[tuple[int, Phase]], *, leaving: bool = False) -> Phase:
    """
    Sum up the phases of an entry's units, each given with its index.

    Of two units with one index, the better counts: while a worker is replaced, the old one serves.
    """
    best: dict[int, Phase] = {}
    for index, phase in phases:
        best[index] = min(best.get(index, phase), phase, key=_BEST_FIRST.index)
    if not best:
        return Phase.STOPPING if leaving else Phase.STOPPED
    worst = max(best.values(), key=_BEST_FIRST.index)
    serves = any(phase in _SERVING for phase in best.values())
    return Phase.DEGRADED if serves and worst is not Phase.READY else worst


def _keys(serving: Sequence[WorkerSlot]) -> Mapping[str, int] | None:
    # Every process has a pool of its own over the same keys; the poorest one counts.
    pools = [unit.state["keys"] for unit in serving if unit.state.get("keys")]
    return min(pools, key=lambda pool: pool.get("ready", 0), default=None)
