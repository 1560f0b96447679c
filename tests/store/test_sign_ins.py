"""Sign-ins and sessions over time: what expires, what is used once, what a copied token does."""

from __future__ import annotations

from itertools import count

import pytest

from ccproxy.store.sign_ins import (
    ACCESS_SECONDS,
    DEVICE_SECONDS,
    GRACE_SECONDS,
    MOST_DEVICES,
    REFRESH_SECONDS,
    SignedIn,
    SignIns,
)

ANNA = SignedIn(user="anna", token="sha256:1")


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sign_ins(tmp_path, clock):
    numbers = count()
    store = SignIns(tmp_path, new_secret=lambda: f"secret-{next(numbers)}", clock=clock)
    yield store
    store.close()


def test_nothing_readable_is_stored(sign_ins, tmp_path):
    code = sign_ins.begin("CODE")
    pair = sign_ins.open_session(ANNA)
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not [one for one in (code, pair.access, pair.refresh) if one.encode() in content]
    assert {path.stat().st_mode & 0o77 for path in tmp_path.iterdir()} == {0}


def test_an_approval_is_returned_once(sign_ins):
    code = sign_ins.begin("CODE")
    assert sign_ins.approve("CODE", ANNA)
    assert not sign_ins.approve("CODE", SignedIn(user="bob", token="")), "decided already"
    assert sign_ins.poll(code) == ("approved", ANNA)
    assert sign_ins.poll(code) == ("expired", None)


def test_a_sign_in_expires(sign_ins, clock):
    code = sign_ins.begin("CODE")
    clock.now += DEVICE_SECONDS
    assert not sign_ins.is_pending("CODE")
    assert not sign_ins.approve("CODE", ANNA)
    assert sign_ins.poll(code) == ("expired", None)


def test_polling_too_often_is_answered_with_slow_down(sign_ins, clock):
    code = sign_ins.begin("CODE")
    states = []
    for wait in (0, 5, 1, 4.5):
        clock.now += wait
        states.append(sign_ins.poll(code)[0])
    assert states == ["pending", "pending", "slow_down", "pending"]


def test_a_bounded_number_waits(sign_ins, clock):
    assert all(sign_ins.begin(f"C{n}") for n in range(MOST_DEVICES))
    assert sign_ins.begin("ONE MORE") is None
    clock.now += DEVICE_SECONDS
    assert sign_ins.begin("LATER")


def test_sessions_expire(sign_ins, clock):
    pair = sign_ins.open_session(ANNA)
    assert sign_ins.find(pair.access) == ANNA
    clock.now += ACCESS_SECONDS
    assert sign_ins.find(pair.access) is None
    assert sign_ins.refresh(pair.refresh) is not None


def test_an_unused_session_ends(sign_ins, clock):
    pair = sign_ins.open_session(ANNA)
    clock.now += REFRESH_SECONDS
    assert sign_ins.refresh(pair.refresh) is None


def test_a_lost_answer_can_be_asked_for_again(sign_ins, clock):
    first = sign_ins.open_session(ANNA)
    assert sign_ins.refresh(first.refresh) is not None
    clock.now += GRACE_SECONDS - 1
    _, again = sign_ins.refresh(first.refresh)
    assert sign_ins.find(again.access) == ANNA


def test_the_grace_is_not_prolonged_by_using_it(sign_ins, clock):
    first = sign_ins.open_session(ANNA)
    sign_ins.refresh(first.refresh)
    clock.now += GRACE_SECONDS - 1
    sign_ins.refresh(first.refresh)
    clock.now += 1
    assert sign_ins.refresh(first.refresh) is None


def test_a_copied_refresh_token_ends_the_session(sign_ins, clock):
    first = sign_ins.open_session(ANNA)
    _, second = sign_ins.refresh(first.refresh)
    clock.now += GRACE_SECONDS
    assert sign_ins.refresh(first.refresh) is None
    assert sign_ins.find(second.access) is None
    assert sign_ins.refresh(second.refresh) is None
