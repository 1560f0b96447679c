"""A Redis with foreign or invalid content: requests are not affected, and nothing leaks."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from ccproxy.worker.redis import connection as connection_module
from ccproxy.worker.redis import redis_backend as redis_backend_module
from tests.fleet import eventually
from tests.messages import prompt
from tests.provider import completion
from tests.worker.proxy import KEY

CLIENT = "ccp_alice_0123456789"
SESSION = "0b6f2a4e-1c9d-4c52-9a34-5f0e6d7c8b9a"
PREFIX = "ccproxy:1:{test}"
RUBBISH = "\x00rubbish\x7f"


@pytest.fixture
async def replica(start, provider, own_server):
    """A worker with a budget, whose pool is in the test's own Redis."""
    provider.script(completion("Hello", usage={"prompt_tokens": 10, "completion_tokens": 5}))
    proxy = await start(
        REDIS_URL=f"unix://{own_server.path}",
        REDIS_TIMEOUT="5",
        BUDGET="1M tokens/day",
        ANTHROPIC_API_KEY=CLIENT,
        PROVIDER_API_KEY=f"{KEY},sk-another-key-0123456",
    )

    async def ask():
        headers = {"x-api-key": CLIENT, "x-claude-code-session-id": SESSION}
        return (await proxy.ask(prompt("A secret of mine"), headers=headers)).status

    proxy.serve = ask
    assert await ask() == 200
    await eventually(lambda: not proxy.worker.requests.tasks)
    return proxy


# Content from other writers.


def newer(field, value):
    """Return the commands that make *value* the newest content of a field."""
    return [
        ("HSET", f"{PREFIX}:state", field, value),
        ("HINCRBY", f"{PREFIX}:head", "version", 1),
        ("ZADD", f"{PREFIX}:versions", 10**9, field),
    ]


PARTS = ("head", "state", "versions", "members", "sums")
ATTACKS = {
    **{
        f"{part} has another type": [
            ("DEL", f"{PREFIX}:{part}"),
            ("SET", f"{PREFIX}:{part}", "text"),
        ]
        for part in PARTS
    },
    **{
        f"{field} is {value!r}": [("HSET", f"{PREFIX}:head", field, value)]
        for field, value in (("epoch", RUBBISH), ("version", "nan"), ("since", "1e300"))
    },
    **{f"{field} is rubbish": newer(field, RUBBISH) for field in ("common", "sessions", "k:x")},
    "a member is huge": [("ZADD", f"{PREFIX}:members", 2e15, "9" * 400)],
    "a field is missing": [("ZADD", f"{PREFIX}:versions", "inf", "no such field")],
    "the head of a ledger is rubbish": [("HSET", f"{PREFIX}:sums", "head", RUBBISH)],
    "everything is gone": [("FLUSHALL",)],
}


@pytest.mark.parametrize("commands", ATTACKS.values(), ids=ATTACKS)
async def test_no_request_fails_because_of(replica, own_server, commands):
    for command in commands:
        own_server.ask(*command)
    for _ in range(3):
        assert await replica.serve() == 200
    backend = replica.worker.shared_pool.backend
    assert not backend._task.done(), "it goes on trying"
    if not backend.is_shared:
        assert backend.reason
    own_server.ask("FLUSHALL")  # the fix for the user
    await eventually(lambda: backend.is_shared)
    assert await replica.serve() == 200


async def test_a_giant_value_is_not_read(replica, own_server, monkeypatch):
    monkeypatch.setattr(connection_module, "MAX_REPLY", 1 << 20)
    for command in newer("common", "x" * (2 << 20)):
        own_server.ask(*command)
    assert await replica.serve() == 200
    backend = replica.worker.shared_pool.backend
    await eventually(lambda: "larger than" in backend.reason)
    assert await replica.serve() == 200


# A server with arbitrary answers.


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"+OK\r\n", id="a word"),
        pytest.param(b"*8\r\n" + b":1\r\n" * 8, id="a list of numbers"),
        pytest.param(b"*8\r\n$2\r\nOK\r\n$1\r\n\xff\r\n:1\r\n:1\r\n:1\r\n*1\r\n$1\r\nx\r\n*1\r\n"
                     b"$2\r\n\xff1\r\n*0\r\n", id="an unusual list of fields"),
        pytest.param(b"-" + b"x" * 10_000 + b"\r\n", id="a long error"),
        pytest.param(b"+OK\r\n" * 1000, id="more replies than commands"),
        pytest.param(b"*1000000000\r\n", id="a list without end"),
        pytest.param(b"$1000000000\r\n", id="a text without end"),
        pytest.param(b"*1\r\n" * 100, id="lists in lists"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another protocol"),
    ],
)  # fmt: skip
async def test_a_server_that_replies(start, provider, reply, monkeypatch):
    monkeypatch.setattr(redis_backend_module, "READY_SECONDS", 0.1)
    writers = []

    async def answer(reader, writer):
        writers.append(writer)
        with contextlib.suppress(OSError):
            while await reader.read(1 << 16):
                writer.write(reply)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    provider.script(completion("Hello"))
    proxy = await start(REDIS_URL=f"redis://127.0.0.1:{port}", REDIS_TIMEOUT="0.05")
    backend = proxy.worker.shared_pool.backend
    assert (await proxy.ask(prompt())).status == 200
    assert not backend._task.done(), "it goes on trying"
    assert len(backend.reason) < 500
    await backend.close()
    server.close()
    for writer in writers:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


# Content of Redis.


async def test_nothing_secret_is_sent_to_redis(replica, own_server):
    reader, writer = await asyncio.open_unix_connection(str(own_server.path))
    writer.write(b"MONITOR\r\n")
    assert await reader.readline() == b"+OK\r\n"
    for _ in range(3):
        assert await replica.serve() == 200
    backend = replica.worker.shared_pool.backend
    await backend.commit(lambda _state: None, undo=lambda _result: None)
    own_server.ask("ECHO", "the end")
    traffic = b""
    while b"the end" not in traffic:
        traffic += await reader.readline()
    writer.close()
    assert b"EVALSHA" in traffic
    for secret in (KEY, KEY[-4:], CLIENT, CLIENT[-4:], "A secret of mine", "Hello", SESSION):
        assert secret.encode() not in traffic, secret


async def test_other_names_are_not_changed(replica, own_server):
    own_server.ask("SET", "other:tenant", "data")
    assert await replica.serve() == 200
    names = own_server.ask("KEYS", "*").split(b"\r\n")[2::2]
    assert {name for name in names if not name.startswith(PREFIX.encode())} == {b"other:tenant"}
    assert b"data" in own_server.ask("GET", "other:tenant")
