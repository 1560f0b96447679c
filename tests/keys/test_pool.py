"""The key pool: turns, rests, probes, limits, and the truth when nothing is left."""

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
from ccproxy.keys.display import shown
from ccproxy.keys.pool import KeyPool, PoolLive, salted
from ccproxy.keys.state import KeyLimits
from ccproxy.keys.verdict import GOOD, Effect, Next, Verdict

KEYS = [f"sk-a-key-of-some-length-{letter * 4}" for letter in "abcdefghij"]
SALT = b"salt"
MODEL = "big"


class Clock:
    """Time that stands still until it is told; the wall is far from the monotonic clock."""

    def __init__(self):
        self.now = 500.0

    def __call__(self):
        return self.now

    def wall(self):
        return 1_700_000_000.0 + self.now


def refusal(cause, *, effect, status, seconds=None, shared=False, per_model=False, said=""):
    return Verdict(
        effect=effect,
        next=Next.OTHER_KEY,
        cause=cause,
        status=status,
        seconds=seconds,
        maybe_shared=shared,
        per_model=per_model,
        said=said,
    )


def limited(seconds=None, *, shared=False):
    return refusal(
        Cause.RATE_LIMIT,
        effect=Effect.REST,
        status=429,
        seconds=seconds,
        shared=shared,
        per_model=True,
    )


def rejected():
    return refusal(Cause.BAD_KEY, effect=Effect.SUSPECT, status=401)


def broke(seconds=None):
    return refusal(Cause.OUT_OF_CREDIT, effect=Effect.OUT, status=402, seconds=seconds)


NOT_THE_KEYS_FAULT = Verdict(effect=Effect.NONE, next=Next.REPEAT, provider_failed=True)


@pytest.fixture
def clock():
    return Clock()


def pool_of(clock, count=3, *, limits=None, command=""):
    return KeyPool(
        KEYS[:count],
        provider="Kimi",
        clock=clock,
        wall=clock.wall,
        jitter=lambda: 0.5,
        limits=limits or KeyLimits(),
        command=command,
    )


@pytest.fixture
def pool(clock):
    return pool_of(clock)


def use(pool, verdict, *, model=MODEL, skip=()):
    """Take a key, get *verdict*, give it back; return its id."""
    lease = pool.take(model, skip=skip)
    pool.settle(lease, verdict)
    pool.release(lease)
    return lease.id


def use_key(pool, key_id, verdict, *, model=MODEL):
    others = {key.id for key in pool.snapshot()} - {key_id}
    return use(pool, verdict, model=model, skip=others)


def turns(pool, count, *, model=MODEL):
    return [use(pool, GOOD, model=model) for _ in range(count)]


def refused(pool, *, model=MODEL):
    with pytest.raises(Problem) as caught:
        pool.take(model)
    return caught.value


# Whose turn it is.


def test_one_by_one_is_plain_rotation(pool):
    assert turns(pool, 7) == ["k1", "k2", "k3", "k1", "k2", "k3", "k1"]


def test_3000_one_by_one_are_a_thousand_each(pool):
    assert Counter(turns(pool, 3000)) == {"k1": 1000, "k2": 1000, "k3": 1000}


def test_a_permit_comes_back_once(pool):
    lease = pool.take(MODEL)
    pool.take_this(lease.id, MODEL)
    pool.release(lease)
    pool.release(lease)
    assert pool.snapshot()[0].in_flight == 1


def test_the_least_busy_key_comes_first(pool):
    first, second, third = (pool.take(MODEL) for _ in range(3))
    pool.release(second)
    assert pool.take(MODEL).id == second.id
    assert {first.id, third.id} == {"k1", "k3"}


def test_blanks_and_repetitions_are_one_key(clock):
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
            pool.settle(lease, GOOD)
            pool.release(lease)
        running.append(pool.take(MODEL))
        used[running[-1].id] += 1
        busy = [key.in_flight for key in pool.snapshot()]
        assert max(busy) - min(busy) < 3
    assert all(950 <= count <= 1050 for count in used.values())


# What a refusal means for a key.


