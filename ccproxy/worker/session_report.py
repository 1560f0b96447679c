"""The state of one session of Claude Code, for its status line."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ccproxy.ipc.control_messages import (
    AccountRow,
    AccountWindow,
    BudgetRow,
    ClientSessionRequest,
    ClientSessionState,
)
from ccproxy.providers.quirks import Target
from ccproxy.routing.names import model_for, parse_ref
from ccproxy.worker.accounting.account_rows import account_rows
from ccproxy.worker.admin.client_sessions import LastTurn
from ccproxy.worker.key_report import key_counts, reason
from ccproxy.worker.server.access_record import AccessRecord
from ccproxy.worker.worker import Worker


async def client_session_state(worker: Worker, request: ClientSessionRequest) -> ClientSessionState:
    """Return the state of the session that *request* names."""
    clients = worker.session.clients
    session = clients.get(request.id)
    waiting = session.waiting()
    last, totals = session.last_turn(), session.totals
    if last.at and request.model in ("", last.requested):
        target = worker.chooser.target(last.model)
    else:  # before the first turn, or after a change of model
        last, target = _next_turn(worker, request.model)
    keys = worker.pool.snapshot()
    bypass = worker.session.bypass
    return ClientSessionState(
        label=worker.config.label,
        port=worker.config.port,
        model=last.model,
        window=target.window,
        answered_by=last.answered_by,
        route=last.route,
        error=worker.logs.redact(last.error),
        at=last.at,
        waiting_s=0.0 if waiting is None else round(time.time() - waiting.started_at, 1),
        attempts=0 if waiting is None else waiting.attempts,
        key="" if waiting is None else waiting.key,
        refusal=_refusal(waiting),
        keys=key_counts(keys) if keys else None,
        reason=reason(worker, keys) or "",
        low_budgets=_low_budgets(worker),
        bypass=bypass.url if bypass.is_active else "",
        input=totals.input,
        cached=totals.cached,
        written=totals.written,
        cost=totals.cost,
        unpriced=totals.unpriced,
        cost_today=await clients.cost_today(),
        plan=_plan(account_rows(keys)),
        peers=tuple(session.peers),
    )


def _refusal(waiting: AccessRecord | None) -> str:
    """Return the status and the cause of the last failed attempt."""
    if waiting is None or not waiting.failures:
        return ""
    failure = waiting.failures[-1]
    return " ".join(filter(None, [str(failure.status or ""), failure.cause.replace("_", " ")]))


def _plan(accounts: Iterable[AccountRow]) -> AccountWindow | None:
    """Return the fullest window of the account with the most quota left; None if unknown."""
    windows = [account.windows for account in accounts if account.windows]
    fullest = [max(one, key=lambda window: window.used) for one in windows]
    return min(fullest, key=lambda window: window.used, default=None)


def _next_turn(worker: Worker, requested: str) -> tuple[LastTurn, Target]:
    """Return the expected next turn with the model *requested*, and the model's target."""
    chooser = worker.chooser
    ref = parse_ref(requested, chooser.table.labels)
    if ref is None:
        requested = model_for(worker.config.models, chooser.switch.tiers, requested)
    target = chooser.target(requested)
    label = "" if ref is None or ref.label == worker.config.label else ref.label
    return LastTurn(model=target.model, answered_by=label), target


def _low_budgets(worker: Worker) -> tuple[BudgetRow, ...]:
    """Return the low budgets that apply to the session; its client key is unknown here."""
    rows = worker.payers.rows()
    has_one_client = len({row.client for row in rows if row.client}) == 1
    return tuple(row for row in rows if row.is_low and (has_one_client or not row.client))
