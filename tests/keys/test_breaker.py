"""The breakers: when they open, which request is the probe, and when they close."""

from __future__ import annotations

import pytest

from ccproxy.errors import Problem
from ccproxy.keys.breaker import OUTAGE_PATIENCE, Breaker, Breakers, OpenBreaker


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
        breaker.fail(breaker.enter(), "500: oops")


def succeed(breaker, times=1):
    for _ in range(times):
        breaker.succeed(breaker.enter())


def is_open(breaker):
    try:
        breaker.abandon(breaker.enter())
    except Problem:
        return True
    return False


def test_five_failures_in_a_row_open_the_breaker(breaker):
    fail(breaker, 4)
    assert not is_open(breaker)
    fail(breaker)
    assert is_open(breaker)
    assert not breaker.is_closed


def test_a_closed_breaker_has_no_wait(breaker):
    fail(breaker, 4)
    assert breaker.seconds_open == 0


def test_a_success_resets_the_count(breaker):
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
def test_half_of_ten_requests_failing_within_thirty_seconds_opens_the_breaker(
    breaker, story, opens
):
    for letter in story:
        if breaker.is_closed:
            (fail if letter == "f" else succeed)(breaker)
    assert is_open(breaker) is opens


def test_the_refusal_names_the_failures(breaker):
    for letter in "sfsfsfsfsf":
        (fail if letter == "f" else succeed)(breaker)
    with pytest.raises(Problem, match=r"Kimi is failing \(5 of the last 10 requests\)"):
        breaker.enter()


def test_results_older_than_thirty_seconds_do_not_count(breaker, clock):
    for _ in range(4):
        succeed(breaker)
        fail(breaker)
    clock.now += 31
    succeed(breaker)
    fail(breaker)
    assert not is_open(breaker)


def test_an_open_breaker_refuses_with_count_wait_and_last_error(breaker, clock):
    fail(breaker, 5)
    clock.now += 2.5
    with pytest.raises(Problem) as caught:
        breaker.enter()
    problem = caught.value
    assert (problem.kind, problem.status) == ("overloaded_error", 529)
    assert (problem.retry_after, problem.should_retry) == (8, None)
    assert "Kimi is failing (5 requests in a row)" in problem.message
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
    breaker.succeed(probe)
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


def test_clients_do_not_retry_after_a_long_wait(breaker, clock):
    fail(breaker, 5)
    for _ in range(3):
        clock.now += breaker.seconds_open
        fail(breaker)
    with pytest.raises(Problem) as caught:
        breaker.enter()
    assert (caught.value.retry_after, caught.value.should_retry) == (80, False)


def test_a_success_resets_the_wait(breaker, clock):
    fail(breaker, 5)
    clock.now += 10
    fail(breaker)
    clock.now += 20
    succeed(breaker)
    fail(breaker, 5)
    assert breaker.seconds_open == 10


def test_an_abandoned_probe_lets_the_next_request_probe(breaker, clock):
    fail(breaker, 5)
    clock.now += 10
    breaker.abandon(breaker.enter())
    assert breaker.enter().is_probe


def test_abandoned_requests_do_not_count(breaker):
    for _ in range(20):
        breaker.abandon(breaker.enter())
    fail(breaker, 4)
    assert not is_open(breaker)


def test_late_failures_of_earlier_requests_do_not_extend_the_wait(breaker, clock):
    early = [breaker.enter() for _ in range(10)]
    fail(breaker, 5)
    clock.now += 5
    for ticket in early:
        breaker.fail(ticket, "late")
    assert breaker.seconds_open == 5


def test_one_probe_per_window_under_a_hundred_failures(breaker, clock):
    forwarded = 0
    for _ in range(1000):  # ten requests a second for 100 s
        try:
            ticket = breaker.enter()
        except Problem:
            pass
        else:
            forwarded += 1
            breaker.fail(ticket, "503")
        clock.now += 0.1
    assert forwarded == 5 + 3  # opened by five failures; probes after 10, 20 and 40 s


# One breaker per model, and one for connections.


@pytest.fixture
def breakers(clock):
    return Breakers("Kimi", clock=clock)


def lose_connection(breakers, times=1, *, model="big"):
    for _ in range(times):
        breakers.lose_connection(breakers.enter(model), "connection refused")


def refusal(breakers, model):
    try:
        breakers.abandon(breakers.enter(model))
    except Problem as problem:
        return problem
    return None


def test_a_failing_model_does_not_stop_the_others(breakers):
    for _ in range(5):
        breakers.fail(breakers.enter("big"), "500: oops")
    assert "big at Kimi is failing (5 requests in a row)" in refusal(breakers, "big").message
    assert refusal(breakers, "small") is None
    assert breakers.open() == [OpenBreaker(model="big", seconds=10.0)]


def test_failed_connections_stop_all_models(breakers):
    lose_connection(breakers, 3, model="big")
    lose_connection(breakers, 2, model="small")
    for model in ("big", "small", "other"):
        assert "Kimi is failing" in refusal(breakers, model).message
    assert breakers.open() == [OpenBreaker(model=None, seconds=5.0)]


def test_after_an_outage_of_any_length_the_next_attempt_is_within_ten_seconds(breakers, clock):
    lose_connection(breakers, 5)
    for _ in range(240):  # four minutes, a request per second
        if (problem := refusal(breakers, "big")) is None:
            lose_connection(breakers)
        else:
            assert problem.retry_after <= 10
        clock.now += 1
    clock.now += 10
    ticket = breakers.enter("big")
    breakers.succeed(ticket)
    assert breakers.open() == []


def test_clients_retry_in_a_short_outage_and_stop_in_a_long_one(breakers, clock):
    breakers.succeed(breakers.enter("big"))
    for _ in range(int(OUTAGE_PATIENCE)):
        if (problem := refusal(breakers, "big")) is None:
            assert breakers.lose_connection(breakers.enter("big"), "connection refused")
        else:
            assert problem.should_retry is None
        clock.now += 1
    assert refusal(breakers, "big").should_retry is False
    clock.now += 5
    assert not breakers.lose_connection(breakers.enter("big"), "connection refused")
    clock.now += 5
    breakers.succeed(breakers.enter("big"))
    assert breakers.lose_connection(breakers.enter("big"), "connection refused")


def test_clients_do_not_retry_at_a_provider_that_was_never_reached(breakers):
    for _ in range(5):
        assert not breakers.lose_connection(breakers.enter("big"), "connection refused")
    assert refusal(breakers, "big").should_retry is False


def test_failures_of_a_provider_that_responds_may_be_retried(breakers):
    for _ in range(5):
        breakers.fail(breakers.enter("big"), "500")
    assert refusal(breakers, "big").should_retry is None


def test_a_failed_connection_does_not_count_for_a_model(breakers, clock):
    lose_connection(breakers, 5)
    clock.now += 5
    breakers.fail(breakers.enter("big"), "500")
    assert refusal(breakers, "big") is None
    assert breakers.open() == []


def test_a_refusal_of_the_model_lets_the_next_request_probe_the_connection(breakers, clock):
    for _ in range(5):
        breakers.fail(breakers.enter("big"), "500")
    lose_connection(breakers, 5, model="small")
    clock.now += 5
    assert "big at Kimi" in refusal(breakers, "big").message
    assert refusal(breakers, "small") is None


def test_the_memory_for_models_is_bounded(breakers):
    for _ in range(5):
        breakers.fail(breakers.enter("big"), "500")
    for number in range(1000):
        breakers.succeed(breakers.enter(f"m{number}"))
    assert len(breakers._models) == 256
    assert refusal(breakers, "big") is not None, "an open breaker is kept"