@pytest.mark.parametrize(
    ("verdict", "seconds"),
    [
        pytest.param(limited(41.5), 41.5, id="the time that was told"),
        pytest.param(limited(7200.0), 3600.0, id="told too long: an hour"),
        pytest.param(limited(), 5.0, id="no time told"),
        pytest.param(rejected(), 60.0, id="bad key"),
        pytest.param(broke(), 3600.0, id="no money"),
        pytest.param(broke(18_000.0), 18_000.0, id="a plan's reset"),
        pytest.param(broke(2.0), 3600.0, id="no plan resets in two seconds"),
    ],
)
def test_a_refused_key_is_left_alone_exactly_as_long(pool, clock, verdict, seconds):
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
        pytest.param(broke(), [3600, 7200, 14400, 28800, 57600, 86400, 86400], id="no money"),
    ],
)
def test_rests_grow_with_every_failed_probe(pool, clock, verdict, steps):
    for step in steps:
        use_key(pool, "k1", verdict)
        (rest,) = pool.snapshot()[0].rests
        assert rest.seconds == pytest.approx(step)
        clock.now += step + 0.1


def test_a_success_makes_the_next_rest_short_again(pool, clock):
    for _ in range(3):
        use_key(pool, "k1", limited())
        clock.now += 1000
    use_key(pool, "k1", GOOD)
    use_key(pool, "k1", limited())
    assert pool.snapshot()[0].rests[0].seconds == pytest.approx(5.0)


def test_many_refusals_at_once_count_as_one(pool):
    leases = [pool.take(MODEL, skip={"k2", "k3"}) for _ in range(20)]
    for lease in leases:
        pool.settle(lease, limited())
        pool.release(lease)
    assert pool.snapshot()[0].rests[0].seconds == pytest.approx(5.0)


def test_a_late_success_does_not_end_a_rest(pool):
    early = pool.take(MODEL, skip={"k2", "k3"})
    use_key(pool, "k1", limited(30.0))
    pool.settle(early, GOOD)
    assert set(turns(pool, 4)) == {"k2", "k3"}


def test_a_rate_limit_is_about_one_model(pool):
    use_key(pool, "k1", limited(30.0))
    assert "k1" in turns(pool, 3, model="small")
    assert "k1" not in turns(pool, 3)


@pytest.mark.parametrize("verdict", [rejected(), broke()])
def test_money_and_rejection_are_about_the_whole_key(pool, verdict):
    use_key(pool, "k1", verdict)
    assert "k1" not in turns(pool, 3, model="small")


def test_what_is_not_the_keys_fault_leaves_it_alone(pool):
    for _ in range(50):
        use_key(pool, "k1", NOT_THE_KEYS_FAULT)
        use_key(pool, "k1", GOOD)
    assert pool.counts() == (3, 3)


def test_jitter_spreads_the_rests(clock):
    found = set()
    for jitter in (0.0, 0.5, 1.0):
        pool = KeyPool(
            KEYS[:2],
            provider="x",
            clock=clock,
            wall=clock.wall,
            jitter=lambda jitter=jitter: jitter,
        )
        use_key(pool, "k1", limited())
        found.add(round(pool.snapshot()[0].rests[0].seconds, 3))
    assert found == {4.5, 5.0, 5.5}


# Half open.


def test_a_rested_key_is_probed_by_one_request_at_a_time(pool, clock):
    use_key(pool, "k1", limited(5.0))
    clock.now += 5
    probe = pool.take(MODEL, skip={"k2", "k3"})
    assert {pool.take(MODEL).id for _ in range(6)} == {"k2", "k3"}
    pool.settle(probe, GOOD)
    pool.release(probe)
    assert pool.take(MODEL).id == "k1"


def test_a_probe_that_fails_for_another_reason_lets_the_next_one_try(pool, clock):
    use_key(pool, "k1", limited(5.0))
    clock.now += 5
    assert use_key(pool, "k1", NOT_THE_KEYS_FAULT) == "k1"
    assert pool.take(MODEL, skip={"k2", "k3"}).id == "k1"


