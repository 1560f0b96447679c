"""
The rules of the key pool, each tested with every backend.

A new backend must be added to `BACKENDS` and pass all tests.
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy.convert.errors.causes import Cause
from ccproxy.errors import Problem
from ccproxy.keys.account_report import AccountReport, PlanWindow
from ccproxy.keys.backends.backend import LocalBackend
from ccproxy.keys.backends.shared_memory import SharedMemoryBackend
from ccproxy.keys.display import AccountLimitView
from ccproxy.keys.key_selection import salted_name
from ccproxy.keys.key_state import KeyLimits
from ccproxy.keys.pool import KeyPool
from ccproxy.keys.verdict import WORKS, Effect, Next, Verdict
from tests.redis_server import CommittingBackend

KEYS = [f"sk-a-key-of-some-length-{letter * 4}" for letter in "abcdefghij"]
SALT = b"salt"
MODEL = "big"


class Clock:
    """A clock that tests set; its wall clock differs from the monotonic clock."""

    backend = LocalBackend

    def __init__(self):
        self.now = 500.0

    def __call__(self):
        return self.now

    def wall(self):
        return 1_700_000_000.0 + self.now


def refusal(cause, *, effect, status, seconds=None, account=False, per_model=False, error=""):
    return Verdict(
        effect=effect,
        next=Next.OTHER_KEY,
        cause=cause,
        status=status,
        seconds=seconds,
        may_be_account_wide=account,
        is_per_model=per_model,
        error_text=error,
    )


def limited(seconds=None, *, account=False):
    return refusal(
        Cause.RATE_LIMIT,
        effect=Effect.COOLDOWN,
        status=429,
        seconds=seconds,
        account=account,
        per_model=True,
    )


def rejected():
    return refusal(Cause.BAD_KEY, effect=Effect.REJECTED, status=401)


def no_credit(seconds=None):
    return refusal(Cause.OUT_OF_CREDIT, effect=Effect.OUT, status=402, seconds=seconds)


PROVIDER_FAILED = Verdict(effect=Effect.NONE, next=Next.REPEAT, provider_failed=True)


BACKENDS = {
    "in process": lambda folder, redis: LocalBackend(),
    "shared memory": lambda folder, redis: SharedMemoryBackend(folder),
    "redis": lambda folder, redis: CommittingBackend(redis(), str(folder), rival=False),
    "redis with a rival": lambda folder, redis: CommittingBackend(redis(), str(folder), rival=True),
}


@pytest.fixture(params=BACKENDS)
def clock(request, tmp_path):
    """Return a clock; pools that use it get the backend of the parameter."""
    clock = Clock()
    made = []

    def redis():
        return request.getfixturevalue("redis_server").address

    def backend():
        made.append(BACKENDS[request.param](tmp_path / f"pool{len(made)}", redis))
        return made[-1]

    clock.backend = backend  # type: ignore[assignment]
    yield clock
    for one in made:
        if isinstance(one, (SharedMemoryBackend, CommittingBackend)):
            one.close()


def pool_of(clock, count=3, *, limits=None, command=""):
    return KeyPool(
        KEYS[:count],
        provider="Kimi",
        clock=clock,
        wall=clock.wall,
        jitter=lambda: 0.5,
        limits=limits or KeyLimits(),
        command=command,
        backend=clock.backend(),
    )


@pytest.fixture
def pool(clock):
    return pool_of(clock)


def use(pool, verdict, *, model=MODEL, skip=()):
    """Lease a key, apply *verdict*, and return the lease; return the key's id."""
    lease = pool.take(model, skip=skip)
    pool.settle(lease, verdict)
    pool.release(lease)
    return lease.id


def use_key(pool, key_id, verdict, *, model=MODEL):
    others = {key.id for key in pool.snapshot()} - {key_id}
    return use(pool, verdict, model=model, skip=others)


def turns(pool, count, *, model=MODEL):
    return [use(pool, WORKS, model=model) for _ in range(count)]


def refused(pool, *, model=MODEL):
    with pytest.raises(Problem) as caught:
        pool.take(model)
    return caught.value


# The order of keys.


def test_sequential_requests_rotate(pool):
    assert turns(pool, 7) == ["k1", "k2", "k3", "k1", "k2", "k3", "k1"]


def test_3000_sequential_requests_use_each_key_a_thousand_times(pool):
    assert Counter(turns(pool, 3000)) == {"k1": 1000, "k2": 1000, "k3": 1000}


