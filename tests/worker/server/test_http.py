"""The HTTP server: limits, invalid requests, and responses that disclose nothing."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace

import pytest

from ccproxy.worker.control_socket import ControlSocket
from ccproxy.worker.server import http
from ccproxy.worker.server.app import ROUTES, route_of
from tests.messages import prompt
from tests.provider import completion
from tests.worker.proxy import Proxy
from tests.worker.test_lifecycle import say

HEAD = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
SECRET = b"sk-canary-0123456789abcdef"


async def test_a_large_body_passes(proxy, provider):
    body = io.BytesIO(json.dumps(prompt("x" * 3_000_000)).encode())
    async with proxy.session.post(proxy.url + "/v1/messages", data=body) as response:
        assert response.status == 200
    assert len(provider.calls[0].body) > 3_000_000


async def test_a_declared_length_over_the_limit_is_refused_unread(proxy):
    answer = await proxy.exchange(HEAD + b"Content-Length: %d\r\n\r\n" % (http.BODY_LIMIT + 1))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"request_too_large" in answer


async def test_an_undeclared_length_is_refused_while_it_is_read(proxy: Proxy):
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    piece = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    outgoing = 0
    # The written data may be less than the limit, because some is still in transit.
    while not reader._buffer and outgoing <= 80:  # type: ignore[attr-defined]
        writer.write(piece)
        await asyncio.wait({asyncio.ensure_future(writer.drain())}, timeout=1)
        outgoing += 1
    answer = await reader.readuntil(b"\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert outgoing > 64
    writer.transport.abort()


@pytest.mark.parametrize("packing", ["gzip", "br", "zstd"])
async def test_compressed_bodies_are_refused(proxy, packing):
    answer = await proxy.ask(b"\x1f\x8b...", headers={"Content-Encoding": packing})
    assert answer.status == 415


async def test_expect_100_continue_is_answered(proxy):
    body = b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}]}'
    head = HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    answer = await proxy.exchange(head + body)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"GARBAGE\r\n\r\n", id="no HTTP"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + SECRET * 5000 + b"\r\n\r\n", id="a huge header"),
        pytest.param(HEAD + b"Bad Header: " + SECRET + b"\r\n\r\n", id="a bad header name"),
        pytest.param(HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{", id="two lengths"),
        pytest.param(
            HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="length and chunks",
        ),
        pytest.param(HEAD + b"X-A: 1\r\n " + SECRET + b"\r\n\r\n", id="a folded header"),
    ],
)
async def test_invalid_http_is_a_400_without_quotes(proxy, provider, request_bytes, caplog):
    answer = await proxy.exchange(request_bytes)
    assert answer.split(b" ")[1] == b"400"
    assert b"invalid_request_error" in answer
    assert SECRET not in answer
    assert SECRET.decode() not in caplog.text
    assert provider.calls == []


async def test_broken_chunks_are_a_400(proxy):
    answer = await proxy.exchange(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert answer.split(b" ")[1] == b"400"


async def test_headers_of_64_kib_are_read(proxy):
    answer = await proxy.ask(headers={"X-Long": "x" * 60_000})
    assert answer.status == 200


async def test_an_incomplete_request_times_out(proxy, monkeypatch):
    monkeypatch.setattr(http, "HEADER_SECONDS", 0.05)
    assert (await proxy.exchange(b"GET / HTTP/1.1\r\nHost:")).startswith(b"HTTP/1.1 408 ")
    assert (await proxy.exchange(b"")).startswith(b"HTTP/1.1 408 ")


async def test_an_incomplete_second_request_times_out(proxy, monkeypatch):
    monkeypatch.setattr(http, "HEADER_SECONDS", 0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
    writer.write(b"GET /livez HTTP/1.1\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_a_connection_between_requests_does_not_time_out(proxy, monkeypatch):
    monkeypatch.setattr(http, "HEADER_SECONDS", 0.05)
    ask = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    loop = asyncio.get_running_loop()
    for _ in range(3):
        writer.write(ask)
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
        forwarded = loop.create_future()
        loop.call_later(4 * http.HEADER_SECONDS, forwarded.set_result, None)
        await forwarded
    writer.close()


async def test_a_trickling_body_times_out(proxy, monkeypatch):
    monkeypatch.setattr(http, "BODY_SECONDS", 0.05)
    answer = await proxy.exchange(HEAD + b"Content-Length: 9\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"timeout_error" in answer


async def test_connections_beyond_the_limit_are_refused_while_all_are_busy(
    start, provider, tmp_path
):
    proxy = await start(MAX_CONNECTIONS="1")
    gate = asyncio.Event()
    provider.script(completion("ok", gate=gate))
    asking = asyncio.ensure_future(proxy.ask())
    await provider.called()
    assert (await proxy.exchange(b"")).startswith(b"HTTP/1.1 503 ")
    control = ControlSocket(tmp_path / "c", proxy.worker, proxy.lifecycle, nonce="n")
    control.open()
    state = await say(tmp_path / "c", {"op": "state"})
    control.close()
    assert state["reason"] == "1 of 1 client connections are busy (MAX_CONNECTIONS)"
    gate.set()
    assert (await asking).text == "ok"


async def test_idle_connections_make_room_for_new_ones(start):
    """This includes connections before their first request and after a completed one."""
    proxy = await start(MAX_CONNECTIONS="2")
    silent, silent_writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    used, used_writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    used_writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert await used.readuntil(b"ok")
    for _ in range(3):
        async with proxy.get("/livez", headers={"Connection": "close"}) as response:
            assert response.status == 200
    assert await silent.read() == b"", "the oldest idle connection is closed first"
    used_writer.close()
    silent_writer.close()


async def test_an_unexpected_failure_is_a_500_without_quotes(proxy, caplog):
    def broken(_name):
        raise ZeroDivisionError(SECRET.decode())

    proxy.worker.rules = replace(proxy.worker.rules, pick_model=broken)
    answer = await proxy.ask()
    assert answer.status == 500
    assert answer.error["type"] == "api_error"
    assert SECRET not in answer.body
    assert (await proxy.logged("request.finished"))["status"] == 500
    assert "ZeroDivisionError" in caplog.text


# Routes.


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("POST", "/v1", 404),
        ("GET", "/v1/models/", 200),
        ("GET", "/admin", 404),
        ("GET", "/v1/messages", 405),
        ("POST", "/health", 405),
        ("DELETE", "/v1/messages", 405),
        ("OPTIONS", "/v1/messages", 405),
        ("PUT", "/v1/chat/completions", 405),
    ],
)
async def test_paths_that_are_not_served(proxy, method, path, status):
    async with proxy.session.request(method, proxy.url + path) as response:
        assert response.status == status
        if status != 200:
            assert "error" in await response.json()


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://evil.example/v1/messages", 421),
        ("http://localhost@evil.example/v1/messages", 421),
        ("http://localhost/v1/messages", 401),
        ("http://localhost/health", 200),
        ("/v1/messages?x=/health", 401),
        ("/v1/messages#/health", 401),
    ],
)
async def test_the_path_alone_decides(start, target, status):
    proxy = await start(ANTHROPIC_API_KEY="client-key-0123456789")
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert (await proxy.exchange(request.encode())).startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize("path", ["/V1/messages", "/health/../v1/messages", "/%2e%2e/x", "/;/x"])
async def test_unusual_paths_are_unknown_or_protected(start, path):
    proxy = await start(ANTHROPIC_API_KEY="client-key-0123456789")
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert (await proxy.exchange(request.encode()))[:12] in (b"HTTP/1.1 404", b"HTTP/1.1 401")


def test_only_probes_are_open():
    open_paths = {path for path, route in ROUTES.items() if route.is_open}
    probes = {
        "/",
        "/health",
        "/livez",
        "/readyz",
        "/api/hello",
        "/api/event_logging/batch",
        "/api/event_logging/v2/batch",
        # The sign-in routes of a team's gateway; 404 without USERS.
        "/.well-known/oauth-authorization-server",
        "/device",
        "/device/oidc",
        "/oauth/device_authorization",
        "/oauth/revoke",
        "/oauth/token",
    }
    assert open_paths == probes
    assert not route_of("/v1/models/x").is_open


class FullDisk:
    """A log on a full disk."""

    def info(self, event, **fields):
        raise OSError(28, "No space left on device")


async def test_an_error_of_the_record_does_not_affect_the_answer(start, provider):
    provider.script(completion("ok"))
    proxy = await start(LOG_LEVEL="INFO")
    proxy.worker.logs = replace(proxy.worker.logs, requests=FullDisk())
    answer = await proxy.ask()
    assert (answer.status, answer.text) == (200, "ok")
    assert (await proxy.logged("request.unrecorded"))["request"]