def test_a_probe_whose_client_left_lets_the_next_one_try(pool, clock):
    use_key(pool, "k1", limited(5.0))
    clock.now += 5
    pool.release(pool.take(MODEL, skip={"k2", "k3"}))
    assert pool.take(MODEL, skip={"k2", "k3"}).id == "k1"


# A pool of one.


@pytest.mark.parametrize("verdict", [limited(60.0), limited(shared=True), rejected(), broke()])
def test_the_only_key_never_rests(clock, verdict):
    pool = pool_of(clock, 1)
    for _ in range(5):
        assert use(pool, verdict) == "k1"
    assert pool.counts() == (0, 1)
    assert use(pool, GOOD) == "k1"
    assert pool.counts() == (1, 1)


def test_the_last_key_that_is_not_disabled_is_an_only_key(clock):
    pool = pool_of(clock, 2)
    pool.disable("k2")
    assert pool.is_alone
    use(pool, limited(60.0))
    assert use(pool, GOOD) == "k1"


# A limit that is about the address.


def test_three_keys_in_a_row_are_the_address(clock):
    pool = pool_of(clock, 10)
    used = [use(pool, limited(12.0, shared=True)) for _ in range(3)]
    assert used == ["k1", "k2", "k3"]
    problem = refused(pool)
    assert (problem.status, problem.retry_after) == (429, 12)
    assert "limits this address or account" in problem.message
    assert "12 s" in problem.message
    assert pool.counts() == (10, 10)
    assert pool.provider_rests_for == pytest.approx(12.0)


def test_a_resting_provider_is_probed_every_five_seconds(clock):
    pool = pool_of(clock, 5)
    for _ in range(3):
        use(pool, limited(shared=True))
    for _ in range(4):
        clock.now += 4.9
        refused(pool)
        clock.now += 0.2
        probe = pool.take(MODEL)
        refused(pool)
        pool.settle(probe, limited(shared=True))
        pool.release(probe)
        assert pool.counts() == (5, 5)
    clock.now += 5.1
    use(pool, GOOD)
    assert pool.provider_rests_for is None
    assert len(set(turns(pool, 5))) == 5


def test_a_provider_probe_whose_client_left_lets_the_next_one_try(clock):
    pool = pool_of(clock, 3)
    for _ in range(3):
        use(pool, limited(shared=True))
    clock.now += 6
    pool.release(pool.take(MODEL))
    assert pool.take(MODEL)


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(lambda pool, clock: use(pool, GOOD), id="a key had success just now"),
        pytest.param(
            lambda pool, clock: use(pool, limited(60.0)), id="the first limit was a key's"
        ),
    ],
)
def test_keys_are_limited_one_by_one_where_the_address_is_not(clock, prepare):
    pool = pool_of(clock, 4)
    prepare(pool, clock)
    use(pool, limited(30.0, shared=True))
    use(pool, limited(30.0, shared=True))
    assert pool.provider_rests_for is None
    assert pool.counts()[0] <= 2


def test_limits_that_are_far_apart_are_the_keys(clock):
    pool = pool_of(clock, 4)
    for _ in range(3):
        use(pool, limited(60.0, shared=True))
        clock.now += 2.5
    assert pool.provider_rests_for is None
    assert pool.counts() == (1, 4)


def test_one_key_that_is_limited_again_and_again_is_one_key(clock):
    pool = pool_of(clock, 4)
    for _ in range(5):
        use_key(pool, "k1", limited(0.0, shared=True))
    assert pool.provider_rests_for is None


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


def test_waiting_does_not_help_where_no_permit_is_missing(pool):
    for key in ("k1", "k2", "k3"):
        use_key(pool, key, limited(30.0))
    assert not pool.is_full(MODEL)


def test_per_minute(clock):
    pool = pool_of(clock, 1, limits=KeyLimits(per_minute=3))
    for _ in range(3):
        use(pool, GOOD)
        clock.now += 10
    problem = refused(pool)
    assert (problem.status, problem.retry_after) == (429, 30)
    clock.now += 30
    use(pool, GOOD)
    assert refused(pool).retry_after == 10


