"""Sign-ins and sessions on one machine and across replicas: expiry, and single use."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from ccproxy.store.sign_in_records import SignInRecords
from ccproxy.worker.gateway.sign_ins import (
    ACCESS_SECONDS,
    DEVICE_SECONDS,
    GRACE_SECONDS,
    MOST_BEGUN,
    REFRESH_SECONDS,
    SignIns,
)
from ccproxy.worker.redis.redis_records import RedisRecords
from tests.redis_server import redis_backend

ANNA, BOB = "sha256:anna", "sha256:bob"
_NUMBERS = count(1)


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["file", "redis"])
async def workers(request, tmp_path, clock):
    """Two workers with the same file, and two replicas with the same Redis."""
    if request.param == "file":
        records = [SignInRecords(tmp_path, clock=clock) for _ in range(2)]
        yield [SignIns(one, secret=b"secret", clock=clock) for one in records]
        for one in records:
            one.close()
        return
    server, secret = request.getfixturevalue("redis_server"), f"s{next(_NUMBERS)}".encode()
    backends = [redis_backend(server.address, prefix="sign-ins") for _ in range(2)]
    for backend in backends:
        backend.start()
        await backend.has_contact.wait()
    yield [
        SignIns(RedisRecords(backend.call, secret=secret), secret=b"secret", clock=clock)
        for backend in backends
    ]
    for backend in backends:
        await backend.close()


@pytest.fixture
def sign_ins(workers):
    return workers[0]


@pytest.fixture
def one_file(tmp_path, clock):
    records = SignInRecords(tmp_path, clock=clock)
    yield SignIns(records, secret=b"secret", clock=clock)
    records.close()


async def user_of(sign_ins, token):
    """Return the user of an access token."""
    session = await sign_ins.find(token)
    return session and {sign_ins.sealed(one): one for one in (ANNA, BOB)}[session.approval]


async def remove_family(sign_ins, pair):
    """Make the record of a session like that of an older version."""
    name = f"session-{pair.access[4:36]}"
    old = await sign_ins._records.read(name)
    fields = json.loads(old)
    del fields["family"]
    await sign_ins._records.replace(name, old, json.dumps(fields).encode(), seconds=60)


async def opened(sign_ins):
    return await sign_ins.open_session(sign_ins.sealed(ANNA))


async def test_nothing_readable_is_stored(one_file, tmp_path):
    user_code, code = await one_file.begin()
    await one_file.approve(user_code, ANNA)
    pair = await opened(one_file)
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    secrets = [user_code, code.partition(".")[2], pair.access, pair.access[36:], pair.refresh, ANNA]
    assert not [one for one in secrets if one.encode() in content]
    assert {path.stat().st_mode & 0o77 for path in tmp_path.iterdir()} == {0}


async def test_an_approval_is_returned_once(sign_ins):
    user_code, code = await sign_ins.begin()
    assert await sign_ins.approve(user_code, ANNA)
    assert not await sign_ins.approve(user_code, BOB), "decided already"
    assert await sign_ins.poll(code) == ("approved", sign_ins.sealed(ANNA))
    assert await sign_ins.poll(code) == ("expired", "")


async def test_a_sign_in_expires(sign_ins, clock):
    user_code, code = await sign_ins.begin()
    clock.now += DEVICE_SECONDS
    assert not await sign_ins.is_pending(user_code)
    assert not await sign_ins.approve(user_code, ANNA)
    assert await sign_ins.poll(code) == ("expired", "")


async def test_polling_too_often_is_answered_with_slow_down(sign_ins, clock):
    _, code = await sign_ins.begin()
    states = []
    for wait in (0, 5, 1, 4.5):
        clock.now += wait
        states.append((await sign_ins.poll(code))[0])
    assert states == ["pending", "pending", "slow_down", "pending"]


async def test_the_number_of_pending_sign_ins_is_bounded(one_file, clock):
    for _ in range(MOST_BEGUN):
        assert await one_file.begin()
    assert await one_file.begin() is None
    clock.now += DEVICE_SECONDS
    assert await one_file.begin()


async def test_sessions_expire(sign_ins, clock):
    pair = await opened(sign_ins)
    assert await user_of(sign_ins, pair.access) == ANNA
    clock.now += ACCESS_SECONDS
    assert await sign_ins.find(pair.access) is None
    assert await sign_ins.refresh(pair.refresh) is not None


async def test_an_unused_session_ends(sign_ins, clock):
    pair = await opened(sign_ins)
    clock.now += REFRESH_SECONDS
    assert await sign_ins.refresh(pair.refresh) is None


async def test_a_lost_answer_can_be_requested_again(sign_ins, clock):
    first = await opened(sign_ins)
    assert await sign_ins.refresh(first.refresh) is not None
    clock.now += GRACE_SECONDS - 1
    _, again = await sign_ins.refresh(first.refresh)
    assert await user_of(sign_ins, again.access) == ANNA


async def test_the_grace_period_is_not_extended_by_its_use(sign_ins, clock):
    first = await opened(sign_ins)
    await sign_ins.refresh(first.refresh)
    clock.now += GRACE_SECONDS - 1
    await sign_ins.refresh(first.refresh)
    clock.now += 1
    assert await sign_ins.refresh(first.refresh) is None


async def test_a_copied_refresh_token_ends_the_session(sign_ins, clock):
    first = await opened(sign_ins)
    _, second = await sign_ins.refresh(first.refresh)
    clock.now += GRACE_SECONDS
    assert await sign_ins.refresh(first.refresh) is None
    assert await sign_ins.find(second.access) is None
    assert await sign_ins.refresh(second.refresh) is None


@pytest.mark.parametrize("exchanges", [2, 5])
async def test_a_copy_that_was_exchanged_several_times_ends_with_the_session(
    sign_ins, clock, exchanges
):
    """The owner of the first token uses it after the thief has got several new ones."""
    first = copied = await opened(sign_ins)
    for _ in range(exchanges):
        _, copied = await sign_ins.refresh(copied.refresh)
    assert await sign_ins.refresh(first.refresh) is None
    assert await sign_ins.find(copied.access) is None
    assert await sign_ins.refresh(copied.refresh) is None


async def test_a_changed_refresh_token_ends_no_session(sign_ins):
    pair = await opened(sign_ins)
    access, refresh = pair.access, pair.refresh
    for text in (access, access + refresh[len(access) :], refresh[:60] + "x" + refresh[61:]):
        assert await sign_ins.refresh(text) is None
    assert await sign_ins.refresh(refresh) is not None


async def test_a_session_of_an_older_version_can_be_renewed(sign_ins):
    pair = await opened(sign_ins)
    await remove_family(sign_ins, pair)
    assert await user_of(sign_ins, pair.access) == ANNA
    _, new = await sign_ins.refresh(pair.refresh)
    assert await sign_ins.refresh(new.refresh) is not None


async def test_a_copied_token_ends_a_session_of_an_older_version(sign_ins, clock):
    first = await opened(sign_ins)
    _, second = await sign_ins.refresh(first.refresh)
    await remove_family(sign_ins, second)
    clock.now += GRACE_SECONDS
    assert await sign_ins.refresh(first.refresh) is None
    assert await sign_ins.refresh(second.refresh) is None


async def test_an_older_session_is_ended_by_each_token_that_it_had_since_the_upgrade(sign_ins):
    first = await opened(sign_ins)
    await remove_family(sign_ins, first)
    _, second = await sign_ins.refresh(first.refresh)
    _, third = await sign_ins.refresh(second.refresh)
    assert await sign_ins.refresh(first.refresh) is None
    assert await sign_ins.refresh(third.refresh) is None


@pytest.mark.parametrize("part", ["refresh", "access"])
async def test_a_token_has_one_purpose(sign_ins, part):
    pair = await opened(sign_ins)
    _, code = await sign_ins.begin()
    session = pair.access[4:36]
    assert await sign_ins.find(pair.refresh) is None
    assert await sign_ins.refresh(pair.access) is None
    for text in (session, f"{session}.x", "begun", code, "\udc80\0" * 50, pair.access[:-1], ""):
        assert await sign_ins.find(text) is None
        assert await sign_ins.find(f"ccu_{text}") is None
        assert await sign_ins.refresh(text) is None
        assert await sign_ins.poll(text[:-1]) == ("expired", "")
        await sign_ins.close_session(text)
    assert await user_of(sign_ins, pair.access) == ANNA
    await sign_ins.close_session(getattr(pair, part))
    assert await sign_ins.find(pair.access) is None


# Several workers and replicas.


async def test_workers_read_each_others_records(workers):
    one, other = workers
    user_code, code = await one.begin()
    assert await other.is_pending(user_code)
    assert await other.approve(user_code, ANNA)
    assert not await one.is_pending(user_code)
    assert await one.poll(code) == ("approved", one.sealed(ANNA))
    session = await opened(one)
    assert await user_of(other, session.access) == ANNA
    _, new = await other.refresh(session.refresh)
    assert await one.find(session.access) is None
    await other.close_session(new.refresh)
    assert await one.find(new.access) is None


async def at_once(workers, work):
    """Return the results of concurrent *work* with each worker; workers with a file use threads."""
    if isinstance(workers[0]._records, RedisRecords):
        return await asyncio.gather(*map(work, workers))
    barrier = threading.Barrier(len(workers))

    def run(sign_ins):
        barrier.wait()
        return asyncio.run(work(sign_ins))

    with ThreadPoolExecutor(len(workers)) as pool:
        return list(pool.map(run, workers))


async def test_only_one_of_two_concurrent_polls_gets_the_approval(workers):
    for _ in range(10):
        user_code, code = await workers[0].begin()
        await workers[0].approve(user_code, ANNA)
        states = await at_once(workers, lambda one, code=code: one.poll(code))
        assert sorted(state for state, _ in states) == ["approved", "expired"]


async def test_only_one_of_two_concurrent_decisions_counts(workers):
    for _ in range(10):
        user_code, code = await workers[0].begin()
        users = iter([ANNA, BOB])
        decided = await at_once(
            workers, lambda one, code=user_code, users=users: one.approve(code, next(users))
        )
        assert sorted(decided) == [False, True]
        assert (await workers[0].poll(code))[0] == "approved"


async def test_after_two_concurrent_refreshes_the_session_can_be_refreshed(workers):
    """Two windows of one client share a token."""
    for _ in range(10):
        first = await opened(workers[0])
        pairs = await at_once(workers, lambda one, token=first.refresh: one.refresh(token))
        (_, pair), (_, same) = pairs
        assert pair == same
        assert await user_of(workers[0], pair.access) == ANNA
        assert await workers[1].refresh(pair.refresh) is not None
