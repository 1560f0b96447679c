"""Budgets: their notation, their accounting and their messages."""

from __future__ import annotations

import pytest

from ccproxy.keys.budgets import (
    Budget,
    BudgetState,
    format_amount,
    from_parts,
    to_parts,
)


@pytest.mark.parametrize(
    ("text", "limit", "unit", "period"),
    [
        pytest.param("5 USD/day", 5, "USD", "day", id="currency"),
        pytest.param("$5/day", 5, "USD", "day", id="dollar sign"),
        pytest.param("$ 2.50 per month", 2.5, "USD", "month", id="per"),
        pytest.param("$5 usd/day", 5, "USD", "day", id="sign and code"),
        pytest.param("30cny/month", 30, "CNY", "month", id="lower case, no space"),
        pytest.param("500k tokens/day", 500_000, "tokens", "day", id="thousands"),
        pytest.param(" 2.5M tokens / day ", 2_500_000, "tokens", "day", id="millions"),
        pytest.param("1 token/day", 1, "tokens", "day", id="singular"),
    ],
)
def test_a_budget_is_read(text, limit, unit, period):
    budget = Budget.parse(text)
    assert (budget.limit, budget.unit, budget.period) == (limit, unit, period)


@pytest.mark.parametrize(
    "text",
    ["", "5", "5/day", "5 USD", "5 USD/week", "-5 USD/day", "0 USD/day", "x USD/day",
     "$5 EUR/day", "5 dollars/day", "5 dollar/day", "1e9 USD/day",
     "0.4 tokens/day", "9" * 13 + " USD/day"],
)  # fmt: skip
def test_invalid_budgets_are_rejected(text):
    with pytest.raises(ValueError, match=r"^must be"):
        Budget.parse(text)


@pytest.mark.parametrize(
    ("client", "key", "applies"),
    [("", "ccp_abcd", False), ("*", "ccp_abcd", False), ("abcd", "ccp_abcd", True),
     ("abcd", "ccp_abce", False)],
)  # fmt: skip
def test_a_client_is_named_by_the_end_of_its_key(client, key, applies):
    assert Budget.parse("1 USD/day", client=client).applies_to(key) is applies


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [(5, "USD", "5 USD"), (4.98, "USD", "4.98 USD"), (0.0123, "USD", "0.0123 USD"),
     (0, "CNY", "0 CNY"), (1234, "EUR", "1,234 EUR"), (999, "tokens", "999 tokens"),
     (1500, "tokens", "1.5k tokens"), (2_499_999, "tokens", "2.49M tokens")],
)  # fmt: skip
def test_amounts_are_formatted_for_people(amount, unit, text):
    assert format_amount(amount, unit) == text


@pytest.mark.parametrize(("amount", "unit"), [(0.1, "USD"), (0.000000007, "CNY"), (12, "tokens")])
def test_counting_loses_nothing(amount, unit):
    assert from_parts(to_parts(amount, unit), unit) == amount


def state(spent: float, reserved: float = 0.0) -> BudgetState:
    return BudgetState(
        budget=Budget.parse("5 USD/day"),
        spent=to_parts(spent, "USD"),
        reserved=to_parts(reserved, "USD"),
        seconds=3599.5,
        end=1796000000.0,
        resets_at="2026-11-30 00:00",
    )


@pytest.mark.parametrize(
    ("spent", "reserved", "is_spent", "is_reserved"),
    [(4.99, 0.0, False, False), (5.0, 0.0, True, True), (4.0, 1.0, False, True)],
)
def test_the_rest_of_a_budget(spent, reserved, is_spent, is_reserved):
    one = state(spent, reserved)
    assert (one.is_spent, one.is_reserved) == (is_spent, is_reserved)
    assert one.share == pytest.approx(spent / 5)


def test_a_spent_budget_is_explained():
    problem = state(5.02).refusal(label="kimi", who="", setting="BUDGET", env_file="envs/kimi.env")
    assert (problem.kind, problem.status, problem.should_retry) == ("billing_error", 429, False)
    assert problem.retry_after == 3600
    assert problem.message == (
        "The budget of the proxy kimi is spent: 5.02 USD of 5 USD per day. It resets at "
        "2026-11-30 00:00 (in 59m 59s). To continue before that, raise BUDGET in envs/kimi.env "
        "and run: ccproxy reload kimi. Or use another proxy"
    )


def test_a_request_is_retried_while_the_budget_is_reserved():
    problem = state(4.0, 1.0).refusal(
        label="kimi", who="…k3y1", setting="CLIENT_BUDGETS", env_file=""
    )
    assert (problem.kind, problem.status, problem.should_retry) == ("rate_limit_error", 429, True)
    assert "the client key …k3y1 on the proxy kimi" in problem.message
    assert "in flight" in problem.message
    spent = state(9).refusal(label="kimi", who="", setting="BUDGET", env_file="")
    assert "raise BUDGET and run" in spent.message