def test_per_day_ends_at_midnight(clock):
    clock.now = 0.0
    pool = pool_of(clock, 1, limits=KeyLimits(per_day=2))
    turns(pool, 2)
    problem = refused(pool)
    midnight = 86400 - 1_700_000_000 % 86400
    assert (problem.retry_after, problem.should_retry) == (midnight, False)
    assert pool.snapshot()[0].used_today == 2
    clock.now += midnight
    assert pool.snapshot()[0].used_today == 0
    use(pool, GOOD)


# The truth when nothing is left.


def exhaust(pool, *verdicts):
    for number, verdict in enumerate(verdicts, start=1):
        use_key(pool, f"k{number}", verdict)
    return refused(pool)


def test_all_limited_says_when_the_first_is_back(pool):
    problem = exhaust(pool, limited(40.2), limited(12.1), limited(30.0))
    assert (problem.kind, problem.status) == ("rate_limit_error", 429)
    assert (problem.retry_after, problem.should_retry) == (13, None)
    assert "all 3 keys of Kimi rate-limited (429)" in problem.message


def test_what_takes_longer_than_clients_wait_is_not_to_be_repeated(pool):
    problem = exhaust(pool, limited(90.0), limited(80.0), limited(70.0))
    assert (problem.retry_after, problem.should_retry) == (70, False)


def test_all_rejected(pool):
    problem = exhaust(pool, rejected(), rejected(), rejected())
    assert (problem.kind, problem.status) == ("authentication_error", 401)
    assert problem.should_retry is False
    assert problem.message == "all 3 keys of Kimi rejected (401); next try in 60 s."


def test_all_broke(pool):
    problem = exhaust(pool, broke(), broke(), broke())
    assert (problem.kind, problem.status) == ("billing_error", 402)
    assert problem.should_retry is False
    assert "all 3 keys of Kimi out of money (402)" in problem.message


def test_a_mixture_is_counted(pool):
    problem = exhaust(pool, rejected(), limited(20.0), broke())
    assert (problem.status, problem.retry_after) == (429, 20)
    for part in ("1 rejected (401)", "1 rate-limited (429)", "1 out of money (402)"):
        assert part in problem.message


def test_rejected_and_broke_is_about_money(pool):
    problem = exhaust(pool, rejected(), broke(), rejected())
    assert (problem.status, problem.should_retry) == (402, False)


def test_all_disabled(pool):
    for key in pool.snapshot():
        pool.disable(key.id)
    problem = refused(pool)
    assert problem.should_retry is False
    assert problem.message == "all 3 keys of Kimi disabled by the user."


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        pytest.param([limited(40.2), limited(12.1), limited(30.0)], "13 s", id="rounded up"),
        pytest.param([rejected(), limited(90.0), broke()], "60 s", id="the first of any cause"),
        pytest.param([limited(119.5)] * 3, "2 min", id="minutes from two on"),
        pytest.param([limited(200.0)] * 3, "4 min", id="minutes are rounded up as well"),
        pytest.param([broke(5 * 3600.0)] * 3, "5 h", id="hours"),
    ],
)
def test_it_is_told_when_the_next_try_is(pool, verdicts, told):
    assert f"; next try in {told}." in exhaust(pool, *verdicts).message


def test_the_command_that_shows_more_is_named(clock):
    pool = pool_of(clock, 2, command="ccproxy keys GLM-4.6")
    assert exhaust(pool, rejected(), rejected()).message == (
        "all 2 keys of Kimi rejected (401); next try in 60 s; see `ccproxy keys GLM-4.6`."
    )


def test_the_providers_own_words_are_added(pool):
    for number in (1, 2, 3):
        use_key(pool, f"k{number}", rejected())
    problem = pool.refusal(MODEL, last="Incorrect API key")
    assert problem.message.endswith("The provider's last answer: Incorrect API key")


@pytest.mark.parametrize(
    ("last", "heard"),
    [
        pytest.param("", "The second.", id="to earlier requests: the last of them"),
        pytest.param("To me.", "To me.", id="to this one"),
    ],
)
def test_every_later_request_hears_what_was_said(pool, clock, last, heard):
    for number, words in ((1, "The first."), (3, "The third."), (2, "The second.")):
        clock.now += 1.0
        use_key(pool, f"k{number}", replace(broke(), said=words))
    for _ in range(2):
        message = pool.refusal(MODEL, last=last).message
        assert message.endswith(f"The provider's last answer: {heard}")
    assert [key.said for key in pool.snapshot()] == ["The first.", "The second.", "The third."]


