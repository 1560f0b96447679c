"""
A worker's `ClientSessionState` with the fields that the status line shows.

The program runs every few seconds in every session. Importing `ipc/control_messages.py`, which
builds all messages as dataclasses, would take half of its time.
`tests/statusline/test_entry_state.py` compares names, defaults and meaning with that module.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple


class ReadyKeys(NamedTuple):
    """The `KeyCounts` of an entry."""

    ready: int = 0
    total: int = 0


class PlanUse(NamedTuple):
    """The `AccountWindow` of the key with the most quota left."""

    name: str = ""
    used: float = 0.0


class LowBudget(NamedTuple):
    """A `BudgetRow` that is almost spent."""

    unit: str = ""
    period: str = ""
    limit: float = 0.0
    spent: float = 0.0


class EntryState(NamedTuple):
    """The state of a session in one worker."""

    label: str = ""
    port: int = 0
    model: str = ""
    window: int | None = None
    answered_by: str = ""
    route: str = ""
    error: str = ""
    at: float = 0.0
    waiting_s: float = 0.0
    attempts: int = 0
    key: str = ""
    refusal: str = ""
    keys: ReadyKeys | None = None
    reason: str = ""
    bypass: str = ""
    input: int = 0
    cached: int = 0
    written: int = 0
    cost: float = 0.0
    unpriced: int = 0
    cost_today: float | None = None
    plan: PlanUse | None = None
    peers: Sequence[str] = ()
    low_budgets: Sequence[LowBudget] = ()


def request_line(session: str, model: str) -> bytes:
    """Return the `ClientSessionRequest` for a *session* that uses *model*."""
    return json.dumps({"op": "client_session", "id": session, "model": model}).encode() + b"\n"


def read_entry(line: bytes) -> EntryState | None:
    """Parse a worker's reply; None if it is a refusal or is not valid."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or not fields.get("ok", True):
        return None
    entry: EntryState = _tuple_of(EntryState, fields)
    if not entry.label or not isinstance(entry.label, str):
        return None
    return entry._replace(
        keys=entry.keys and _tuple_of(ReadyKeys, entry.keys),
        plan=entry.plan and _tuple_of(PlanUse, entry.plan),
        low_budgets=tuple(_tuple_of(LowBudget, row) for row in entry.low_budgets),
    )


def _tuple_of(kind: Any, fields: Any) -> Any:  # noqa: ANN401 - a NamedTuple, of parsed JSON
    """Return a *kind* built from the *fields* it declares; other releases may send more fields."""
    return kind(**{name: fields[name] for name in kind._fields if name in fields})
