"""
Budget notices for users of a gateway in Claude Code: limit headers, the refusal, and the sums.

The names are those that Anthropic sends to its subscribers. Claude Code 2.1.225 and later shows a
notice past 75 % and 95 %, if it has signed in to the gateway; other sessions ignore the headers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ccproxy.errors import Problem
from ccproxy.keys.budgets import RETRY_SECONDS, BudgetState, format_amount, from_parts
from ccproxy.providers.pricing import CURRENCY
from ccproxy.text import format_duration

LIMIT_PREFIX = "anthropic-ratelimit-"
"""Headers of a provider with this prefix are about its own customer, not about a user."""
THRESHOLDS = (0.95, 0.75)

_PREFIX = f"{LIMIT_PREFIX}unified-"
REFUSED_HEADER = f"{_PREFIX}overage-disabled-reason"
"""Only in refusals of the gateway itself."""
_PERIODS = {"day": "daily", "month": "monthly"}
_MOST = 0.99
"""While requests are allowed, Claude Code must not see a full budget."""


def fullest(states: Iterable[BudgetState]) -> BudgetState | None:
    """Return the most spent budget, and of equal ones the last to end; None if there is none."""
    return max(states, key=lambda state: (state.share, state.end), default=None)


def limit_headers(state: BudgetState) -> dict[str, str]:
    """Return the headers of a successful answer."""
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
    """Return the error of a request of *user* that the budget does not allow."""
    budget = state.budget
    if not state.is_spent:
        text = (
            f"The rest of the budget of {user} ({budget}) is reserved for requests in flight. "
            "Try again when they have ended"
        )
        return Problem("rate_limit_error", text, retry_after=RETRY_SECONDS, should_retry=True)
    spent = format_amount(from_parts(state.spent, budget.unit), budget.unit)
    text = (
        f"The budget of {user} at this gateway is spent: {spent} of {budget}. It resets at "
        f"{state.resets_at} (in {format_duration(state.seconds)}). To continue before that, ask "
        "the owner of the gateway to raise it in users.toml"
    )
    end = str(math.ceil(state.end))
    # Without -representative-claim and -overage-status: with them Claude Code shows its own text.
    headers = (
        (f"{_PREFIX}status", "rejected"),
        (f"{_PREFIX}reset", end),
        (f"{_PREFIX}overage-reset", end),
        (f"{_PREFIX}overage-utilization", "1"),
        (f"{_PREFIX}overage-surpassed-threshold", "1"),
        (f"{_PREFIX}overage-period", _PERIODS[budget.period]),
        (REFUSED_HEADER, "org_spend_cap_reached"),
    )
    return Problem(
        "billing_error",
        text,
        status=429,
        retry_after=math.ceil(state.seconds),
        should_retry=False,
        headers=headers,
    )


def spending_report(states: Iterable[tuple[BudgetState, str]]) -> Mapping[str, Any] | None:
    """
    Return the body of `GET /api/oauth/usage`; None if no budget is in dollars.

    Each state comes with the ISO 8601 time at which it ends.
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
