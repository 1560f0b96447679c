"""The shares of disconnected processes, and their reports after they reconnect."""

from __future__ import annotations

import pytest

from ccproxy.convert.errors.causes import Cause
from ccproxy.keys.backends.backend import AccountLimit, PoolState
from ccproxy.keys.backends.partition import (
    HANDOVER_SECONDS,
    KeyBaseline,
    Partition,
    baseline_of,
    merge,
)
from ccproxy.keys.cooldown import Cooldown
from ccproxy.keys.key_state import DAY, KeyLimits, KeyState
from ccproxy.keys.sessions import SessionRow

NOW = 20_000 * DAY + 1000.0
TODAY = 20_000


def partition(
    rank=0, replicas=3, *, names=("a", "b"), used=0, minutes=(), own=0, day=TODAY, leases=None
):
    leases = leases or {}
    return Partition(
        at=NOW,
        replicas=replicas,
        rank=rank,
        baseline={name: KeyBaseline(day, used) for name in names},
        leases={name: sum(held) for name, held in leases.items()},
        own_leases={name: held[rank] for name, held in leases.items()},
        own_starts=dict.fromkeys(names, own),
        foreign_starts={name: list(minutes)[own:] for name in names},
    )


def shares(kind, limit, parts, *, now=NOW + HANDOVER_SECONDS, name="a"):
    limits = KeyLimits(**{kind: limit})
    return [getattr(part.limits(limits, now)[name], kind) for part in parts]


@pytest.mark.parametrize("kind", ["in_flight", "per_minute", "per_day"])
@pytest.mark.parametrize("limit", [3, 7, 12])
def test_all_shares_together_are_the_limit(kind, limit):
    parts = [partition(rank) for rank in range(3)]
    for name in ("a", "b"):
        assert sum(shares(kind, limit, parts, name=name)) == limit


def test_the_remainder_is_distributed_key_by_key():
    parts = [partition(rank) for rank in range(3)]
    assert shares("in_flight", 4, parts, name="a") == [2, 1, 1]
    assert shares("in_flight", 4, parts, name="b") == [1, 1, 2]


def test_a_process_may_always_have_one_request_in_flight():
    limits = KeyLimits(in_flight=1)
    for rank in range(9):
        share = partition(rank, 9).limits(limits, NOW)
        assert sum(one.in_flight for one in share.values()) == 1


@pytest.mark.parametrize(
    ("held", "at_first"),
    [
        pytest.param((0, 0, 0), [1, 1, 1], id="all are free"),
        pytest.param((3, 0, 0), [3, 0, 0], id="none is free"),
        pytest.param((2, 0, 0), [2, 0, 0], id="one is free"),
        pytest.param((4, 0, 0), [4, 0, 0], id="more than the limit"),
    ],
)
def test_a_short_interruption_creates_no_leases(held, at_first):
    parts = [partition(rank, leases={"a": held, "b": (1, 1, 1)}) for rank in range(3)]
    assert shares("in_flight", 3, parts, now=NOW) == at_first
    assert shares("in_flight", 3, parts) == [1, 1, 1]


def test_a_process_without_a_lease_may_have_one_of_a_key_that_was_free():
    leases = {"a": (1, 0, 0, 0), "b": (0, 0, 0, 0)}
    parts = [partition(rank, 4, leases=leases) for rank in range(4)]
    assert shares("in_flight", 1, parts, name="a", now=NOW) == [1, 0, 0, 0]
    assert shares("in_flight", 1, parts, name="b", now=NOW) == [0, 1, 1, 1]


def test_without_a_limit_there_are_no_shares():
    assert partition().limits(KeyLimits(), NOW)["a"] == KeyLimits()


def test_a_process_that_never_had_contact_claims_no_remainder():
    part = partition(None, 3)
    assert shares("in_flight", 4, [part]) == [1]
    assert shares("in_flight", 2, [part]) == [1]
    assert shares("per_day", 4, [part]) == [1]


def test_only_the_rest_of_the_day_is_shared():
    parts = [partition(rank, used=31) for rank in range(3)]
    assert [share - 31 for share in shares("per_day", 40, parts)] == [3, 3, 3]
    assert shares("per_day", 40, [partition(used=60)]) == [60]


def test_a_new_day_has_new_shares():
    parts = [partition(rank, used=40) for rank in range(3)]
    assert sum(shares("per_day", 40, parts, now=NOW + DAY)) == 40
    yesterday = [partition(rank, used=40, day=TODAY - 1) for rank in range(3)]
    assert sum(shares("per_day", 40, yesterday)) == 40


def test_other_processes_starts_count_for_a_minute():
    starts = [NOW - 50, NOW - 40, NOW - 30, NOW - 20]
    part = partition(0, 2, minutes=starts, own=1)
    # 1 of its own, 3 of the others, half of the remaining 6.
    assert shares("per_minute", 10, [part]) == [7]
    assert shares("per_minute", 10, [part], now=NOW + 25) == [6]
    assert shares("per_minute", 10, [part], now=NOW + 60) == [5]