def test_a_lease_is_returned_once(pool):
    lease = pool.take(MODEL)
    pool.take_key(lease.id, MODEL)
    pool.release(lease)
    pool.release(lease)
    assert pool.snapshot()[0].in_flight == 1


def test_the_least_busy_key_comes_first(pool):
    first, second, third = (pool.take(MODEL) for _ in range(3))
    pool.release(second)
    assert pool.take(MODEL).id == second.id
    assert {first.id, third.id} == {"k1", "k3"}


def test_a_repeated_key_is_one_key(clock):
    pool = KeyPool(
        [KEYS[0], KEYS[0]], provider="x", clock=clock, wall=clock.wall, jitter=lambda: 0.5
    )
    assert len(pool) == 1


def test_a_hundred_at_once_are_fair_within_five_percent(pool):
    chance = random.Random(7)
    running, used = [], Counter()
    for _ in range(3000):
        if len(running) >= 100:
            lease = running.pop(chance.randrange(len(running)))
            pool.settle(lease, WORKS)
            pool.release(lease)
        running.append(pool.take(MODEL))
        used[running[-1].id] += 1
        busy = [key.in_flight for key in pool.snapshot()]
        assert max(busy) - min(busy) < 3
    assert all(950 <= count <= 1050 for count in used.values())


# The effect of a refusal on a key.


@pytest.mark.parametrize(
    ("verdict", "seconds"),
    [
        pytest.param(limited(41.5), 41.5, id="a stated time"),
        pytest.param(limited(7200.0), 3600.0, id="stated too long: an hour"),
        pytest.param(limited(), 5.0, id="no stated time"),
        pytest.param(rejected(), 60.0, id="bad key"),
        pytest.param(no_credit(), 3600.0, id="no credit"),
        pytest.param(no_credit(18_000.0), 18_000.0, id="a plan's reset"),
        pytest.param(no_credit(2_600_000.0), 86_400.0, id="a reset next month: a day"),
        pytest.param(no_credit(2.0), 3600.0, id="no plan resets in two seconds"),
    ],
)
def test_a_cooldown_lasts_exactly_as_long_as_it_should(pool, clock, verdict, seconds):
    use_key(pool, "k1", verdict)
    assert set(turns(pool, 4)) == {"k2", "k3"}
    clock.now += seconds - 0.001
    assert "k1" not in turns(pool, 4)
    clock.now += 0.002
    assert "k1" in turns(pool, 2)


@pytest.mark.parametrize(
    ("verdict", "steps"),
    [
        pytest.param(limited(), [5, 10, 20, 40, 80, 160, 300, 300], id="rate limit"),
        pytest.param(rejected(), [60, 600, 3600, 3600], id="bad key"),
        pytest.param(no_credit(), [3600, 7200, 14400, 28800, 57600, 86400, 86400], id="no credit"),
    ],
)
def test_cooldowns_grow_with_every_failed_probe(pool, clock, verdict, steps):
    for step in steps:
        use_key(pool, "k1", verdict)
        (cooldown,) = pool.snapshot()[0].cooldowns
        assert cooldown.seconds == pytest.approx(step)
        clock.now += step + 0.1


def test_a_success_makes_the_next_cooldown_short_again(pool, clock):
    for _ in range(3):
        use_key(pool, "k1", limited())
        clock.now += 1000
    use_key(pool, "k1", WORKS)
    use_key(pool, "k1", limited())
    assert pool.snapshot()[0].cooldowns[0].seconds == pytest.approx(5.0)


def test_many_refusals_at_once_count_as_one(pool):
    leases = [pool.take(MODEL, skip={"k2", "k3"}) for _ in range(20)]
    for lease in leases:
        pool.settle(lease, limited())
        pool.release(lease)
    assert pool.snapshot()[0].cooldowns[0].seconds == pytest.approx(5.0)


def test_a_late_success_does_not_end_a_cooldown(pool):
    early = pool.take(MODEL, skip={"k2", "k3"})
    use_key(pool, "k1", limited(30.0))
    pool.settle(early, WORKS)
    assert set(turns(pool, 4)) == {"k2", "k3"}


def test_a_rate_limit_applies_to_one_model(pool):
    use_key(pool, "k1", limited(30.0))
    assert "k1" in turns(pool, 3, model="small")
    assert "k1" not in turns(pool, 3)


@pytest.mark.parametrize("verdict", [rejected(), no_credit()])
def test_a_rejection_and_missing_credit_apply_to_the_whole_key(pool, verdict):
    use_key(pool, "k1", verdict)
    assert "k1" not in turns(pool, 3, model="small")


