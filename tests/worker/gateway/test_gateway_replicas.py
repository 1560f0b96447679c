"""A gateway with two replicas behind a load balancer that sends requests to either of them."""

from __future__ import annotations

import re
import shutil
import signal
from contextlib import AsyncExitStack
from itertools import count

import pytest

from ccproxy.errors import ConfigError
from tests.fleet import eventually
from tests.provider import completion
from tests.worker.gateway.team import ANNA, BOB, approve, bearer, begin, form, poll, write_users
from tests.worker.proxy import running

ANNA_ROW = 'email = "anna@example.com"\nbudgets = ["1M tokens/day"]'
SECRET = "0123456789abcdef0123456789abcdef"
_VERSIONS = count(1)
REFRESH = {"grant_type": "refresh_token"}


@pytest.fixture
def file(tmp_path):
    """The users file of each replica: a symbolic link into a folder, like a Kubernetes mount."""
    mount_users(tmp_path, lambda path: write_users(path, anna=ANNA_ROW))
    (tmp_path / "users.toml").symlink_to("..data/users.toml")
    return tmp_path / "users.toml"


def mount_users(folder, write):
    """Mount a new version of the file, and delete the old one."""
    version = folder / f"..{next(_VERSIONS)}"
    version.mkdir()
    write(version / "users.toml")
    (folder / "..new").symlink_to(version.name)
    old = (folder / "..data").resolve()
    (folder / "..new").replace(folder / "..data")
    if old != folder / "..data":
        shutil.rmtree(old)


@pytest.fixture
async def replicas(tmp_path, file, provider, own_server):
    """Two replicas on different hosts, with the same users, secret and Redis."""
    provider.script(completion("Hello"))
    # The pool must look old, because replicas of a new pool wait for each other's reports.
    own_server.ask("HSET", "ccproxy:1:{test}:head", "epoch", "e", "version", 1, "since", 1)
    settings = {
        "USERS": str(file),
        "REDIS_URL": f"unix://{own_server.path}",
        "REDIS_TIMEOUT": "5",
        "SIGNING_KEY": SECRET,
    }
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(running(tmp_path / host, provider.url, **settings))
            for host in ("one", "two")
        ]


async def sign_in(replicas):
    """Sign in, with each step on a different replica."""
    one, two = replicas
    started = await begin(one)
    assert (await poll(two, started["device_code"]))[1]["error"] == "authorization_pending"
    await approve(two, started, ANNA)
    status, tokens = await poll(one, started["device_code"])
    assert status == 200
    assert (await poll(two, started["device_code"]))[1]["error"] == "expired_token"
    return tokens


async def statuses(replicas, token):
    return [(await one.ask(headers=bearer(token))).status for one in replicas]


async def test_a_sign_in_is_valid_on_every_replica(replicas):
    one, two = replicas
    tokens = await sign_in(replicas)
    assert await statuses(replicas, tokens["access_token"]) == [200, 200]
    status, new = await form(two, "/oauth/token", **REFRESH, refresh_token=tokens["refresh_token"])
    assert status == 200
    assert await statuses(replicas, tokens["access_token"]) == [401, 401]
    assert await statuses(replicas, new["access_token"]) == [200, 200]
    await form(one, "/oauth/revoke", token=new["refresh_token"])
    assert await statuses(replicas, new["access_token"]) == [401, 401]


@pytest.mark.parametrize("change", ["removed", "revoked"])
async def test_a_user_who_is_removed_is_refused_by_every_replica(replicas, file, change):
    tokens = await sign_in(replicas)
    for token in (tokens["access_token"], ANNA):
        assert await statuses(replicas, token) == [200, 200]
    text = '[[user]]\nname = "anna"\ntokens = []\n' if change == "revoked" else ""
    mount_users(file.parent, lambda path: path.write_text(text))
    for token in (tokens["access_token"], ANNA, BOB):
        assert await statuses(replicas, token) == [401, 401]
    for one in replicas:
        status, body = await form(
            one, "/oauth/token", **REFRESH, refresh_token=tokens["refresh_token"]
        )
        assert (status, body["error"]) == (401, "invalid_grant")


async def test_every_replica_reports_what_a_user_has_spent(replicas):
    one, two = replicas
    assert (await one.ask(headers=bearer(ANNA))).status == 200
    await eventually(lambda: not one.worker.requests.tasks)
    (own,) = one.worker.payers.user_rows()
    assert (own.user, own.spent > 0) == ("anna", True)
    (other,) = await eventually(two.worker.payers.user_rows)
    assert other.spent == own.spent


async def test_without_redis_a_replica_reports_only_users_who_have_spent(
    replicas, own_server, file
):
    one, two = replicas
    bob = 'budgets = ["1M tokens/day"]'
    mount_users(file.parent, lambda path: write_users(path, anna=ANNA_ROW, bob=bob))
    await eventually(lambda: one.worker.shared_pool.sharing().replicas == 2)
    assert (await two.ask(headers=bearer(ANNA))).status == 200
    await eventually(one.worker.payers.user_rows)
    own_server.stop()
    await eventually(lambda: not one.worker.shared_pool.backend.is_shared)
    assert [row.user for row in one.worker.payers.user_rows()] == ["anna"]


