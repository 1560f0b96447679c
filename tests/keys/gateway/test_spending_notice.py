"""The headers that report a user's budget to Claude Code."""

from __future__ import annotations

import pytest

from ccproxy.keys.budgets import Budget, BudgetState, to_parts
from ccproxy.keys.gateway.spending_notice import (
    fullest,
    limit_headers,
    spending_report,
    user_refusal,
)

END = 1_796_000_000.25


def state(spent: float, text: str = "5 USD/day", *, reserved: float = 0.0) -> BudgetState:
    budget = Budget.parse(text)
    return BudgetState(
        budget=budget,
        spent=to_parts(spent, budget.unit),
        reserved=to_parts(reserved, budget.unit),
        seconds=3600.0,
        end=END,
        resets_at="2026-11-30 00:00",
    )


@pytest.mark.parametrize(
    ("spent", "status", "used", "threshold"),
    [
        (0.0, "allowed", "0.00", None),
        (3.74, "allowed", "0.74", None),
        (3.75, "allowed_warning", "0.75", "0.75"),
        (4.75, "allowed_warning", "0.95", "0.95"),
        (5.0, "allowed_warning", "0.99", "0.95"),
        (50.0, "allowed_warning", "0.99", "0.95"),
    ],
)
def test_the_notice_begins_at_thresholds(spent, status, used, threshold):
    headers = limit_headers(state(spent))
    prefix = "anthropic-ratelimit-unified-"
    assert headers[f"{prefix}status"] == headers[f"{prefix}overage-status"] == status
    assert headers[f"{prefix}overage-utilization"] == used
    assert headers.get(f"{prefix}overage-surpassed-threshold") == threshold
    assert headers[f"{prefix}reset"] == "1796000001"


def test_the_fullest_budget_counts():
    daily, monthly = state(2.0), state(60.0, "100 USD/month")
    assert fullest([daily, monthly]) is monthly
    assert fullest([]) is None


def test_the_refusal_of_a_spent_budget_names_a_fix():
    problem = user_refusal(state(5.02), user="anna")
    assert (problem.kind, problem.status, problem.should_retry) == ("billing_error", 429, False)
    assert problem.retry_after == 3600
    assert problem.message == (
        "The budget of anna at this gateway is spent: 5.02 USD of 5 USD per day. It resets at "
        "2026-11-30 00:00 (in 1h). To continue before that, ask the owner of the gateway to "
        "raise it in users.toml"
    )
    names = {name.removeprefix("anthropic-ratelimit-unified-") for name, _ in problem.headers}
    assert not names & {"representative-claim", "overage-status"}


def test_a_request_is_retried_while_the_budget_is_reserved():
    problem = user_refusal(state(4.0, reserved=1.0), user="anna")
    assert (problem.kind, problem.should_retry) == ("rate_limit_error", True)


def test_the_report_contains_only_budgets_in_dollars():
    states = [
        (state(2.5), "a"),
        (state(90, "100 USD/month"), "b"),
        (state(9, "10 tokens/day"), "c"),
    ]
    report = spending_report(states)
    assert report["extra_usage"]["monthly_limit"] == 10000
    assert report["extra_usage"]["used_credits"] == 9000
    rows = [
        (row["percent"], row["resets_at"], row["severity"], row["is_active"])
        for row in report["limits"]
    ]
    assert rows == [(50, "a", "normal", False), (90, "b", "warning", True)]
    assert spending_report(states[2:]) is None