def test_failures_of_the_provider_do_not_change_the_key(pool):
    for _ in range(50):
        use_key(pool, "k1", PROVIDER_FAILED)
        use_key(pool, "k1", WORKS)
    assert pool.counts() == (3, 3)


def test_jitter_spreads_the_cooldowns(clock):
    result = set()
    for jitter in (0.0, 0.5, 1.0):
        pool = KeyPool(
            KEYS[:2],
            provider="x",
            clock=clock,
            wall=clock.wall,
            jitter=lambda jitter=jitter: jitter,
        )
        use_key(pool, "k1", limited())
        result.add(round(pool.snapshot()[0].cooldowns[0].seconds, 3))
    assert result == {4.5, 5.0, 5.5}


# Half open.


def test_a_key_after_its_cooldown_is_probed_by_one_request_at_a_time(pool, clock):
    use_key(pool, "k1", limited(5.0))
    clock.now += 5
    probe = pool.take(MODEL, skip={"k2", "k3"})
    assert {pool.take(MODEL).id for _ in range(6)} == {"k2", "k3"}
    pool.settle(probe, WORKS)
    pool.release(probe)
    assert pool.take(MODEL).id == "k1"


def test_a_probe_that_fails_for_another_reason_lets_the_next_request_try(pool, clock):
    use_key(pool, "k1", limited(5.0))
    clock.now += 5
    assert use_key(pool, "k1", PROVIDER_FAILED) == "k1"
    assert pool.take(MODEL, skip={"k2", "k3"}).id == "k1"


def test_a_probe_whose_client_disconnects_lets_the_next_request_try(pool, clock):
    use_key(pool, "k1", limited(5.0))
    clock.now += 5
    pool.release(pool.take(MODEL, skip={"k2", "k3"}))
    assert pool.take(MODEL, skip={"k2", "k3"}).id == "k1"


# A pool of one.


@pytest.mark.parametrize("verdict", [limited(60.0), limited(account=True), rejected(), no_credit()])
def test_the_only_key_never_cools_down(clock, verdict):
    pool = pool_of(clock, 1)
    for _ in range(5):
        assert use(pool, verdict) == "k1"
    assert pool.counts() == (0, 1)
    assert use(pool, WORKS) == "k1"
    assert pool.counts() == (1, 1)


def test_the_last_key_that_is_not_disabled_is_an_only_key(clock):
    pool = pool_of(clock, 2)
    pool.disable("k2")
    assert pool.has_one_key
    use(pool, limited(60.0))
    assert use(pool, WORKS) == "k1"


# A limit of the account or address.


def test_limits_on_three_keys_in_a_row_belong_to_the_account(clock):
    pool = pool_of(clock, 10)
    leased = [use(pool, limited(12.0, account=True)) for _ in range(3)]
    assert leased == ["k1", "k2", "k3"]
    problem = refused(pool)
    assert (problem.status, problem.retry_after) == (429, 12)
    assert "limits this address or account for big" in problem.message
    assert "12 s" in problem.message
    assert pool.counts() == (10, 10)
    assert pool.account_limits() == (AccountLimitView(model=MODEL, seconds=12.0),)


def limit_account(pool, *, model=MODEL, seconds=None):
    for _ in range(3):
        use(pool, limited(seconds, account=True), model=model)


@pytest.mark.parametrize("seconds", [None, 12.0, 3000.0])
def test_an_account_limit_holds_for_the_model_that_has_it(clock, seconds):
    pool = pool_of(clock, 3)
    limit_account(pool, model="small", seconds=seconds)
    assert "for small" in refused(pool, model="small").message
    assert turns(pool, 3) == ["k1", "k2", "k3"]
    assert [limit.model for limit in pool.account_limits()] == ["small"]


def test_an_account_limit_holds_for_all_models_once_a_second_one_is_refused(clock):
    pool = pool_of(clock, 3)
    limit_account(pool, model="small", seconds=60.0)
    use(pool, limited(30.0, account=True))
    assert {limit.model for limit in pool.account_limits()} == {None, "small", MODEL}
    problem = refused(pool, model="third")
    assert "limits this address or account, regardless of the key" in problem.message
    assert problem.retry_after == 30
    clock.now += 31
    assert use(pool, WORKS, model="third")
    assert "for small" in refused(pool, model="small").message, "its own limit lasts"
    assert use(pool, WORKS)


