"""One key: who may end a rest, and what never begins one."""

from __future__ import annotations

import pytest

from ccproxy.convert.errors.causes import Cause
from ccproxy.keys.display import show
from ccproxy.keys.state import NOTHING, WHOLE_KEY, KeyLimits, KeyState, Obstacle
from ccproxy.keys.verdict import Effect, Next, Verdict

MODEL = "big"
WALL = 1_700_000_000.0


def key_of(**limits):
    return KeyState(secret="sk-1", id="k1", tail="…", limits=KeyLimits(**limits))


def refuse(key, cause, *, now=0.0, seconds=None, effect=Effect.REST, model=WHOLE_KEY, said=""):
    verdict = Verdict(
        effect=effect,
        next=Next.OTHER_KEY,
        cause=cause,
        seconds=seconds,
        per_model=model != WHOLE_KEY,
        said=said,
    )
    key.refused(model, verdict, now=now, wall=WALL + now, jitter=0.5)


def obstacle(key, *, now=0.0, model=MODEL):
    return key.obstacle(model, now=now, wall=WALL + now, alone=False)


def test_a_verdict_without_a_cause_begins_no_rest():
    key = key_of()
    refuse(key, None)
    assert key.rests == {}
    assert obstacle(key) is None


@pytest.mark.parametrize(
    ("probe", "still"),
    [
        pytest.param((0, 1), False, id="the one that probes"),
        pytest.param((0, 2), True, id="a later request of the same process"),
        pytest.param((3, 1), True, id="another process's request of the same turn"),
    ],
)
def test_a_probe_is_ended_by_the_request_that_is_it(probe, still):
    key = key_of()
    refuse(key, Cause.BAD_KEY, effect=Effect.SUSPECT)
    assert key.start(MODEL, now=61.0, wall=WALL, probe=(0, 1)) == (WHOLE_KEY,)
    key.end_probe([WHOLE_KEY], probe)
    assert key.rests[WHOLE_KEY].probing is still


def test_the_end_of_a_probe_of_a_rest_that_was_reset_is_nothing():
    key = key_of()
    refuse(key, Cause.BAD_KEY, effect=Effect.SUSPECT)
    names = key.start(MODEL, now=61.0, wall=WALL, probe=(0, 1))
    key.rests.clear()
    key.end_probe(names, (0, 1))
    assert key.rests == {}


@pytest.mark.parametrize(
    ("cause", "left"),
    [
        pytest.param(Cause.RATE_LIMIT, False, id="a rate limit was the address's after all"),
        pytest.param(Cause.OUT_OF_CREDIT, True, id="what is not a rate limit stays"),
    ],
)
def test_only_rate_limits_are_forgiven(cause, left):
    key = key_of()
    refuse(key, cause, model=MODEL)
    key.forgive(MODEL)
    assert (MODEL in key.rests) is left


def test_of_two_rests_the_longer_one_is_told():
    key = key_of()
    refuse(key, Cause.RATE_LIMIT, seconds=10.0, model=MODEL)
    refuse(key, Cause.BAD_KEY, effect=Effect.SUSPECT)
    found = obstacle(key)
    assert (found.why, found.seconds) == (Cause.BAD_KEY.value, 60.0)
    assert obstacle(key, model="small").why == Cause.BAD_KEY.value


def test_another_cause_begins_anew():
    key = key_of()
    for now in (0.0, 61.0):
        refuse(key, Cause.BAD_KEY, now=now, effect=Effect.SUSPECT)
    assert key.rests[WHOLE_KEY].failures == 2
    refuse(key, Cause.OUT_OF_CREDIT, now=700.0, effect=Effect.OUT)
    rest = key.rests[WHOLE_KEY]
    assert (rest.cause, rest.failures, rest.until) == (Cause.OUT_OF_CREDIT, 1, 700.0 + 3600.0)


def test_a_minute_is_shared_by_all_models():
    key = key_of(per_minute=2)
    key.start("big", now=0.0, wall=WALL, probe=(0, 1))
    key.start("small", now=20.0, wall=WALL, probe=(0, 2))
    found = obstacle(key, now=30.0)
    assert (found.why, found.seconds) == ("per_minute", 30.0)
    assert obstacle(key, now=60.0) is None


def test_what_is_shared_comes_back_as_it_was():
    key = key_of(per_minute=9)
    key.start(MODEL, now=0.0, wall=WALL, probe=(1, 1))
    refuse(key, Cause.RATE_LIMIT, seconds=10.0, model=MODEL, said="slowly")
    other = key_of(per_minute=9)
    other.revive(key.live(1), 2)
    assert other.live(2).flights == {1: 1, 2: 0}
    assert (other.rests, other.used(WALL), other.in_flight) == (key.rests, 1, 1)
    assert other.said == (WALL, "slowly")


# What the provider said.


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        pytest.param("Insufficient Balance", "Insufficient Balance", id="its words"),
        pytest.param("x" * 300, "x" * 300, id="as many as are kept"),
        pytest.param("x" * 301, "x" * 299 + "…", id="no more"),
    ],
)
def test_what_was_said_is_kept_over_a_restart(said, kept):
    key, again = key_of(), key_of()
    refuse(key, Cause.OUT_OF_CREDIT, effect=Effect.OUT, said=said)
    assert obstacle(key).said == (WALL, kept)
    again.restore(key.export(now=0.0, wall=WALL), now=0.0, wall=WALL)
    assert again.said == key.said
    assert show(again, now=0.0, wall=WALL).said == kept


def test_what_was_kept_before_words_were_is_understood():
    key = key_of()
    key.restore({"disabled": False, "day": 1, "used_today": 1, "rests": []}, now=0.0, wall=WALL)
    assert key.said == NOTHING


def test_the_last_words_count():
    key = key_of()
    refuse(key, Cause.OUT_OF_CREDIT, effect=Effect.OUT, said="no money")
    refuse(key, Cause.RATE_LIMIT, now=5.0, model=MODEL, said="too fast")
    assert obstacle(key, now=5.0).said == (WALL + 5.0, "too fast")


def test_limits_of_ours_are_nothing_that_the_provider_said():
    key = key_of(per_day=1)
    refuse(key, Cause.RATE_LIMIT, said="too fast")
    key.start(MODEL, now=10.0, wall=WALL, probe=(0, 1))
    key.succeeded(MODEL, now=10.0, alone=False)
    assert obstacle(key, now=10.0) == Obstacle(
        "per_day", pytest.approx(86400 - (WALL + 10) % 86400)
    )
    assert show(key, now=10.0, wall=WALL).said == ""


def test_of_very_many_models_the_oldest_rests_are_forgotten():
    key = key_of()
    refuse(key, Cause.BAD_KEY, effect=Effect.SUSPECT)
    for number in range(1000):
        refuse(key, Cause.RATE_LIMIT, model=f"m{number}")
    assert len(key.rests) == 256
    assert list(key.rests)[:2] == [WHOLE_KEY, "m745"]
    assert list(key.rests)[-1] == "m999"
