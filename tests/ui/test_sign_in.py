"""Tests of one-time codes and sessions."""

from __future__ import annotations

import itertools

import pytest

from ccproxy.ui.sign_in import CODE_SECONDS, MAX_SESSIONS, SESSION_SECONDS, SignIn, new_secret


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sign_in(clock):
    numbers = itertools.count()
    return SignIn(clock=clock, secret=lambda: f"secret-{next(numbers)}")


def test_a_code_works_once(sign_in):
    code = sign_in.new_code()
    session = sign_in.exchange(code)
    assert sign_in.accepts(session.cookie, session.token)
    assert sign_in.exchange(code) is None


def test_a_new_code_replaces_the_old_one(sign_in):
    old = sign_in.new_code()
    new = sign_in.new_code()
    assert sign_in.exchange(old) is None
    assert sign_in.exchange(new)


@pytest.mark.parametrize("code", ["", "wrong", "secret", "é", "\ud800"])
def test_another_code_does_not_work(sign_in, code):
    sign_in.new_code()
    assert sign_in.exchange(code) is None


def test_without_a_code_nothing_works(sign_in):
    assert sign_in.exchange("") is None


def test_a_code_expires(sign_in, clock):
    code = sign_in.new_code()
    clock.now += CODE_SECONDS + 1
    assert sign_in.exchange(code) is None


def test_a_session_expires(sign_in, clock):
    session = sign_in.exchange(sign_in.new_code())
    clock.now += SESSION_SECONDS
    assert not sign_in.accepts(session.cookie, session.token)
    assert not sign_in.knows_cookie(session.cookie)


def test_cookie_and_token_must_be_of_one_session(sign_in):
    one = sign_in.exchange(sign_in.new_code())
    other = sign_in.exchange(sign_in.new_code())
    assert not sign_in.accepts(one.cookie, other.token)
    assert not sign_in.accepts("", "")
    assert not sign_in.accepts(one.token, one.cookie)


def test_sign_out(sign_in):
    session = sign_in.exchange(sign_in.new_code())
    sign_in.end(session.cookie)
    assert not sign_in.knows_cookie(session.cookie)


def test_sessions_are_bounded(sign_in):
    sessions = [sign_in.exchange(sign_in.new_code()) for _ in range(MAX_SESSIONS + 2)]
    is_known = [sign_in.knows_cookie(session.cookie) for session in sessions]
    assert is_known == [False] * 2 + [True] * MAX_SESSIONS


def test_secrets_are_long_and_differ():
    assert len({new_secret() for _ in range(100)}) == 100
    assert len(new_secret()) == 32
