"""The selection of a key: strategies, sessions, and moves to preferred keys."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from ccproxy.convert.errors.causes import Cause
from ccproxy.keys import key_selection
from ccproxy.keys.backends.shared_memory import SharedMemoryBackend
from ccproxy.keys.display import describe_move_reason
from ccproxy.keys.key_state import KeyLimits
from ccproxy.keys.policy import KeyPolicy, KeyRank
from ccproxy.keys.pool import KeyPool
from ccproxy.keys.sessions import SESSION_IDLE, SessionRef
from ccproxy.keys.verdict import WORKS, Effect, Next, Verdict

KEYS = tuple(f"sk-key-number-{number:04}" for number in range(1, 6))
LIMITED = Verdict(
    effect=Effect.COOLDOWN,
    next=Next.OTHER_KEY,
    cause=Cause.RATE_LIMIT,
    status=429,
    seconds=100.0,
)
NOT_PERMITTED = Verdict(effect=Effect.NONE, next=Next.ONE_OTHER_KEY)
FREE_FIRST = KeyPolicy(
    strategy="priority", ranks=(KeyRank(), KeyRank(), KeyRank(priority=2)), move_wait=600.0
)


class Clock:
    now = 1000.0


def pool_of(count=3, policy=None, *, clock=None, backend=None, limits=None):
    clock = clock or Clock()
    return KeyPool(
        KEYS[:count],
        provider="Test",
        clock=lambda: clock.now,
        wall=lambda: 1_700_000_000.0 + clock.now,
        jitter=lambda: 0.5,
        policy=policy or KeyPolicy(),
        limits=limits or KeyLimits(),
        backend=backend,
    )


def ref(name, *, tokens=10_000, **fields):
    return SessionRef(id=name, name=name, tokens=tokens, **fields)


def use(pool, session=None, verdict=WORKS, *, skip=(), model="big", **fields):
    """Send a request; return the id of its key and the move that it confirmed."""
    one = ref(session, **fields) if session else None
    lease = pool.take(model, skip=skip, session=one)
    move = pool.settle(lease, verdict)
    pool.release(lease)
    return lease.id, pool.view_move(move) if move else None


def keys_of(pool, count, session=None, **fields):
    return [use(pool, session, **fields)[0] for _ in range(count)]


def sessions(pool):
    return [key.sessions for key in pool.snapshot()]


# Strategies, without sessions.


def test_rotation_is_exact_in_spite_of_sessions():
    pool = pool_of()
    use(pool, "a")
    assert keys_of(pool, 6) == ["k2", "k3", "k1", "k2", "k3", "k1"]


def test_fill_first_uses_one_key_until_it_cannot_serve():
    pool = pool_of(policy=KeyPolicy(strategy="fill-first"))
    assert keys_of(pool, 4) == ["k1"] * 4
    use(pool, verdict=LIMITED)
    assert keys_of(pool, 4) == ["k2"] * 4


def test_a_paid_key_serves_only_while_no_free_one_can():
    clock = Clock()
    pool = pool_of(policy=FREE_FIRST, clock=clock)
    assert keys_of(pool, 4) == ["k1", "k2", "k1", "k2"]
    use(pool, verdict=LIMITED)
    use(pool, verdict=LIMITED)
    assert keys_of(pool, 2) == ["k3", "k3"]
    clock.now += 101
    assert keys_of(pool, 2) == ["k1", "k2"]


def test_weights_are_proportions():
    ranks = (KeyRank(weight=3), KeyRank(weight=1), KeyRank(weight=2))
    pool = pool_of(policy=KeyPolicy(strategy="weights", ranks=ranks))
    assert Counter(keys_of(pool, 600)) == {"k1": 300, "k2": 100, "k3": 200}


def test_a_weighted_key_does_not_catch_up_after_a_cooldown():
    clock = Clock()
    ranks = (KeyRank(weight=1), KeyRank(weight=3))
    pool = pool_of(2, KeyPolicy(strategy="weights", ranks=ranks), clock=clock)
    while use(pool, verdict=LIMITED)[0] != "k1":
        clock.now += 101
    keys_of(pool, 300)
    clock.now += 101
    assert Counter(keys_of(pool, 40)) == {"k1": 10, "k2": 30}


def test_weights_apply_within_a_priority():
    ranks = (KeyRank(weight=3), KeyRank(), KeyRank(priority=2, weight=9))
    pool = pool_of(policy=KeyPolicy(strategy="priority", ranks=ranks))
    assert Counter(keys_of(pool, 40)) == {"k1": 30, "k2": 10}


def test_keys_without_a_rank_have_the_default():
    pool = pool_of(policy=KeyPolicy(strategy="weights", ranks=(KeyRank(weight=2),)))
    assert Counter(keys_of(pool, 40)) == {"k1": 20, "k2": 10, "k3": 10}


# Sessions.


def test_a_session_stays_with_its_key_and_new_sessions_get_the_key_with_the_fewest():
    pool = pool_of()
    assert [use(pool, name)[0] for name in "abcabccba"] == [
        *("k1", "k2", "k3"),
        *("k1", "k2", "k3"),
        *("k3", "k2", "k1"),
    ]
    assert sessions(pool) == [1, 1, 1]


def test_sessions_follow_the_weights():
    ranks = (KeyRank(weight=3), KeyRank(weight=1))
    pool = pool_of(2, KeyPolicy(strategy="weights", ranks=ranks))
    for number in range(40):
        use(pool, str(number))
    assert sessions(pool) == [30, 10]


def test_sessions_fill_the_first_tier():
    pool = pool_of(policy=FREE_FIRST)
    for number in range(10):
        use(pool, str(number))
    assert sessions(pool) == [5, 5, 0]


@pytest.mark.parametrize("processes", [1, 3])
def test_10_000_requests_of_200_sessions_over_5_keys(tmp_path, processes):
    """Session counts of keys differ by at most one, no session moves, and the rest rotates."""
    clock = Clock()
    if processes == 1:
        pools = [pool_of(5, clock=clock)]
    else:
        backends = [SharedMemoryBackend(tmp_path / "pool") for _ in range(processes)]
        pools = [pool_of(5, clock=clock, backend=backend) for backend in backends]
    used: dict[str, set[str]] = {}
    for number in range(10_000):
        clock.now += 0.01
        session = str(number * 7 % 200)
        key, move = use(pools[number % processes], session, tokens=number)
        assert move is None
        used.setdefault(session, set()).add(key)
    assert all(len(keys) == 1 for keys in used.values())
    for pool in pools:
        counts = sessions(pool)
        assert sum(counts) == 200
        assert max(counts) - min(counts) <= 1
        assert pool.moves() == ()
    for pool in pools if processes > 1 else ():
        pool.backend.close()


# Forced moves.


def test_a_refusal_in_a_session_is_one_move_with_a_reason():
    clock = Clock()
    pool = pool_of(clock=clock)
    use(pool, "a")
    assert use(pool, "a", LIMITED) == ("k1", None)
    key, move = use(pool, "a", skip={"k1"})
    assert move is not None
    assert (move.source, move.target) == ("k1 …0001", f"{key} …000{key[1]}")
    assert (move.session, move.reason, move.tokens) == ("a", "rate_limit", 10_000)
    assert keys_of(pool, 3, "a") == [key] * 3
    clock.now += 101
    assert keys_of(pool, 3, "a") == [key] * 3, "it does not return"
    assert pool.moves() == (move,)


def test_two_refusals_of_one_request_are_one_move():
    pool = pool_of()
    use(pool, "a")
    use(pool, "a", LIMITED)
    second, _ = use(pool, "a", LIMITED, skip={"k1"})
    third, move = use(pool, "a", skip={"k1", second})
    assert move is not None
    assert (move.source[:2], move.target[:2]) == ("k1", third)
    assert len(pool.moves()) == 1


def test_a_failure_of_the_provider_neither_causes_nor_undoes_a_move():
    pool = pool_of()
    use(pool, "a")
    assert use(pool, "a", NOT_PERMITTED) == ("k1", None)
    key, move = use(pool, "a", skip={"k1"})
    assert move is not None
    assert move.reason == key_selection.REFUSED_REQUEST
    assert keys_of(pool, 2, "a") == [key] * 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(lambda pool: pool.disable("k1"), "disabled", id="disabled by the user"),
        pytest.param(lambda pool: pool.take_key("k1", "big"), "in_flight", id="at its limit"),
    ],
)
def test_a_session_leaves_a_key_that_cannot_serve(change, reason):
    pool = pool_of(limits=KeyLimits(in_flight=1))
    use(pool, "a")
    change(pool)
    _, move = use(pool, "a")
    assert move is not None
    assert move.reason == reason
    assert describe_move_reason(reason)


def test_the_sessions_of_a_key_are_distributed_to_the_others():
    pool = pool_of()
    names = [str(number) for number in range(12)]
    for name in names:
        use(pool, name)
    pool.disable("k1")
    for name in names:
        use(pool, name)
    assert sessions(pool) == [0, 6, 6]
    assert len(pool.moves()) == 4


def test_sessions_leave_a_removed_key(tmp_path):
    """Another process of the entry has already loaded the new configuration."""
    backends = [SharedMemoryBackend(tmp_path / "pool") for _ in range(2)]
    old, new = pool_of(1, backend=backends[0]), pool_of(backend=backends[1])
    use(new, "b"), use(new, "a")
    _, move = use(old, "a")
    assert move is not None
    assert (move.source, move.target[:2], move.reason) == ("-", "k1", key_selection.REMOVED)
    for backend in backends:
        backend.close()


@pytest.mark.parametrize(
    "reason",
    [
        key_selection.NEW_PREFIX,
        key_selection.WAITED,
        key_selection.REFUSED_REQUEST,
        key_selection.REMOVED,
    ],
)
def test_every_reason_of_a_move_has_a_text(reason):
    assert "key" in describe_move_reason(reason)


# Moves to a preferred key.


def on_the_paid_key(clock):
    """Return a pool whose session `a` uses the paid key although a free one is ready again."""
    pool = pool_of(policy=FREE_FIRST, clock=clock)
    pool.disable("k1")
    pool.disable("k2")
    assert keys_of(pool, 2, "a") == ["k3", "k3"]
    pool.enable("k1")
    return pool


def test_a_move_to_a_preferred_key_waits_for_a_new_prefix():
    pool = on_the_paid_key(Clock())
    assert keys_of(pool, 3, "a") == ["k3"] * 3
    assert use(pool, "a", is_compaction=True) == ("k3", None), "it reads the cached prompt"
    key, move = use(pool, "a", tokens=3000)
    assert key == "k1"
    assert move is not None
    assert (move.reason, move.tokens) == (key_selection.NEW_PREFIX, 0)


def test_the_wait_for_a_new_prefix_is_bounded():
    clock = Clock()
    pool = on_the_paid_key(clock)
    assert keys_of(pool, 1, "a") == ["k3"]
    clock.now += 599
    assert keys_of(pool, 1, "a") == ["k3"]
    clock.now += 1
    key, move = use(pool, "a")
    assert key == "k1"
    assert move is not None
    assert (move.reason, move.tokens) == (key_selection.WAITED, 10_000)


def test_each_preferred_key_restarts_the_wait():
    clock = Clock()
    pool = on_the_paid_key(clock)
    keys_of(pool, 1, "a")
    pool.disable("k1")
    clock.now += 400
    keys_of(pool, 1, "a")
    pool.enable("k1")
    clock.now += 400
    assert keys_of(pool, 1, "a") == ["k3"]


def test_a_preferred_key_that_refuses_leaves_the_session_where_it_is():
    clock = Clock()
    pool = on_the_paid_key(clock)
    keys_of(pool, 1, "a")
    clock.now += 600
    assert use(pool, "a", LIMITED) == ("k1", None)
    assert use(pool, "a", skip={"k1"}) == ("k3", None)
    assert keys_of(pool, 2, "a") == ["k3"] * 2
    assert pool.moves()[-1:] == ()


# Subagents.


def test_a_subagent_starts_with_the_key_of_its_session_and_keeps_its_own():
    pool = pool_of()
    use(pool, "b"), use(pool, "a")
    assert keys_of(pool, 2, "agent", parent="a") == ["k2"] * 2
    assert sessions(pool) == [1, 1, 0], "it is not counted"
    pool.disable("k2")
    agent, _ = use(pool, "agent", parent="a")
    pool.enable("k2")
    assert keys_of(pool, 1, "agent", parent="a") == [agent]
    assert keys_of(pool, 1, "a") == ["k2"], "each has a prompt of its own"


def test_a_new_subagent_prefers_a_better_key_to_that_of_its_session():
    pool = on_the_paid_key(Clock())
    assert keys_of(pool, 1, "agent", parent="a") == ["k1"]


def test_a_subagent_of_an_unknown_session_is_like_a_new_session():
    pool = pool_of()
    use(pool, "a")
    assert keys_of(pool, 1, "agent", parent="unknown") == ["k2"]


# Several models.


def test_a_limit_of_another_model_does_not_move_the_session():
    pool = pool_of()
    limited = replace(LIMITED, is_per_model=True)
    assert keys_of(pool, 1, "a") + keys_of(pool, 1, "a", model="small") == ["k1", "k1"]
    use(pool, "a", limited, model="small")
    other, move = use(pool, "a", model="small", skip={"k1"})
    assert move is not None
    assert other != "k1"
    assert keys_of(pool, 2, "a") == ["k1"] * 2
    assert keys_of(pool, 2, "a", model="small") == [other] * 2
    assert sum(sessions(pool)) == 1


def test_a_session_does_not_expire_while_another_model_is_in_use():
    clock = Clock()
    pool = pool_of(clock=clock)
    assert keys_of(pool, 1, "a", model="small") == ["k1"]
    for _ in range(5):
        clock.now += SESSION_IDLE / 2
        assert keys_of(pool, 2, "a") == ["k1"] * 2
        use(pool, str(clock.now))
    assert sum(sessions(pool)) == 3


# Restart.


def test_sessions_keep_their_keys_over_a_restart():
    clock, salt = Clock(), b"salt"
    pool = pool_of(clock=clock)
    before = {name: use(pool, name)[0] for name in "abcde"}
    version = pool.sessions_version
    assert version == pool_of().sessions_version + 5
    again = pool_of(clock=clock)
    again.restore_sessions(pool.export_sessions(salt), salt)
    assert {name: use(again, name)[0] for name in "edcba"} == before


def test_a_process_that_joins_others_takes_their_sessions(tmp_path):
    one, two = (SharedMemoryBackend(tmp_path / "pool") for _ in range(2))
    pool, joined = pool_of(backend=one), pool_of(backend=two)
    use(pool, "a")
    joined.restore_sessions([], b"salt")
    assert sessions(joined) == [1, 0, 0]
    for backend in (one, two):
        backend.close()


@pytest.mark.parametrize(
    ("count", "policy", "keeps"),
    [
        pytest.param(2, KeyPolicy(), True, id="several keys"),
        pytest.param(1, KeyPolicy(), False, id="one key"),
        pytest.param(2, KeyPolicy(affinity="off"), False, id="turned off"),
    ],
)
def test_sessions_matter_with_several_keys(count, policy, keeps):
    assert pool_of(count, policy).keeps_sessions is keeps
