"""Sign-ins and sessions over time: what expires, what is used once, what a copied token does."""

from __future__ import annotations

import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
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


def test_sessions_of_an_earlier_version_go_on(tmp_path, clock):
    old = SignIns(tmp_path, new_secret=iter(["access", "refresh", "a", "b"]).__next__, clock=clock)
    old.open_session(ANNA)
    old.close()
    with closing(sqlite3.connect(tmp_path / "sign_ins.sqlite3")) as connection:
        connection.executescript("ALTER TABLE sessions DROP COLUMN since; PRAGMA user_version=1")
    new = SignIns(tmp_path, new_secret=iter(["c", "d"]).__next__, clock=clock)
    assert new.find("access") == ANNA
    assert new.refresh("refresh") is not None
    new.close()


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


# Several workers, kills and full disks.


@pytest.fixture
def workers(tmp_path, clock):
    """Two workers with the same file."""
    stores = [
        SignIns(tmp_path, new_secret=lambda: secrets.token_hex(8), clock=clock) for _ in range(2)
    ]
    yield stores
    for store in stores:
        store.close()


def test_what_one_worker_stores_the_other_reads(workers):
    one, other = workers
    code = one.begin("CODE")
    assert other.is_pending("CODE")
    assert other.approve("CODE", ANNA)
    assert not one.is_pending("CODE")
    assert one.poll(code) == ("approved", ANNA)
    session = one.open_session(ANNA)
    assert other.find(session.access) == ANNA
    other.close_session(session.refresh)
    assert one.find(session.access) is None


def at_once(workers, work):
    """Return the results of *work* with each worker, started at the same time."""
    barrier = threading.Barrier(len(workers))

    def run(store):
        barrier.wait()
        return work(store)

    with ThreadPoolExecutor(len(workers)) as pool:
        return list(pool.map(run, workers))


def test_of_two_polls_at_once_one_gets_the_approval(workers):
    for number in range(10):
        code = workers[0].begin(f"CODE{number}")
        workers[0].approve(f"CODE{number}", ANNA)
        states = at_once(workers, lambda store, code=code: store.poll(code)[0])
        assert sorted(states) == ["approved", "expired"]


def test_of_two_decisions_at_once_one_counts(workers):
    bob = SignedIn(user="bob", token="sha256:2")
    for number in range(10):
        code = workers[0].begin(f"CODE{number}")
        users = iter([ANNA, bob])
        decided = at_once(
            workers, lambda store, n=number, users=users: store.approve(f"CODE{n}", next(users))
        )
        assert sorted(decided) == [False, True]
        assert workers[0].poll(code)[1] in (ANNA, bob)


def test_two_refreshes_at_once_leave_a_session_that_can_be_refreshed(workers):
    """Two windows of one client share the token."""
    for _ in range(10):
        first = workers[0].open_session(ANNA)
        refreshed = at_once(workers, lambda store, token=first.refresh: store.refresh(token))
        assert [who.user for who, _ in refreshed] == ["anna", "anna"]
        assert any(workers[0].find(pair.access) == ANNA for _, pair in refreshed)
        assert any(workers[0].refresh(pair.refresh) for _, pair in refreshed)


def test_a_refresh_on_a_full_disk_is_an_error_and_the_token_stays_valid(
    sign_ins, tmp_path, disk_limit
):
    pair = sign_ins.open_session(ANNA)
    size = max(path.stat().st_size for path in tmp_path.iterdir())
    with disk_limit(size), pytest.raises(sqlite3.OperationalError):
        sign_ins.refresh(pair.refresh)
    assert sign_ins.find(pair.access) == ANNA
    assert sign_ins.refresh(pair.refresh) is not None


SIGN_IN = """
import os, signal, sys, time
from pathlib import Path
from tests.store.test_sign_ins import ANNA, SignIns
store = SignIns(Path(sys.argv[1]), new_secret=lambda: os.urandom(8).hex(), clock=lambda: 1e6)
print(store.open_session(ANNA).access, flush=True)
store.begin("CODE")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_sessions_survive_a_killed_worker(sign_ins, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SIGN_IN, tmp_path], stdout=subprocess.PIPE, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert sign_ins.find(done.stdout.decode().strip()) == ANNA
    assert sign_ins.is_pending("CODE")