async def test_wrong_tokens_are_counted_over_all_replicas(replicas):
    started = await begin(replicas[0])
    for number in range(5):
        with pytest.raises(AssertionError, match="not valid"):
            await approve(replicas[number % 2], started, "ccu_wrong")
    status, body = await poll(replicas[1], started["device_code"])
    assert (status, body["error"]) == (400, "access_denied")


async def test_without_redis_sessions_remain_valid(replicas, own_server):
    one, two = replicas
    tokens = await sign_in(replicas)
    assert await statuses(replicas, tokens["access_token"]) == [200, 200]
    started = await begin(one)
    other = await sign_in(replicas)
    own_server.stop()
    await eventually(lambda: not any(one.worker.shared_pool.backend.is_shared for one in replicas))
    assert await statuses(replicas, tokens["access_token"]) == [200, 200], "as far as it is known"
    assert await statuses(replicas, ANNA) == [200, 200], "needs no Redis"
    unknown = await two.ask(headers=bearer(other["access_token"]))
    assert (unknown.status, unknown.headers["x-should-retry"]) == (503, "true")
    for path, fields in (
        ("/oauth/token", {**REFRESH, "refresh_token": tokens["refresh_token"]}),
        ("/oauth/revoke", {"token": tokens["access_token"]}),
        ("/oauth/device_authorization", {}),
    ):
        status, body = await form(two, path, **fields)
        assert (status, "Redis is unavailable" in str(body)) == (503, True), path
    own_server.start()
    await eventually(lambda: all(one.worker.shared_pool.backend.is_shared for one in replicas))
    assert (await poll(one, started["device_code"]))[1]["error"] == "expired_token"
    assert await statuses(replicas, tokens["access_token"]) == [401, 401], "Redis has lost it"
    await sign_in(replicas)


async def test_a_silent_redis_delays_only_one_request(replicas, own_server):
    tokens = await sign_in(replicas)
    assert await statuses(replicas, tokens["access_token"]) == [200, 200]
    backends = [one.worker.shared_pool.backend for one in replicas]
    for backend in backends:
        backend._timeout = 0.2
    own_server.process.send_signal(signal.SIGSTOP)
    for _ in range(3):
        assert await statuses(replicas, tokens["access_token"]) == [200, 200]
    assert [backend.is_shared for backend in backends] == [False, False]
    assert all("no reply within 200 ms" in one.lines("pool.local")[0]["reason"] for one in replicas)
    own_server.process.send_signal(signal.SIGCONT)


async def test_write_access_to_redis_creates_no_sessions(replicas, own_server):
    tokens = await sign_in(replicas)
    before = set(names(own_server))
    other = await sign_in(replicas)
    (record,) = set(names(own_server)) - before
    (first, *_) = [name for name in before if name != record]
    for old, new in ((record, first), (first, record)):
        own_server.ask("COPY", old, new, "REPLACE")
    own_server.ask("SET", record, '{"until":9e9}')
    assert await statuses(replicas, other["access_token"]) == [401, 401]
    for name in names(own_server):
        own_server.ask("DEL", name)
        own_server.ask("LPUSH", name, "x")
    assert await statuses(replicas, tokens["access_token"]) == [401, 401]
    assert await statuses(replicas, ANNA) == [200, 200]


async def test_redis_has_neither_tokens_nor_users(replicas, own_server):
    tokens = await sign_in(replicas)
    started = await begin(replicas[0])
    stored = b"".join(own_server.ask("GET", name) for name in names(own_server))
    assert stored.count(b'"until"') == 3, "a session, a sign-in, and how many were begun"
    code = started["device_code"].partition(".")[2]
    secrets = [ANNA, tokens["access_token"][36:], tokens["refresh_token"][36:], code]
    for secret in (*secrets, "anna", started["user_code"], started["user_code"].replace("-", "")):
        assert secret.encode() not in stored, secret
    for name in names(own_server):
        life = int(own_server.ask("PTTL", name)[1:])
        assert 0 < life <= 30 * 86400 * 1000


def names(server):
    """Return the names of the records in Redis."""
    return [
        name.decode()
        for name in re.findall(rb"ccproxy:1:{@sign-ins}:[0-9a-f]+", server.ask("KEYS", "*"))
    ]


async def test_a_gateway_with_replicas_needs_a_signing_key(tmp_path, file):
    settings = {"USERS": str(file), "REDIS_URL": "redis://127.0.0.1:1"}
    with pytest.raises(ConfigError, match="USERS with REDIS_URL needs SIGNING_KEY"):
        async with running(tmp_path, "http://127.0.0.1:1", **settings):
            pass