def test_limits_of_two_models_at_different_times_are_separate(clock):
    pool = pool_of(clock, 3)
    limit_account(pool, model="small", seconds=10.0)
    clock.now += 11
    limit_account(pool, seconds=10.0)
    assert [limit.model for limit in pool.account_limits()] == [MODEL]
    assert use(pool, WORKS, model="small")


def test_a_success_with_another_model_does_not_count(clock):
    pool = pool_of(clock, 3)
    use(pool, WORKS, model="large")
    limit_account(pool, model="small")
    assert [limit.model for limit in pool.account_limits()] == ["small"]


def test_an_account_limit_is_probed_by_requests_for_its_model(clock):
    pool = pool_of(clock, 3)
    limit_account(pool, model="small", seconds=10.0)
    clock.now += 11
    probe = pool.take("small")
    assert turns(pool, 3), "another model does not wait for the probe"
    refused(pool, model="small")
    pool.settle(probe, WORKS)
    pool.release(probe)
    assert use(pool, WORKS, model="small")
    assert pool.account_limits() == ()


@pytest.mark.parametrize(
    "error",
    [
        "Rate limit reached for big in organization org-1 on tokens per min (TPM)",
        "Rate limit reached for BIG",
    ],
)
def test_a_limit_that_names_the_model_never_belongs_to_the_account(clock, error):
    pool = pool_of(clock, 4)
    for _ in range(3):
        use(pool, replace(limited(30.0, account=True), error_text=error))
    assert pool.account_limits() == ()
    assert use(pool, WORKS) == "k4"


def test_a_limited_account_is_probed_every_five_seconds(clock):
    pool = pool_of(clock, 5)
    limit_account(pool)
    for _ in range(4):
        clock.now += 4.9
        refused(pool)
        clock.now += 0.2
        probe = pool.take(MODEL)
        refused(pool)
        pool.settle(probe, limited(account=True))
        pool.release(probe)
        assert pool.counts() == (5, 5)
    clock.now += 5.1
    use(pool, WORKS)
    assert pool.account_limits() == ()
    assert len(set(turns(pool, 5))) == 5


def test_an_account_probe_whose_client_disconnects_lets_the_next_request_probe(clock):
    pool = pool_of(clock, 3)
    limit_account(pool)
    clock.now += 6
    pool.release(pool.take(MODEL))
    assert pool.take(MODEL)


def test_a_probe_that_ends_after_its_limit_changes_nothing(clock):
    pool = pool_of(clock, 3)
    earlier = pool.take(MODEL)
    limit_account(pool)
    clock.now += 6
    probe = pool.take(MODEL)
    pool.settle(earlier, WORKS)
    assert pool.account_limits() == ()
    pool.release(probe)
    assert pool.counts() == (3, 3)


def test_models_with_a_success_or_an_account_limit_are_bounded(clock):
    """Clients may request any number of models."""
    pool = pool_of(clock, 3)
    names = [f"model-{number}" for number in range(258)]
    for name in names:
        use(pool, WORKS, model=name)
    clock.now += 3600
    leases = [pool.take(name) for name in names for _ in range(3)]
    for lease in leases:
        pool.settle(lease, limited(60.0, account=True))
        pool.release(lease)
    limits = {limit.model for limit in pool.account_limits()}
    assert len(limits) == 256
    assert None in limits, "the limit of the whole account is kept"
    assert names[-1] in limits


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(lambda pool, clock: use(pool, WORKS), id="a request succeeded just now"),
        pytest.param(lambda pool, clock: use(pool, limited(60.0)), id="the first was a key's"),
    ],
)
def test_keys_cool_down_one_by_one_if_the_account_is_not_limited(clock, prepare):
    pool = pool_of(clock, 4)
    prepare(pool, clock)
    use(pool, limited(30.0, account=True))
    use(pool, limited(30.0, account=True))
    assert pool.account_limits() == ()
    assert pool.counts()[0] <= 2


def test_limits_that_are_far_apart_belong_to_the_keys(clock):
    pool = pool_of(clock, 4)
    for _ in range(3):
        use(pool, limited(60.0, account=True))
        clock.now += 2.5
    assert pool.account_limits() == ()
    assert pool.counts() == (1, 4)


def test_repeated_limits_of_one_key_do_not_belong_to_the_account(clock):
    pool = pool_of(clock, 4)
    for _ in range(5):
        use_key(pool, "k1", limited(0.0, account=True))
    assert pool.account_limits() == ()


