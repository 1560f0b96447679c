"""The state of one key: its cooldowns, probes, limits and last error."""

from __future__ import annotations

import pytest

from ccproxy.convert.errors.causes import Cause
from ccproxy.keys.account_report import AccountReport, PlanWindow
from ccproxy.keys.display import view_key
from ccproxy.keys.key_selection import PoolKey
from ccproxy.keys.key_state import (
    LONGEST_WINDOW,
    NO_ERROR,
    WHOLE_KEY,
    KeyLimits,
    KeyState,
    Obstacle,
)
from ccproxy.keys.verdict import Effect, Next, Verdict

MODEL = "big"
NAME = PoolKey(secret="sk-first-key-0001", id="k1", tail="…0001")
WALL = 1_700_000_000.0
NO_LIMITS = KeyLimits()


def refuse(key, cause, *, now=0.0, seconds=None, effect=Effect.COOLDOWN, model=WHOLE_KEY, error=""):
    verdict = Verdict(
        effect=effect,
        next=Next.OTHER_KEY,
        cause=cause,
        seconds=seconds,
        is_per_model=model != WHOLE_KEY,
        error_text=error,
    )
    key.refuse(model, verdict, now=now, wall=WALL + now, jitter=0.5)


def start(key, *, now, model=MODEL, limits=NO_LIMITS, probe=(0, 1)):
    return key.start(model, limits, now=now, wall=WALL, probe=probe)


def obstacle(key, *, now=0.0, model=MODEL, limits=NO_LIMITS):
    return key.obstacle(model, limits, now=now, wall=WALL + now, is_only=False)


def last_error_shown(key, *, now=0.0):
    return view_key(NAME, key, NO_LIMITS, 0, now=now, wall=WALL).last_error


def test_a_verdict_without_a_cause_starts_no_cooldown():
    key = KeyState()
    refuse(key, None)
    assert key.cooldowns == {}
    assert obstacle(key) is None


@pytest.mark.parametrize(
    ("probe", "remains"),
    [
        pytest.param((0, 1), False, id="the request that probes"),
        pytest.param((0, 2), True, id="a later request of the same process"),
        pytest.param((3, 1), True, id="a request of another process with the same turn"),
    ],
)
def test_only_the_request_that_probes_ends_the_probe(probe, remains):
    key = KeyState()
    refuse(key, Cause.BAD_KEY, effect=Effect.REJECTED)
    assert start(key, now=61.0) == (WHOLE_KEY,)
    key.end_probe([WHOLE_KEY], probe)
    assert (key.cooldowns[WHOLE_KEY].probe is not None) is remains


def test_the_end_of_a_probe_after_a_reset_has_no_effect():
    key = KeyState()
    refuse(key, Cause.BAD_KEY, effect=Effect.REJECTED)
    names = start(key, now=61.0)
    key.cooldowns.clear()
    key.end_probe(names, (0, 1))
    assert key.cooldowns == {}


@pytest.mark.parametrize(
    ("cause", "remains"),
    [
        pytest.param(Cause.RATE_LIMIT, False, id="a rate limit that was the account's"),
        pytest.param(Cause.OUT_OF_CREDIT, True, id="another cause"),
    ],
)
def test_only_rate_limits_are_forgiven(cause, remains):
    key = KeyState()
    refuse(key, cause, model=MODEL)
    key.forgive_rate_limit(MODEL)
    assert (MODEL in key.cooldowns) is remains


def test_of_two_cooldowns_the_longer_one_is_the_obstacle():
    key = KeyState()
    refuse(key, Cause.RATE_LIMIT, seconds=10.0, model=MODEL)
    refuse(key, Cause.BAD_KEY, effect=Effect.REJECTED)
    longest = obstacle(key)
    assert (longest.reason, longest.seconds) == (Cause.BAD_KEY.value, 60.0)
    assert obstacle(key, model="small").reason == Cause.BAD_KEY.value


def test_another_cause_starts_with_its_shortest_cooldown():
    key = KeyState()
    for now in (0.0, 61.0):
        refuse(key, Cause.BAD_KEY, now=now, effect=Effect.REJECTED)
    assert key.cooldowns[WHOLE_KEY].failures == 2
    refuse(key, Cause.OUT_OF_CREDIT, now=700.0, effect=Effect.OUT)
    cooldown = key.cooldowns[WHOLE_KEY]
    assert (cooldown.cause, cooldown.failures) == (Cause.OUT_OF_CREDIT, 1)
    assert cooldown.until == 700.0 + 3600.0


def test_the_limit_per_minute_counts_all_models():
    key, limits = KeyState(), KeyLimits(per_minute=2)
    start(key, now=0.0, model="big", limits=limits)
    start(key, now=20.0, model="small", limits=limits)
    limit = obstacle(key, now=30.0, limits=limits)
    assert (limit.reason, limit.seconds) == ("per_minute", 30.0)
    assert obstacle(key, now=60.0, limits=limits) is None