# Merging.


def key(*, used=0, day=TODAY, **fields):
    return KeyState(used_today=used, day=day, **fields)


def state(**keys):
    return PoolState(keys=keys)


def merged(own, shared, baseline=None, *, is_rebuilt=False):
    merge(own, shared, 1, baseline or {}, is_rebuilt=is_rebuilt)
    return shared


@pytest.mark.parametrize(
    ("own", "shared", "baseline", "expected"),
    [
        pytest.param(key(used=9), key(used=11), KeyBaseline(TODAY, 7), 13, id="new uses are added"),
        pytest.param(key(used=9), None, KeyBaseline(TODAY, 7), 9, id="an unknown key is added"),
        pytest.param(
            key(used=2), key(used=9, day=TODAY - 1), KeyBaseline(TODAY - 1, 5), 2, id="a new day"
        ),
        pytest.param(
            key(used=9, day=TODAY - 1), key(used=1), KeyBaseline(TODAY - 1, 5), 1, id="an old day"
        ),
    ],
)
def test_uses_are_counted_once(own, shared, baseline, expected):
    keys = {} if shared is None else {"a": shared}
    result = merged(state(a=own), PoolState(keys=keys), {"a": baseline})
    assert result.keys["a"].used_today == expected


def test_processes_that_rebuild_a_lost_state_report_known_uses_once():
    first, second = state(a=key(used=33)), state(a=key(used=34))
    shared = merged(first, PoolState(), {"a": KeyBaseline(TODAY, 30)}, is_rebuilt=True)
    assert shared.keys["a"].used_today == 33
    # The second process had recorded one more use, and added three.
    merged(second, shared, {"a": KeyBaseline(TODAY, 31)}, is_rebuilt=True)
    assert shared.keys["a"].used_today == 33 + 1 + 3
    assert shared.known_uses == {"a": 31}


def test_starts_of_the_minute_are_merged():
    own, shared = key(minute=[1.0, 2.0, 4.0]), key(minute=[1.0, 2.0, 3.0])
    assert merged(state(a=own), state(a=shared)).keys["a"].minute == [1.0, 2.0, 3.0, 4.0]


def test_only_own_leases_are_updated():
    own, shared = key(flights={1: 2, 3: 9}), key(flights={1: 5, 2: 1, 3: 4})
    assert merged(state(a=own), state(a=shared)).keys["a"].flights == {1: 2, 2: 1, 3: 4}
    assert merged(state(a=key()), state(a=shared)).keys["a"].flights == {2: 1, 3: 4}


@pytest.mark.parametrize(
    ("before", "own", "shared", "expected"),
    [
        pytest.param(False, True, False, True, id="disabled by its user"),
        pytest.param(True, False, True, False, id="enabled by its user"),
        pytest.param(True, True, False, False, id="enabled elsewhere meanwhile"),
    ],
)
def test_the_users_changes_take_precedence(before, own, shared, expected):
    baseline = {"a": KeyBaseline(TODAY, 0, before)}
    result = merged(state(a=key(disabled=own)), state(a=key(disabled=shared)), baseline)
    assert result.keys["a"].disabled is expected


def cooldown(until):
    return Cooldown(cause=Cause.RATE_LIMIT, status=429, until=until, failures=1, since=0.0)


def test_the_longer_cooldown_wins_and_is_a_copy():
    own = state(a=key(cooldowns={"m": cooldown(9.0), "n": cooldown(1.0)}))
    shared = merged(own, state(a=key(cooldowns={"n": cooldown(5.0)})))
    cooldowns = shared.keys["a"].cooldowns
    assert {model: one.until for model, one in cooldowns.items()} == {"m": 9.0, "n": 5.0}
    cooldowns["m"].probe = (1, 1)
    assert own.keys["a"].cooldowns["m"].probe is None


def test_account_limits_successes_turns_and_sessions_are_merged():
    own = PoolState(turn=7, share=2.0)
    own.account_limits = {"m": AccountLimit(until=9.0), "n": AccountLimit(until=1.0)}
    own.last_success = {"m": 5.0, "n": 1.0}
    own.sessions.put("s", SessionRow(key="a", name="s", used=1.0, tokens=0))
    shared = PoolState(turn=5, share=3.0, last_success={"n": 2.0})
    shared.account_limits = {"n": AccountLimit(until=5.0)}
    merged(own, shared)
    assert (shared.turn, shared.share, len(shared.sessions)) == (7, 3.0, 1)
    assert {name: one.until for name, one in shared.account_limits.items()} == {"m": 9.0, "n": 5.0}
    assert shared.last_success == {"m": 5.0, "n": 2.0}


def test_the_baseline_is_stored_for_the_comparison():
    assert baseline_of(state(a=key(used=3, disabled=True))) == {"a": KeyBaseline(TODAY, 3, True)}