def test_a_limit_of_the_account_cools_down_no_key(clock):
    pool = pool_of(clock, 3)
    limit_account(pool)
    assert [key.state for key in pool.snapshot()] == ["ready"] * 3


# The user's limits.


def test_in_flight(clock):
    pool = pool_of(clock, 2, limits=KeyLimits(in_flight=2))
    leases = [pool.take(MODEL) for _ in range(4)]
    assert pool.is_full(MODEL)
    problem = refused(pool)
    assert (problem.status, problem.retry_after) == (429, 1)
    assert "in flight" in problem.message
    pool.release(leases[2])
    assert not pool.is_full(MODEL)
    assert pool.take(MODEL).id == leases[2].id


def test_a_pool_of_cooling_keys_is_not_full(pool):
    for key in ("k1", "k2", "k3"):
        use_key(pool, key, limited(30.0))
    assert not pool.is_full(MODEL)


def test_an_inspection_of_a_key_is_not_a_use(clock):
    pool = pool_of(clock, 2, limits=KeyLimits(per_day=1))
    assert [pool.peek(MODEL) for _ in range(3)] == [KEYS[0]] * 3
    use(pool, WORKS)
    assert pool.peek(MODEL) == KEYS[1]
    use(pool, WORKS)
    assert pool.peek(MODEL) is None


def test_per_minute(clock):
    pool = pool_of(clock, 1, limits=KeyLimits(per_minute=3))
    for _ in range(3):
        use(pool, WORKS)
        clock.now += 10
    problem = refused(pool)
    assert (problem.status, problem.retry_after) == (429, 30)
    clock.now += 30
    use(pool, WORKS)
    assert refused(pool).retry_after == 10


def test_a_use_that_did_not_reach_the_provider_is_not_counted(clock):
    pool = pool_of(clock, 1, limits=KeyLimits(per_day=1, per_minute=1))
    lost = Verdict(effect=Effect.NONE, next=Next.REPEAT, is_unreachable=True)
    for _ in range(3):
        use(pool, lost)
    assert pool.snapshot()[0].used_today == 0
    use(pool, WORKS)
    assert refused(pool).status == 429


def test_per_day_ends_at_midnight(clock):
    clock.now = 0.0
    pool = pool_of(clock, 1, limits=KeyLimits(per_day=2))
    turns(pool, 2)
    problem = refused(pool)
    midnight = 86400 - 1_700_000_000 % 86400
    assert (problem.retry_after, problem.should_retry) == (midnight, False)
    (view,) = pool.snapshot()
    assert (view.used_today, view.state, pool.counts()) == (2, "cooldown", (0, 1))
    assert [(one.cause, one.seconds) for one in view.cooldowns] == [("per_day", midnight)]
    clock.now += midnight
    (view,) = pool.snapshot()
    assert (view.used_today, view.state, view.cooldowns) == (0, "ready", ())
    use(pool, WORKS)


# The error if no key is available.


def exhaust(pool, *verdicts):
    for number, verdict in enumerate(verdicts, start=1):
        use_key(pool, f"k{number}", verdict)
    return refused(pool)


def test_if_all_keys_are_limited_the_error_states_the_first_return(pool):
    problem = exhaust(pool, limited(40.2), limited(12.1), limited(30.0))
    assert (problem.kind, problem.status) == ("rate_limit_error", 429)
    assert (problem.retry_after, problem.should_retry) == (13, None)
    assert "all 3 keys of Kimi are rate-limited (429)" in problem.message


def test_clients_do_not_retry_after_a_wait_that_is_too_long(pool):
    problem = exhaust(pool, limited(90.0), limited(80.0), limited(70.0))
    assert (problem.retry_after, problem.should_retry) == (70, False)


def test_all_rejected(pool):
    problem = exhaust(pool, rejected(), rejected(), rejected())
    assert (problem.kind, problem.status) == ("authentication_error", 401)
    assert problem.should_retry is False
    assert problem.message == "all 3 keys of Kimi are rejected (401); next attempt in 60 s."


def test_keys_without_credit_name_the_command_that_ends_their_cooldown(clock):
    pool = pool_of(clock, 2, command="ccproxy keys Kimi")
    problem = exhaust(pool, no_credit(), no_credit())
    assert problem.message.endswith("after topping up, run `ccproxy keys Kimi reset`.")


def test_all_out_of_credit(pool):
    problem = exhaust(pool, no_credit(), no_credit(), no_credit())
    assert (problem.kind, problem.status) == ("billing_error", 402)
    assert problem.should_retry is False
    assert "all 3 keys of Kimi are out of credit (402)" in problem.message