def test_uses_are_counted_per_process():
    key = KeyState()
    start(key, now=0.0, probe=(1, 1))
    start(key, now=0.0, probe=(2, 2))
    start(key, now=0.0, probe=(2, 3))
    assert (key.flights, key.in_flight) == ({1: 1, 2: 2}, 3)
    key.finish(1)
    key.finish(2)
    key.finish(1)
    assert (key.flights, key.in_flight) == ({2: 1}, 1)


# The provider's last error.


@pytest.mark.parametrize(
    ("error", "saved"),
    [
        pytest.param("Insufficient Balance", "Insufficient Balance", id="a short text"),
        pytest.param("x" * 300, "x" * 300, id="the longest text that is saved whole"),
        pytest.param("x" * 301, "x" * 299 + "…", id="a longer one"),
    ],
)
def test_the_last_error_survives_a_restart(error, saved):
    key, again = KeyState(), KeyState()
    refuse(key, Cause.OUT_OF_CREDIT, effect=Effect.OUT, error=error)
    assert obstacle(key).last_error == (WALL, saved)
    again.restore(key.export(now=0.0, wall=WALL), now=0.0, wall=WALL)
    assert again.last_error == key.last_error
    assert last_error_shown(again) == saved


def test_a_row_without_a_last_error_is_restored():
    key = KeyState()
    row = {"disabled": False, "day": 1, "used_today": 1, "cooldowns": []}
    key.restore(row, now=0.0, wall=WALL)
    assert key.last_error == NO_ERROR


def test_the_latest_error_is_shown():
    key = KeyState()
    refuse(key, Cause.OUT_OF_CREDIT, effect=Effect.OUT, error="no money")
    refuse(key, Cause.RATE_LIMIT, now=5.0, model=MODEL, error="too fast")
    assert obstacle(key, now=5.0).last_error == (WALL + 5.0, "too fast")


def test_a_limit_of_the_user_quotes_no_error_of_the_provider():
    key, limits = KeyState(), KeyLimits(per_day=1)
    refuse(key, Cause.RATE_LIMIT, error="too fast")
    start(key, now=10.0)
    key.succeed(MODEL, now=10.0, is_only=False)
    assert obstacle(key, now=10.0, limits=limits) == Obstacle(
        "per_day",
        pytest.approx(86400 - (WALL + 10) % 86400),
    )
    assert last_error_shown(key, now=10.0) == ""


def test_with_very_many_models_the_oldest_cooldowns_are_removed():
    key = KeyState()
    refuse(key, Cause.BAD_KEY, effect=Effect.REJECTED)
    for number in range(1000):
        refuse(key, Cause.RATE_LIMIT, model=f"m{number}")
    assert len(key.cooldowns) == 256
    assert list(key.cooldowns)[:2] == [WHOLE_KEY, "m745"]
    assert list(key.cooldowns)[-1] == "m999"


# Reports about the account.

PLAN = AccountReport(windows=(PlanWindow("week", 1.0, 1_000_000 + 40 * 86400.0),), at=1_000_000.0)


def test_a_used_up_plan_lasts_until_its_reset_but_a_month_at_most():
    key = KeyState()
    key.note_account(PLAN, now=10.0, wall=1_000_000.0)
    (cooldown,) = key.cooldowns.values()
    assert (cooldown.cause, cooldown.status, cooldown.until) == (
        Cause.QUOTA,
        0,
        10.0 + LONGEST_WINDOW,
    )
    assert "week window" in key.last_error.text
    again = KeyState()
    again.restore(key.export(now=20.0, wall=1_000_010.0), now=5.0, wall=1_000_010.0)
    assert again.account == PLAN
    assert again.cooldowns[WHOLE_KEY].until == 5.0 + LONGEST_WINDOW - 10.0


def test_a_later_report_ends_the_cooldown_and_a_refusal_outlasts_reports():
    key = KeyState()
    key.note_account(PLAN, now=10.0, wall=1_000_000.0)
    key.note_account(PLAN, now=11.0, wall=1_000_001.0)
    assert key.cooldowns[WHOLE_KEY].since == 1_000_000.0
    key.note_account(AccountReport(), now=12.0, wall=1_000_002.0)
    assert key.cooldowns == {}
    refuse(key, Cause.BAD_KEY, now=13.0, effect=Effect.REJECTED)
    key.note_account(PLAN, now=14.0, wall=1_000_004.0)
    key.note_account(AccountReport(), now=15.0, wall=1_000_005.0)
    assert key.cooldowns[WHOLE_KEY].cause is Cause.BAD_KEY


def test_a_stored_report_of_another_form_is_dropped():
    row = KeyState().export(now=0.0, wall=0.0)
    key = KeyState()
    key.restore({**row, "account": {"windows": "none"}}, now=0.0, wall=0.0)
    assert key.account is None
