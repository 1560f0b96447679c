"""Connections to a real Redis: passwords, TCP, Sentinels, and servers that are not Redis."""

from __future__ import annotations

import asyncio

import pytest

from ccproxy.config.services.redis_address import parse_redis_url
from ccproxy.worker.redis.connection import RedisError, connect
from tests.ports import free_port
from tests.redis_server import RedisServer


@pytest.fixture
def server(tmp_path):
    server = RedisServer(tmp_path, "--requirepass", "pass word", port=free_port())
    server.start_locked()
    yield server
    server.stop()


async def test_replies_arrive_in_the_order_of_their_commands(redis_server):
    connection = await connect(redis_server.address, limit=5.0)
    replies = await asyncio.gather(*[connection.call("ECHO", number) for number in range(20)])
    assert replies == [b"%d" % number for number in range(20)]
    with pytest.raises(RedisError, match="unknown command"):
        await connection.call("NONSENSE")
    connection.close()
    with pytest.raises(RedisError, match="closed"):
        await connection.call("PING")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        pytest.param("redis://:pass%20word@127.0.0.1:{port}/3", None, id="password and database"),
        pytest.param("redis://default:pass%20word@127.0.0.1:{port}", None, id="user"),
        pytest.param("redis://:wrong@127.0.0.1:{port}", "WRONGPASS", id="a wrong password"),
        pytest.param("redis://:pass%20word@127.0.0.1:{port}/99", "out of range", id="database"),
        pytest.param("redis://127.0.0.1:{dead}", "refused|Connect call", id="no server"),
    ],
)
async def test_a_login(server, url, problem):
    address = parse_redis_url(url.format(port=server.port, dead=free_port()))
    if problem is None:
        connection = await connect(address, limit=5.0)
        assert await connection.call("PING") == b"PONG"
        connection.close()
        return
    with pytest.raises(RedisError, match=problem) as raised:
        await connect(address, limit=5.0)
    assert "wrong" not in str(raised.value)


async def test_a_server_of_another_protocol_is_reported():
    async def answer(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    other = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    connection = await connect(parse_redis_url(f"redis://127.0.0.1:{port}"), limit=5.0)
    with pytest.raises(RedisError, match="does not speak the Redis protocol"):
        await connection.call("PING")
    other.close()


async def test_the_sentinels_name_the_master(server, tmp_path):
    folder = tmp_path / "sentinel"
    folder.mkdir()
    config = folder / "sentinel.conf"
    port = free_port()
    config.write_text(
        f"port {port}\nsentinel monitor main 127.0.0.1 {server.port} 1\n"
        'sentinel auth-pass main "pass word"\n'
    )
    sentinel = RedisServer(folder, config=config, port=port).start()
    url = f"redis+sentinel://:pass%20word@127.0.0.1:{free_port()},127.0.0.1:{port}/"
    connection = await connect(parse_redis_url(f"{url}main"), limit=5.0)
    assert (await connection.call("ROLE"))[0] == b"master"
    connection.close()
    with pytest.raises(RedisError, match="unknown master other"):
        await connect(parse_redis_url(f"{url}other"), limit=5.0)
    sentinel.stop()
