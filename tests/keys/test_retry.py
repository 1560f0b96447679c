"""Retries: as many as configured, with jitter, and at most a fifth of the load."""

from __future__ import annotations

import pytest

from ccproxy.keys.retry import RetryBudget, RetryPlan
from ccproxy.keys.verdict import Effect, Next, Verdict


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def verdict(following, seconds=None):
    return Verdict(effect=Effect.NONE, next=following, seconds=seconds)


FAILED = verdict(Next.REPEAT)


@pytest.fixture
def clock():
    return Clock()


def plan_of(clock, max_retries=2, *, jitter=0.0, budget=None):
    budget = budget or RetryBudget(clock=clock)
    return RetryPlan(max_retries=max_retries, budget=budget, jitter=lambda: jitter)


@pytest.mark.parametrize("retries", [0, 1, 2, 5])
def test_max_retries_is_exact(clock, retries):
    plan = plan_of(clock, retries)
    assert [plan.after(FAILED).again for _ in range(retries + 1)] == [True] * retries + [False]


def test_the_delay_doubles_up_to_eight_seconds(clock):
    plan = plan_of(clock, 7)
    assert [plan.after(FAILED).delay for _ in range(7)] == [0.5, 1, 2, 4, 8, 8, 8]


@pytest.mark.parametrize(("jitter", "delay"), [(0.0, 0.5), (0.5, 0.4375), (1.0, 0.375)])
def test_a_quarter_of_the_delay_is_random(clock, jitter, delay):
    assert plan_of(clock, jitter=jitter).after(FAILED).delay == delay


@pytest.mark.parametrize(
    ("seconds", "again"),
    [(0.0, True), (0.2, True), (5.0, True), (5.1, False), (60.0, False)],
)
def test_only_a_short_wait_is_accepted(clock, seconds, again):
    step = plan_of(clock).after(verdict(Next.REPEAT, seconds))
    assert step.again is again
    assert step.delay == (seconds if again else 0.0)


def test_a_switch_of_the_key_does_not_count_as_a_retry(clock):
    plan = plan_of(clock, 1)
    for _ in range(20):
        step = plan.after(verdict(Next.OTHER_KEY))
        assert (step.again, step.other_key, step.delay) == (True, True, 0.0)
    assert plan.after(FAILED).again
    assert not plan.after(FAILED).again


def test_a_permission_error_is_retried_with_one_other_key(clock):
    plan = plan_of(clock)
    first, second = (plan.after(verdict(Next.ONE_OTHER_KEY)) for _ in range(2))
    assert (first.again, first.other_key) == (True, True)
    assert not second.again


def test_permanent_errors_are_not_retried(clock):
    assert not plan_of(clock).after(verdict(Next.END)).again


def test_a_retry_may_use_the_same_key(clock):
    assert not plan_of(clock).after(FAILED).other_key


# The budget for all requests.


def test_ten_retries_in_ten_seconds_are_always_allowed(clock):
    budget = RetryBudget(clock=clock)
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]
    clock.now += 10.1
    assert budget.spend()


def test_a_busy_proxy_may_retry_a_fifth_of_its_requests(clock):
    budget = RetryBudget(clock=clock)
    for _ in range(100):
        budget.count_request()
    assert sum(budget.spend() for _ in range(100)) == 20


def test_old_requests_do_not_count(clock):
    budget = RetryBudget(clock=clock)
    for _ in range(100):
        budget.count_request()
    clock.now += 10.1
    assert sum(budget.spend() for _ in range(100)) == 10


def test_a_dead_provider_gets_at_most_a_fifth_more_requests(clock):
    budget = RetryBudget(clock=clock)
    attempts = 0
    for _ in range(6000):  # 100 a second for a minute
        budget.count_request()
        plan = plan_of(clock, 2, budget=budget)
        attempts += 1
        while plan.after(FAILED).again:
            attempts += 1
        clock.now += 0.01
    assert attempts <= 1.2 * 6000 + 10


def test_an_empty_budget_ends_the_request(clock):
    budget = RetryBudget(clock=clock)
    while budget.spend():
        pass
    assert not plan_of(clock, 2, budget=budget).after(FAILED).again