def test_a_request_that_every_key_has_tried_hears_what_was_said_to_it(pool):
    problem = pool.refusal(MODEL, skip={"k1", "k2", "k3"}, last="403: not yours")
    assert (problem.kind, problem.should_retry) == ("authentication_error", False)
    assert problem.message == (
        "Kimi refused this request with every key that could be tried. "
        "The provider's last answer: 403: not yours"
    )


# For the user.


def test_snapshot_tells_why_and_until_when(pool, clock):
    use_key(pool, "k1", limited(41.0))
    use_key(pool, "k3", rejected())
    first, second, third = pool.snapshot()
    assert (first.id, first.tail, first.state) == ("k1", "…aaaa", "resting")
    rest = first.rests[0]
    assert (rest.model, rest.cause, rest.status) == (MODEL, "rate_limit", 429)
    assert (rest.seconds, rest.since) == (41.0, clock.wall())
    assert (second.state, second.rests, second.used_today) == ("ready", (), 0)
    assert (third.state, third.rests[0].model) == ("rejected", None)
    assert pool.counts() == (1, 3)


def test_a_rejected_key_stays_rejected_in_status_until_it_succeeds(pool, clock):
    use_key(pool, "k1", rejected())
    clock.now += 61
    assert pool.snapshot()[0].state == "rejected"
    use_key(pool, "k1", GOOD)
    assert pool.snapshot()[0].state == "ready"


def test_no_key_shows_in_any_repr(pool):
    lease = pool.take(MODEL)
    texts = [repr(lease), repr(pool.snapshot()), repr(pool.export(SALT)), str(refused_of(pool))]
    assert not any(key[4:] in text for key in KEYS for text in texts)


def refused_of(pool):
    for key in ("k1", "k2", "k3"):
        use_key(pool, key, rejected())
    return refused(pool)


@pytest.mark.parametrize(
    ("key", "text"), [(KEYS[0], "…aaaa"), ("short", "…"), ("twelve-chars", "…hars"), ("", "…")]
)
def test_a_key_shows_its_last_four_only_if_there_is_more(key, text):
    assert shown(key) == text


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


def test_resetting_one_key_leaves_the_others_alone(pool):
    use_key(pool, "k1", rejected())
    use_key(pool, "k2", broke())
    pool.reset("k1")
    assert [key.state for key in pool.snapshot()] == ["ready", "out", "ready"]
    with pytest.raises(KeyError):
        pool.reset("k9")


# A key that the user wants to try.


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(lambda pool: use_key(pool, "k2", rejected()), id="one that rests"),
        pytest.param(lambda pool: pool.disable("k2"), id="a disabled one"),
        pytest.param(lambda pool: None, id="a good one"),
    ],
)
def test_any_key_can_be_tried(pool, prepare):
    prepare(pool)
    lease = pool.take_this("k2", MODEL)
    assert (lease.id, lease.secret, lease.tests) == ("k2", KEYS[1], True)
    assert pool.snapshot()[1].in_flight == 1
    pool.release(lease)
    assert pool.snapshot()[1].in_flight == 0


def test_a_key_that_does_not_exist_cannot_be_tried(pool):
    with pytest.raises(KeyError):
        pool.take_this("k9", MODEL)


def test_a_success_of_a_tried_key_ends_its_rest_at_once(pool):
    use_key(pool, "k2", rejected())
    lease = pool.take_this("k2", MODEL)
    pool.settle(lease, GOOD)
    pool.release(lease)
    assert pool.counts() == (3, 3)


# For other processes that share it.


def shared_by(clock, count):
    """Pools of as many processes; each takes over what the one before it has left."""
    pools = [pool_of(clock) for _ in range(count)]
    for place, pool in enumerate(pools, start=1):
        pool._me = place
    return pools