def test_mixed_causes_are_counted(pool):
    problem = exhaust(pool, rejected(), limited(20.0), no_credit())
    assert (problem.status, problem.retry_after) == (429, 20)
    for part in ("1 rejected (401)", "1 rate-limited (429)", "1 out of credit (402)"):
        assert part in problem.message


def test_rejected_and_out_of_credit_is_a_billing_error(pool):
    problem = exhaust(pool, rejected(), no_credit(), rejected())
    assert (problem.status, problem.should_retry) == (402, False)


def test_all_disabled(pool):
    for key in pool.snapshot():
        pool.disable(key.id)
    problem = refused(pool)
    assert problem.should_retry is False
    assert problem.message == "all 3 keys of Kimi are disabled by the user."


@pytest.mark.parametrize(
    ("verdicts", "wait"),
    [
        pytest.param([limited(40.2), limited(12.1), limited(30.0)], "13 s", id="rounded up"),
        pytest.param([rejected(), limited(90.0), no_credit()], "60 s", id="the first of any cause"),
        pytest.param([limited(119.5)] * 3, "2 min", id="minutes from two on"),
        pytest.param([limited(200.0)] * 3, "4 min", id="minutes are rounded up too"),
        pytest.param([no_credit(5 * 3600.0)] * 3, "5 h", id="hours"),
    ],
)
def test_the_refusal_states_the_next_attempt(pool, verdicts, wait):
    assert f"; next attempt in {wait}." in exhaust(pool, *verdicts).message


def test_the_command_that_shows_more_is_named(clock):
    pool = pool_of(clock, 2, command="ccproxy keys GLM-4.6")
    assert exhaust(pool, rejected(), rejected()).message == (
        "all 2 keys of Kimi are rejected (401); next attempt in 60 s; see `ccproxy keys GLM-4.6`."
    )


def test_the_providers_error_is_quoted(pool):
    for number in (1, 2, 3):
        use_key(pool, f"k{number}", rejected())
    problem = pool.refusal(MODEL, last=Problem("authentication_error", "Incorrect API key"))
    assert problem.message.endswith("The provider's last answer: Incorrect API key")


@pytest.mark.parametrize(
    ("last", "heard"),
    [
        pytest.param("", "The second.", id="to earlier requests: the last of them"),
        pytest.param("To me.", "To me.", id="to this one"),
    ],
)
def test_later_refusals_quote_the_latest_error(pool, clock, last, heard):
    for number, words in ((1, "The first."), (3, "The third."), (2, "The second.")):
        clock.now += 1.0
        use_key(pool, f"k{number}", replace(no_credit(), error_text=words))
    for _ in range(2):
        latest = Problem("rate_limit_error", last) if last else None
        message = pool.refusal(MODEL, last=latest).message
        assert message.endswith(f"The provider's last answer: {heard}")
    assert [key.last_error for key in pool.snapshot()] == [
        "The first.",
        "The second.",
        "The third.",
    ]


def test_a_request_that_tried_every_key_ends_with_its_own_error(pool):
    """The cooldowns of the keys may be over by then."""
    last = Problem("rate_limit_error", "slow down")
    assert pool.refusal(MODEL, skip={"k1", "k2", "k3"}, last=last) is last


# For the user.


def test_the_snapshot_contains_cause_and_time(pool, clock):
    use_key(pool, "k1", limited(41.0))
    use_key(pool, "k3", rejected())
    first, second, third = pool.snapshot()
    assert (first.id, first.tail, first.state) == ("k1", "…aaaa", "cooldown")
    cooldown = first.cooldowns[0]
    assert (cooldown.model, cooldown.cause, cooldown.status) == (MODEL, "rate_limit", 429)
    assert (cooldown.seconds, cooldown.since) == (41.0, clock.wall())
    assert (second.state, second.cooldowns, second.used_today) == ("ready", (), 0)
    assert (third.state, third.cooldowns[0].model) == ("rejected", None)
    assert pool.counts() == (1, 3)


def test_a_rejected_key_stays_rejected_in_status_until_it_succeeds(pool, clock):
    use_key(pool, "k1", rejected())
    clock.now += 61
    assert pool.snapshot()[0].state == "rejected"
    use_key(pool, "k1", WORKS)
    assert pool.snapshot()[0].state == "ready"


def test_no_repr_contains_a_key(pool):
    lease = pool.take(MODEL)
    texts = [repr(lease), repr(pool.snapshot()), repr(pool.export(SALT)), str(refused_of(pool))]
    assert not any(key[4:] in text for key in KEYS for text in texts)


