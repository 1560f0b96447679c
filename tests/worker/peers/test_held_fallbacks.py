"""The time for which a session stays with its fallback."""

from __future__ import annotations

import pytest

from ccproxy.keys.sessions import MAX_SESSIONS, SESSION_IDLE, SessionRef
from ccproxy.worker.peers.held_fallbacks import CACHE_SECONDS, HeldFallbacks

HOLD = 600.0


class Time:
    now = 1000.0


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def held(time):
    return HeldFallbacks(HOLD, clock=lambda: time.now)


def ref(name="s", *, tokens=10_000, **fields):
    return SessionRef(id=name, name=name, tokens=tokens, **fields)


def falls_back(held, *, tokens=10_000):
    """Record that the session's own entry was tried and failed."""
    assert held.label_of(ref(tokens=tokens)) == ""
    held.note(ref(tokens=tokens), "GLM")


def test_the_own_entry_is_tried_while_its_cache_is_warm(held, time):
    falls_back(held)
    time.now += CACHE_SECONDS - 1
    assert held.label_of(ref()) == ""


def test_a_session_stays_for_a_bounded_time_when_the_cache_is_cold(held, time):
    falls_back(held)
    time.now += CACHE_SECONDS
    assert held.label_of(ref()) == "GLM"
    time.now += HOLD - CACHE_SECONDS
    assert held.label_of(ref()) == ""


def test_each_failure_of_the_own_entry_restarts_the_time(held, time):
    falls_back(held)
    for _ in range(3):
        time.now += HOLD
        falls_back(held)
        assert held.label_of(ref()) == "GLM"


@pytest.mark.parametrize(
    "next_prompt",
    [
        pytest.param([ref(is_compaction=True), ref()], id="after a compaction"),
        pytest.param([ref(tokens=3000)], id="a prompt of less than half the size"),
    ],
)
def test_a_new_prefix_ends_the_hold(held, time, next_prompt):
    falls_back(held)
    time.now += CACHE_SECONDS
    *before, last = next_prompt
    assert [held.label_of(one) for one in before] == ["GLM"] * len(before)
    assert held.label_of(last) == ""


def test_an_answer_of_the_own_entry_ends_the_hold(held, time):
    falls_back(held)
    assert held.label_of(ref()) == "", "the own entry answers"
    assert held.label_of(ref()) == ""
    assert not held
    time.now += CACHE_SECONDS
    assert held.label_of(ref()) == ""


def test_a_session_that_returns_after_an_hour_starts_again(held, time):
    falls_back(held)
    time.now += SESSION_IDLE + 1
    held.note(ref(), "GLM")
    assert held.label_of(ref()) == ""


def test_the_number_of_sessions_is_bounded(held):
    for number in range(MAX_SESSIONS + 5):
        held.note(ref(str(number)), "GLM")
    assert len(held._sessions) == MAX_SESSIONS
    assert "0" not in held._sessions
