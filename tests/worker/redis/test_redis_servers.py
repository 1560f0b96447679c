"""Redis over TLS, and a failover by a real Sentinel."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from ccproxy.config.services.redis_address import parse_redis_url
from ccproxy.errors import Problem
from ccproxy.keys.key_state import KeyLimits
from ccproxy.worker.redis.connection import RedisError, connect
from tests.fleet import eventually
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.security.test_tls import certificate
from tests.worker.redis.replica import KEYS, Replica


@pytest.fixture
def servers(tmp_path):
    """Return a function that starts a redis-server in a new folder."""
    started = []

    def start(name, *options, **how):
        folder = tmp_path / name
        folder.mkdir()
        started.append(RedisServer(folder, *options, **how).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates")
async def test_certificates_are_verified(servers, tmp_path):
    cert, key = certificate(tmp_path, "localhost")
    port = free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    servers("tls", *options, "--tls-cert-file", str(cert), "--tls-key-file", str(key))
    url = f"rediss://localhost:{port}"
    connection = await connect(parse_redis_url(f"{url}?ca={cert}"), limit=30.0)
    assert await connection.call("PING") == b"PONG"
    connection.close()
    with pytest.raises(RedisError, match="certificate verify failed"):
        await connect(parse_redis_url(url), limit=30.0)
    plain = await connect(parse_redis_url(f"redis://localhost:{port}"), limit=30.0)
    with pytest.raises(RedisError):
        await plain.call("PING")


async def test_the_replica_that_a_sentinel_promotes_is_used(servers, tmp_path):
    master = servers("master", port=free_port())
    copy = servers("copy", "--replicaof", f"127.0.0.1 {master.port}", port=free_port())
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"sentinel monitor main 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds main 500\n"
        "sentinel failover-timeout main 5000\n"
    )
    port = free_port()
    with config.open("a") as file:
        file.write(f"port {port}\n")
    sentinel = servers("sentinel", config=config, port=port)
    await eventually(lambda: b"\r\nok\r\n" in sentinel.ask("SENTINEL", "REPLICAS", "main"))

    server = SimpleNamespace(address=parse_redis_url(f"redis+sentinel://127.0.0.1:{port}/main"))
    options = {"keys": KEYS[:1], "limits": KeyLimits(per_day=4)}
    one, two = [await Replica(server, "failover", **options).join() for _ in range(2)]
    for replica in (one, two):
        assert await replica.ask() == "k1"
        await replica.settled()
    assert master.ask("WAIT", 1, 30_000) == b":1\r\n"
    master.stop()
    for replica in (one, two):
        backend = replica.backend
        await eventually(lambda backend=backend: not backend.is_shared)
    for replica in (one, two):
        backend = replica.backend
        await eventually(lambda backend=backend: backend.is_shared)
    assert b"role:master" in copy.ask("INFO", "replication")
    for replica in (two, one):
        assert await replica.ask() == "k1"
        await replica.settled()
    for replica in (one, two):
        with pytest.raises(Problem, match="per day"):
            await replica.ask()
        await replica.backend.close()