def refused_of(pool):
    for key in ("k1", "k2", "k3"):
        use_key(pool, key, rejected())
    return refused(pool)


def test_disable_enable_reset(pool):
    pool.disable("k2")
    assert pool.snapshot()[1].state == "disabled"
    assert "k2" not in turns(pool, 4)
    pool.enable("k2")
    assert "k2" in turns(pool, 3)
    use_key(pool, "k1", rejected())
    pool.reset()
    assert pool.counts() == (3, 3)
    use_key(pool, "k1", rejected())
    pool.enable("k1")
    assert pool.counts() == (3, 3)
    with pytest.raises(KeyError):
        pool.disable("k9")


def test_a_disabled_key_has_no_time_of_a_next_attempt(pool):
    use_key(pool, "k1", rejected())
    pool.disable("k1")
    key = pool.snapshot()[0]
    assert (key.state, key.cooldowns) == ("disabled", ())


def test_resetting_one_key_leaves_the_others_alone(pool):
    use_key(pool, "k1", rejected())
    use_key(pool, "k2", no_credit())
    pool.reset("k1")
    assert [key.state for key in pool.snapshot()] == ["ready", "out", "ready"]
    with pytest.raises(KeyError):
        pool.reset("k9")


# Tests of a key by the user.


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(lambda pool: use_key(pool, "k2", rejected()), id="a key in cooldown"),
        pytest.param(lambda pool: pool.disable("k2"), id="a disabled one"),
        pytest.param(lambda pool: None, id="a good one"),
    ],
)
def test_any_key_can_be_tested(pool, prepare):
    prepare(pool)
    lease = pool.take_key("k2", MODEL)
    assert (lease.id, lease.secret, lease.is_test) == ("k2", KEYS[1], True)
    assert pool.snapshot()[1].in_flight == 1
    pool.release(lease)
    assert pool.snapshot()[1].in_flight == 0


def test_an_unknown_key_cannot_be_tested(pool):
    with pytest.raises(KeyError):
        pool.take_key("k9", MODEL)


def test_a_successful_test_ends_the_cooldown_at_once(pool):
    use_key(pool, "k2", rejected())
    lease = pool.take_key("k2", MODEL)
    pool.settle(lease, WORKS)
    pool.release(lease)
    assert pool.counts() == (3, 3)


# For the disk.


def test_cooldowns_survive_a_restart(pool, clock):
    use_key(pool, "k1", limited(100.0))
    use_key(pool, "k2", no_credit())
    use(pool, WORKS)
    pool.disable("k3")
    stored = pool.export(SALT)
    later = Clock()
    later.now = 7.0
    later.wall = lambda: clock.wall() + 40  # the restart took 40 s
    again = pool_of(later)
    again.restore(stored, SALT)
    first, second, third = again.snapshot()
    assert first.cooldowns[0].seconds == pytest.approx(60.0)
    assert second.cooldowns[0].seconds == 0.0, "the account may have been topped up"
    assert third.state == "disabled"
    assert [key.used_today for key in again.snapshot()] == [1, 1, 1]


def test_a_key_without_credit_is_probed_once_after_a_restart(pool, clock):
    for number in (1, 2, 3):
        use_key(pool, f"k{number}", no_credit())
    again = pool_of(clock)
    again.restore(pool.export(SALT), SALT)
    assert [key.state for key in again.snapshot()] == ["out"] * 3
    probes = [again.take(MODEL) for _ in range(3)]
    assert {probe.id for probe in probes} == {"k1", "k2", "k3"}
    refused(again)
    again.settle(probes[0], WORKS)
    again.settle(probes[1], no_credit())
    for probe in probes:
        again.release(probe)
    assert [key.state for key in again.snapshot()] == ["ready", "out", "out"]


def test_growing_cooldowns_keep_growing_after_a_restart(pool, clock):
    use_key(pool, "k1", rejected())
    again = pool_of(clock)
    again.restore(pool.export(SALT), SALT)
    clock.now += 61
    use_key(again, "k1", rejected())
    assert again.snapshot()[0].cooldowns[0].seconds == pytest.approx(600.0)


def test_added_and_removed_keys_are_ignored(pool, clock):
    use_key(pool, "k1", rejected())
    stored = pool.export(SALT)
    other = KeyPool(
        [KEYS[5], KEYS[0]], provider="x", clock=clock, wall=clock.wall, jitter=lambda: 0.5
    )
    other.restore(stored, SALT)
    assert [key.state for key in other.snapshot()] == ["ready", "rejected"]