def hand_over(one, other):
    live = one.live(PoolLive(salt=SALT))
    other.revive(live)
    return live


def test_turns_go_on_in_another_process(clock):
    one, other = shared_by(clock, 2)
    assert one.take(MODEL).id == "k1"
    hand_over(one, other)
    assert other.take(MODEL).id == "k2"
    hand_over(other, one)
    assert one.take(MODEL).id == "k3"
    assert [key.in_flight for key in one.snapshot()] == [1, 1, 1]


def test_a_permit_given_back_is_only_ones_own(clock):
    one, other = shared_by(clock, 2)
    lease = one.take(MODEL)
    hand_over(one, other)
    pending = other.take_this("k1", MODEL)
    hand_over(other, one)
    one.release(lease)
    hand_over(one, other)
    assert other.snapshot()[0].in_flight == 1
    other.release(pending)
    assert [key.in_flight for key in other.snapshot()] == [0, 0, 0]


def test_what_one_learnt_the_other_knows(clock):
    one, other = shared_by(clock, 2)
    use_key(one, "k1", limited(41.0))
    one.disable("k3")
    hand_over(one, other)
    assert [key.state for key in other.snapshot()] == ["resting", "ready", "disabled"]
    assert other.snapshot()[0].rests[0].seconds == 41.0


def test_limits_in_two_processes_are_one_row(clock):
    one, other = shared_by(clock, 2)
    use(one, limited(12.0, shared=True))
    use(one, limited(12.0, shared=True))
    hand_over(one, other)
    use(other, limited(12.0, shared=True))
    assert other.provider_rests_for == pytest.approx(12.0)
    hand_over(other, one)
    assert "limits this address or account" in refused(one).message


def test_the_probes_of_a_process_that_is_gone_are_nobodys(clock):
    gone, left = shared_by(clock, 2)
    for _ in range(3):
        use(gone, limited(shared=True))
    clock.now += 6
    probe = gone.take(MODEL)
    gone.settle(probe, GOOD)
    use_key(gone, "k2", rejected())
    clock.now += 61
    gone.take_this("k2", MODEL)  # it probes the rest, and never comes back
    live = gone.live(PoolLive(salt=SALT))
    left.revive(live)
    assert left.snapshot()[1].in_flight == 1
    assert live.keys[salted(KEYS[1], SALT)].rests[""].probed_by == (1, gone._turn)
    assert live.without({2, 3}).keys[salted(KEYS[1], SALT)].rests[""].probing
    left.revive(live.without({1}))
    assert [key.in_flight for key in left.snapshot()] == [0, 0, 0]
    assert left.take(MODEL, skip={"k1", "k3"}).id == "k2"


@pytest.mark.parametrize(
    ("gone", "may_probe"),
    [
        pytest.param({1}, True, id="the one that probes is gone"),
        pytest.param({2, 3}, False, id="others are"),
    ],
)
def test_the_providers_probe_ends_with_its_process(clock, gone, may_probe):
    one, other = shared_by(clock, 2)
    for _ in range(3):
        use(one, limited(shared=True))
    clock.now += 6
    one.take(MODEL)
    other.revive(one.live(PoolLive(salt=SALT)).without(gone))
    if may_probe:
        assert other.take(MODEL)
    else:
        assert "limits this address or account" in refused(other).message


def test_keys_of_another_configuration_stay_as_they_are(clock):
    """During a reload two processes may share a pool of different keys."""
    old = pool_of(clock, 2)
    new = KeyPool(
        [KEYS[1], KEYS[5]], provider="Kimi", clock=clock, wall=clock.wall, jitter=lambda: 0.5
    )
    for verdict in (limited(shared=True), limited(shared=True)):
        use(old, verdict)
    live = old.live(PoolLive(salt=SALT))
    new.revive(live)
    assert [bool(key.rests) for key in new.snapshot()] == [True, False]
    after = new.live(live)
    assert after.keys.keys() == {salted(key, SALT) for key in (KEYS[0], KEYS[1], KEYS[5])}
    assert [name for name, _, _ in after.limited] == [salted(KEYS[1], SALT)]


