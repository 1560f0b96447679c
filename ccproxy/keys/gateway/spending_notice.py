"""
Budget notices for gateway users in Claude Code: limit headers, the refusal, and the report.

The header names are those that Anthropic sends to its subscribers. Claude Code 2.1.225 and later
shows a notice above 75 % and 95 % if it is signed in to the gateway; otherwise it ignores the
headers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ccproxy.errors import Problem
from ccproxy.keys.budgets import BudgetState, from_parts
from ccproxy.providers.pricing import CURRENCY

LIMIT_PREFIX = "anthropic-ratelimit-"
"""Prefix of the headers in which a provider reports the limits of its customer, not of a user."""
THRESHOLDS = (0.95, 0.75)

_PREFIX = f"{LIMIT_PREFIX}unified-"
REFUSED_HEADER = f"{_PREFIX}overage-disabled-reason"
"""Only sent in refusals by the gateway itself."""
_PERIODS = {"day": "daily", "month": "monthly"}
_MOST = 0.99
"""Largest share to report while requests are allowed, so that no budget seems to be used up."""


def fullest(states: Iterable[BudgetState]) -> BudgetState | None:
    """Return the budget with the largest spent share, or None; of equal ones, the last to end."""
    return max(states, key=lambda state: (state.share, state.end), default=None)


def limit_headers(state: BudgetState) -> dict[str, str]:
    """Return the headers that report *state* in a successful answer."""
    used = min(math.floor(state.share * 100) / 100, _MOST)
    threshold = next((one for one in THRESHOLDS if used >= one), None)
    status = "allowed" if threshold is None else "allowed_warning"
    end = str(math.ceil(state.end))
    headers = {
        f"{_PREFIX}status": status,
        f"{_PREFIX}representative-claim": "overage",
        f"{_PREFIX}overage-status": status,
        f"{_PREFIX}overage-utilization": f"{used:.2f}",
        f"{_PREFIX}reset": end,
        f"{_PREFIX}overage-reset": end,
    }
    if threshold is not None:
        headers[f"{_PREFIX}overage-surpassed-threshold"] = f"{threshold:g}"
    return headers


def user_refusal(state: BudgetState, *, user: str) -> Problem:
    """Return the error for a request of *user* that the budget does not allow."""
    end = str(math.ceil(state.end))
    # Without -representative-claim and -overage-status, Claude Code shows the text below.
    headers = (
        (f"{_PREFIX}status", "rejected"),
        (f"{_PREFIX}reset", end),
        (f"{_PREFIX}overage-reset", end),
        (f"{_PREFIX}overage-utilization", "1"),
        (f"{_PREFIX}overage-surpassed-threshold", "1"),
        (f"{_PREFIX}overage-period", _PERIODS[state.budget.period]),
        (REFUSED_HEADER, "org_spend_cap_reached"),
    )
    fix = "ask the owner of the gateway to raise it in users.toml"
    return state.problem(f"{user} at this gateway", fix=fix, headers=headers)


def spending_report(states: Iterable[tuple[BudgetState, str]]) -> Mapping[str, Any] | None:
    """
    Return the body of `GET /api/oauth/usage`, or None if no budget is in dollars.

    Each state is paired with the ISO 8601 time at which its period ends.
    """
    rows = [(state, end) for state, end in states if state.budget.unit == CURRENCY]
    active = fullest(state for state, _ in rows)
    if active is None:
        return None
    return {
        "extra_usage": {
            "is_enabled": True,
            "monthly_limit": _cents(active.budget.limit),
            "used_credits": _cents(from_parts(active.spent, CURRENCY)),
            "utilization": _percent(active),
            "currency": CURRENCY,
        },
        "limits": [
            {
                "kind": "spend",
                "group": _PERIODS[state.budget.period],
                "percent": _percent(state),
                "resets_at": end,
                "severity": "warning" if state.share >= THRESHOLDS[-1] else "normal",
                "is_active": state is active,
            }
            for state, end in rows
        ],
    }


def _cents(dollars: float) -> int:
    return round(dollars * 100)


def _percent(state: BudgetState) -> int:
    return math.floor(state.share * 100)