def test_saved_names_cannot_be_derived_without_the_salt(pool):
    assert KEYS[0] not in str(pool.export(SALT))
    assert salted_name(KEYS[0], b"other") not in pool.export(SALT)


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"cooldowns": [{}], "disabled": False, "day": 1, "used_today": 1},
        {"cooldowns": [{"cause": "made up", "until": 1, "model": ""}], "disabled": False},
        {"cooldowns": 5, "disabled": False, "day": 1, "used_today": 1},
    ],
)
def test_a_row_of_another_form_is_refused(pool, row):
    with pytest.raises((KeyError, TypeError, ValueError)):
        pool.restore({salted_name(KEYS[0], SALT): row}, SALT)


def test_every_saved_change_is_announced(pool):
    states = []
    pool.on_change = lambda: states.append(pool.export(SALT))
    for act in (
        lambda: use(pool, WORKS),
        lambda: use(pool, limited(5.0)),
        lambda: pool.disable("k1"),
        lambda: pool.enable("k1"),
        pool.reset,
    ):
        states.clear()
        act()
        assert states[-1] == pool.export(SALT)


# Random histories.

VERDICTS = {
    "works": WORKS,
    "limited": limited(7.0),
    "shared": limited(account=True),
    "rejected": rejected(),
    "no_credit": no_credit(),
    "fault": PROVIDER_FAILED,
}
STEPS = st.lists(
    st.one_of(
        st.just("take"),
        st.tuples(
            st.sampled_from(
                ["leave", "works", "limited", "shared", "rejected", "no_credit", "fault"]
            ),
            st.integers(0, 50),
        ),
        st.floats(0.0, 400.0),
    ),
    max_size=80,
)


@given(STEPS, st.integers(1, 4), st.sampled_from([None, 1, 2]))
def test_every_lease_is_returned_and_no_key_is_lost(steps, count, in_flight):
    clock = Clock()
    pool = pool_of(clock, count, limits=KeyLimits(in_flight=in_flight))
    running = []
    for step in steps:
        if isinstance(step, float):
            clock.now += step
        elif step == "take":
            with suppress(Problem):
                running.append(pool.take(MODEL))
        elif running:
            lease = running.pop(step[1] % len(running))
            if step[0] != "leave":
                pool.settle(lease, VERDICTS[step[0]])
            pool.release(lease)
            pool.release(lease)
        assert sum(key.in_flight for key in pool.snapshot()) == len(running)
        assert all(in_flight is None or key.in_flight <= in_flight for key in pool.snapshot())
    for lease in running:
        pool.release(lease)
    assert [key.in_flight for key in pool.snapshot()] == [0] * count
    clock.now += 90_000  # every state is temporary
    assert {use_key(pool, f"k{n}", WORKS) for n in range(1, count + 1)} == {
        f"k{n}" for n in range(1, count + 1)
    }


# Facts that are known without a refusal.


def test_a_key_with_an_exhausted_limit_cools_down(pool):
    lease = pool.take(MODEL)
    pool.settle(lease, WORKS)
    pool.start_cooldown(lease, 30.0)
    pool.release(lease)
    view = next(key for key in pool.snapshot() if key.id == lease.id)
    assert [(one.model, one.status, one.seconds) for one in view.cooldowns] == [(MODEL, 0, 30.0)]
    assert lease.id not in {use(pool, WORKS) for _ in range(4)}


def test_a_report_about_an_account_is_kept_and_applied(pool, clock):
    report = AccountReport(windows=(PlanWindow("5h", 1.0, clock.wall() + 3600),))
    pool.note_account("k2", report)
    view = next(key for key in pool.snapshot() if key.id == "k2")
    assert (view.account, view.state) == (report, "out")
    with pytest.raises(KeyError):
        pool.note_account("k9", report)


def test_a_key_can_be_looked_up_without_using_it(pool):
    assert pool.peek(MODEL) == KEYS[0]
    for key in ("k1", "k2", "k3"):
        pool.disable(key)
    assert (pool.peek(MODEL), pool.snapshot()[0].used_today) == (None, 0)


def test_the_number_of_remembered_models_is_bounded(clock):
    pool = pool_of(clock, 3)
    for number in range(300):
        lease = pool.take(f"m{number}")
        pool.settle(lease, WORKS)
        pool.release(lease)
    with pool.backend.reading() as state:
        assert len(state.last_success) == 256