def test_what_is_shared_names_no_key(pool):
    use(pool, limited(5.0, shared=True))
    assert not any(key in str(pool.live(PoolLive(salt=SALT))) for key in KEYS)


def test_a_new_salt_is_a_new_name(pool):
    names = [set(pool.live(PoolLive(salt=salt)).keys) for salt in (b"one", b"two", b"one")]
    assert names[0] == names[2]
    assert names[0].isdisjoint(names[1])


def test_a_pool_of_one_process_is_kept_by_it(pool):
    assert pool.is_kept_here


# For the disk.


def test_rests_survive_a_restart(pool, clock):
    use_key(pool, "k1", limited(100.0))
    use_key(pool, "k2", broke())
    use(pool, GOOD)
    pool.disable("k3")
    kept = pool.export(SALT)
    later = Clock()
    later.now = 7.0
    later.wall = lambda: clock.wall() + 40  # the restart took 40 s, the new clock began elsewhere
    again = pool_of(later)
    again.restore(kept, SALT)
    first, second, third = again.snapshot()
    assert first.rests[0].seconds == pytest.approx(60.0)
    assert second.rests[0].seconds == pytest.approx(3560.0)
    assert third.state == "disabled"
    assert [key.used_today for key in again.snapshot()] == [1, 1, 1]


def test_what_grew_goes_on_growing_after_a_restart(pool, clock):
    use_key(pool, "k1", rejected())
    again = pool_of(clock)
    again.restore(pool.export(SALT), SALT)
    clock.now += 61
    use_key(again, "k1", rejected())
    assert again.snapshot()[0].rests[0].seconds == pytest.approx(600.0)


def test_a_key_that_is_new_or_gone_does_no_harm(pool, clock):
    use_key(pool, "k1", rejected())
    kept = pool.export(SALT)
    other = KeyPool(
        [KEYS[5], KEYS[0]], provider="x", clock=clock, wall=clock.wall, jitter=lambda: 0.5
    )
    other.restore(kept, SALT)
    assert [key.state for key in other.snapshot()] == ["ready", "rejected"]


def test_kept_ids_tell_nothing_without_the_salt(pool):
    assert KEYS[0] not in str(pool.export(SALT))
    assert salted(KEYS[0], b"other") not in pool.export(SALT)


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"rests": [{}], "disabled": False, "day": 1, "used_today": 1},
        {"rests": [{"cause": "made up", "until": 1, "model": ""}], "disabled": False},
        {"rests": 5, "disabled": False, "day": 1, "used_today": 1},
    ],
)
def test_what_was_not_kept_by_us_is_refused(pool, row):
    with pytest.raises((KeyError, TypeError, ValueError)):
        pool.restore({salted(KEYS[0], SALT): row}, SALT)


def test_everything_that_is_kept_is_told(pool):
    told = []
    pool.on_change = lambda: told.append(pool.export(SALT))
    for act in (
        lambda: use(pool, GOOD),
        lambda: use(pool, limited(5.0)),
        lambda: pool.disable("k1"),
        lambda: pool.enable("k1"),
        pool.reset,
    ):
        told.clear()
        act()
        assert told[-1] == pool.export(SALT)


# Whatever happens.

STEPS = st.lists(
    st.one_of(
        st.just("take"),
        st.tuples(
            st.sampled_from(["leave", "good", "limited", "shared", "rejected", "broke", "fault"]),
            st.integers(0, 50),
        ),
        st.floats(0.0, 400.0),
    ),
    max_size=80,
)
VERDICTS = {
    "good": GOOD,
    "limited": limited(7.0),
    "shared": limited(shared=True),
    "rejected": rejected(),
    "broke": broke(),
    "fault": NOT_THE_KEYS_FAULT,
}


@given(STEPS, st.integers(1, 4), st.sampled_from([None, 1, 2]))
def test_permits_always_come_back_and_no_key_is_lost(steps, count, in_flight):
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
    clock.now += 90_000  # nothing lasts for ever
    assert {use_key(pool, f"k{n}", GOOD) for n in range(1, count + 1)} == {
        f"k{n}" for n in range(1, count + 1)
    }
