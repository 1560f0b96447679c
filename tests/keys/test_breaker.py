"""The breaker: when it opens, who may probe, when it closes."""

from __future__ import annotations

import pytest

from ccproxy.errors import Problem
from ccproxy.keys.breaker import Breaker


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return Breaker("Kimi", clock=clock)


def fail(breaker, times=1):
    for _ in range(times):
        breaker.failed(breaker.enter(), "500: oops")


def succeed(breaker, times=1):
    for _ in range(times):
        breaker.succeeded(breaker.enter())


def is_open(breaker):
    try:
        breaker.left(breaker.enter())
    except Problem:
        return True
    return False


def test_five_in_a_row_open_it(breaker):
    fail(breaker, 4)
    assert not is_open(breaker)
    fail(breaker)
    assert is_open(breaker)
    assert not breaker.is_closed


def test_a_closed_one_is_open_for_no_time(breaker):
    fail(breaker, 4)
    assert breaker.seconds_open == 0


def test_a_success_between_starts_the_count_again(breaker):
    fail(breaker, 4)
    succeed(breaker)
    fail(breaker, 4)
    assert not is_open(breaker)


@pytest.mark.parametrize(
    ("story", "opens"),
    [
        pytest.param("sfsfsfsfsf", True, id="half of ten"),
        pytest.param("sfsfsfsff", False, id="nine are not enough"),
        pytest.param("ssfsfsfsfsf", False, id="less than half"),
        pytest.param("sssssffffsffff", True, id="half of more"),
        pytest.param("ffffsffffsf", True, id="most of ten"),
    ],
)
def test_half_of_ten_within_thirty_seconds_opens_it(breaker, story, opens):
    for letter in story:
        if breaker.is_closed:
            (fail if letter == "f" else succeed)(breaker)
    assert is_open(breaker) is opens


def test_what_opened_it_is_told(breaker):
    for letter in "sfsfsfsfsf":
        (fail if letter == "f" else succeed)(breaker)
    with pytest.raises(Problem, match=r"Kimi fails \(5 of the last 10 requests\)"):
        breaker.enter()


def test_what_is_older_than_thirty_seconds_does_not_count(breaker, clock):
    for _ in range(4):
        succeed(breaker)
        fail(breaker)
    clock.now += 31
    succeed(breaker)
    fail(breaker)
    assert not is_open(breaker)


def test_an_open_one_answers_at_once_with_the_truth(breaker, clock):
    fail(breaker, 5)
    clock.now += 2.5
    with pytest.raises(Problem) as caught:
        breaker.enter()
    problem = caught.value
    assert (problem.kind, problem.status) == ("overloaded_error", 529)
    assert (problem.retry_after, problem.should_retry) == (8, None)
    assert "Kimi fails (5 requests in a row)" in problem.message
    assert problem.message.endswith("500: oops")
    assert breaker.seconds_open == 7.5


def test_one_probe_after_ten_seconds(breaker, clock):
    fail(breaker, 5)
    clock.now += 9.9
    assert is_open(breaker)
    clock.now += 0.1
    probe = breaker.enter()
    assert probe.is_probe
    assert is_open(breaker)
    breaker.succeeded(probe)
    assert breaker.is_closed
    fail(breaker, 4)
    assert breaker.is_closed


def test_failed_probes_double_the_time_up_to_two_minutes(breaker, clock):
    fail(breaker, 5)
    waits = []
    for _ in range(6):
        waits.append(breaker.seconds_open)
        clock.now += breaker.seconds_open
        fail(breaker)
    assert waits == [10, 20, 40, 80, 120, 120]


def test_long_waits_are_not_to_be_repeated(breaker, clock):
    fail(breaker, 5)
    for _ in range(3):
        clock.now += breaker.seconds_open
        fail(breaker)
    with pytest.raises(Problem) as caught:
        breaker.enter()
    assert (caught.value.retry_after, caught.value.should_retry) == (80, False)


def test_the_time_is_short_again_after_a_success(breaker, clock):
    fail(breaker, 5)
    clock.now += 10
    fail(breaker)
    clock.now += 20
    succeed(breaker)
    fail(breaker, 5)
    assert breaker.seconds_open == 10


def test_a_probe_whose_client_left_lets_the_next_one_try(breaker, clock):
    fail(breaker, 5)
    clock.now += 10
    breaker.left(breaker.enter())
    assert breaker.enter().is_probe


def test_those_who_left_do_not_count(breaker):
    for _ in range(20):
        breaker.left(breaker.enter())
    fail(breaker, 4)
    assert not is_open(breaker)


def test_late_failures_of_before_do_not_make_it_longer(breaker, clock):
    early = [breaker.enter() for _ in range(10)]
    fail(breaker, 5)
    clock.now += 5
    for ticket in early:
        breaker.failed(ticket, "late")
    assert breaker.seconds_open == 5


def test_one_probe_per_window_under_a_hundred_failures(breaker, clock):
    passed = 0
    for _ in range(1000):  # ten requests a second for 100 s
        try:
            ticket = breaker.enter()
        except Problem:
            pass
        else:
            passed += 1
            breaker.failed(ticket, "503")
        clock.now += 0.1
    assert passed == 5 + 3  # opened by five; probes after 10, 20 and 40 s
