"""
HTTP attacks on a worker's port: web pages, forged hosts, ambiguous paths, smuggled requests.

All requests are sent over raw sockets, because an HTTP client would normalise them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import pytest

from ccproxy.worker.server.app import ROUTES
from tests.messages import prompt

KEY = "correct-horse-battery-staple"
BODY = json.dumps(prompt()).encode()


def request(target="/v1/messages", *headers, method="POST", host="localhost", body=BODY) -> bytes:
    """Return a raw request."""
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"Host: {host}"] if host is not None else []
    lines += [*headers, f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# Web pages on the same machine. A page cannot choose Host, Origin or Sec-Fetch-*.

FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:8081",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "127.0.0.1.nip.io",
    "evil.example:80:80",
    "evillocalhost",
    "[::1].evil.example",
    "[::2]",
    "0.0.0.0",
    "0",
    "2130706433",
    "0x7f.1",
    "192.168.0.10:8081",
    "user@evil.example",
    "localhost@evil.example",
    "evil.example#localhost",
    "evil.example/localhost",
    "evil.example\\localhost",
    "xn--lcalhost-d4a",
]
PAGES = [
    ("Origin: https://evil.example",),
    ("Origin: http://localhost:3000",),
    ("Origin: http://127.0.0.1:8081",),
    ("Origin: null",),
    ("Origin: file://",),
    ("Origin: chrome-extension://abcdef",),
    ("Origin:",),
    ("Sec-Fetch-Site: cross-site",),
    ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"),
    ("Sec-Fetch-Site: Cross-Site",),
    ("Sec-Fetch-Site: same-site",),
    ("Origin: https://evil.example", "Content-Type: text/plain"),
    ("Origin: https://evil.example", "Access-Control-Request-Method: POST"),
]


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
async def test_a_foreign_host_gets_421(host, proxy, provider):
    answer = await proxy.exchange(request(host=host))
    assert status_of(answer) in (400, 421)
    assert provider.calls == []


@pytest.mark.parametrize("scheme", ["http", "HTTP", "https", "ftp"])
@pytest.mark.parametrize("path", ["", "/livez", "/health?x", "/v1/messages"])
@pytest.mark.parametrize("host", ["evil", "localhost@evil", "evil:80", "localhost.evil.example"])
async def test_a_foreign_host_in_the_request_line_gets_421(scheme, host, path, proxy):
    """An absolute target takes precedence over the Host header (RFC 9112, 3.2.2)."""
    answer = await proxy.exchange(request(f"{scheme}://{host}{path}", method="GET", body=b""))
    assert status_of(answer) in (400, 421)


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
async def test_a_host_outside_allowed_hosts_gets_421_on_any_address(host, start, provider):
    proxy = await start(HOST="0.0.0.0", ANTHROPIC_API_KEY=KEY, ALLOWED_HOSTS="box.lan,10.0.0.5")
    answer = await proxy.exchange(request("/v1/messages", f"x-api-key: {KEY}", host=host))
    assert status_of(answer) in (400, 421)
    assert provider.calls == []


@pytest.mark.parametrize("host", ["box.lan", "Box.LAN:8081", "10.0.0.5:8081", "localhost"])
@pytest.mark.parametrize("listens", ["0.0.0.0", "127.0.0.1"])
async def test_a_listed_host_is_answered(listens, host, start):
    proxy = await start(HOST=listens, ANTHROPIC_API_KEY=KEY, ALLOWED_HOSTS="box.lan, 10.0.0.5")
    key = f"x-api-key: {KEY}"
    assert status_of(await proxy.exchange(request("/v1/messages", key, host=host))) == 200
    page = request("/v1/messages", key, "Origin: https://evil.example", host=host)
    assert status_of(await proxy.exchange(page)) == 403


@pytest.mark.parametrize("headers", PAGES, ids=", ".join)
@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS"])
async def test_a_page_is_refused(headers, method, proxy, provider):
    target = "/v1/messages" if method == "POST" else "/health"
    answer = await proxy.exchange(request(target, *headers, method=method))
    assert status_of(answer) == 403
    assert provider.calls == []
    assert b"access-control-" not in answer.lower()


@pytest.mark.parametrize("target", sorted(ROUTES))
async def test_no_answer_allows_another_origin(target, proxy):
    for method in ("GET", "OPTIONS"):
        answer = await proxy.exchange(request(target, method=method, body=b""))
        assert b"access-control-" not in answer.lower()
        assert b"\r\nserver:" not in answer.lower()


@pytest.mark.parametrize("headers", PAGES, ids=", ".join)
async def test_a_public_proxy_without_key_refuses_pages(headers, start, provider):
    """A browser inside the user's network would otherwise give access to outsiders."""
    proxy = await start(HOST="0.0.0.0", ALLOW_PUBLIC="on")
    answer = await proxy.exchange(request("/v1/messages", *headers, host="proxy.lan"))
    assert status_of(answer) == 403
    assert provider.calls == []
    assert status_of(await proxy.exchange(request(host="proxy.lan"))) == 200


async def test_two_host_headers_are_refused(proxy, provider):
    answer = await proxy.exchange(request("/v1/messages", "Host: evil.example"))
    assert status_of(answer) in (400, 421)
    assert provider.calls == []


async def test_legitimate_hosts_are_answered(proxy, provider):
    """This test proves that the others do not pass because every request is refused."""
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8081", "localhost."):
        assert status_of(await proxy.exchange(request(host=host))) == 200
    for target in ("http://localhost/v1/messages", "http://[::1]:8081/v1/messages"):
        assert status_of(await proxy.exchange(request(target))) == 200
    own_page = "Sec-Fetch-Site: none"
    assert status_of(await proxy.exchange(request("/v1/messages", own_page))) == 200
    assert len(provider.calls) == 8


# Authentication uses the same path that selects the handler.

TARGETS = [
    "/v1/messages",
    "/v1/messages/",
    "//v1/messages",
    "/v1//messages",
    "/v1/v1/messages",
    "/v1/./messages",
    "/v1/../v1/messages",
    "/health/../v1/messages",
    "/health/%2e%2e/v1/messages",
    "/health%2f..%2fv1/messages",
    "/%76%31/messages",
    "/v1%2fmessages",
    "/v1/messages%00",
    "/v1/messages%20",
    "/v1/messages;/health",
    "/health;/../v1/messages",
    "/v1/messages?/health",
    "/v1/messages#/health",
    "/health?/v1/messages",
    "/health#/v1/messages",
    "/V1/MESSAGES",
    "/v1/messages.",
    "/v1\\messages",
    "/livez/../../v1/messages",
    "http://localhost/v1/messages",
    "http://evil.example/v1/messages",
    "http://localhost/health/../v1/messages",
    "http://user:pass@localhost/v1/messages",
    "https://localhost:443/v1/messages",
    "http://localhost/v1/messages?x=/health",
]
HOSTS = ["localhost", "localhost/health?", "localhost:1@health", "127.0.0.1#/livez"]
SPOOFS = [
    (),
    ("X-Original-URL: /health", "X-Rewrite-URL: /livez", "X-Forwarded-Path: /health"),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("spoof", SPOOFS, ids=["plain", "spoofed"])
async def test_without_the_key_no_request_reaches_the_provider(
    target, host, spoof, start, provider
):
    proxy = await start(ANTHROPIC_API_KEY=KEY)
    answer = await proxy.exchange(request(target, *spoof, host=host))
    assert status_of(answer) in (400, 401, 404, 405, 421)
    assert provider.calls == []


@pytest.mark.parametrize("target", TARGETS)
async def test_a_target_has_one_meaning_with_and_without_the_key(target, start, provider):
    """Every target that works with the key is refused without it."""
    proxy = await start(ANTHROPIC_API_KEY=KEY)
    shut = status_of(await proxy.exchange(request(target)))
    open_ = status_of(await proxy.exchange(request(target, f"x-api-key: {KEY}")))
    assert (shut, open_) in {(401, 200), (401, 400), (404, 404), (400, 400), (405, 405), (421, 421)}
    assert len(provider.calls) == (open_ == 200)


PROTECTED = sorted(path for path, route in ROUTES.items() if not route.is_open)


@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "HEAD"])
async def test_every_protected_path_checks_the_key_first(path, method, start):
    proxy = await start(ANTHROPIC_API_KEY=KEY)
    answer = await proxy.exchange(request(path, method=method, body=b""))
    # A disabled admin route does not exist.
    assert status_of(answer) in (401, 404)


def test_the_list_of_protected_paths_is_not_empty():
    assert {"/v1/messages", "/v1/chat/completions", "/test-connection"} <= set(PROTECTED)


# Request smuggling: two parsers of one connection must see the same requests.

HIDDEN = request("/v1/messages")
SMUGGLED = [
    pytest.param(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
        id="length and chunks",
    ),
    pytest.param(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Length: 4\r\n\r\n0\r\n\r\n" + HIDDEN,
        id="chunks and length",
    ),
    pytest.param(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
        b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
        id="two lengths",
    ),
    pytest.param(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0, %d\r\n\r\n"
        % len(HIDDEN)
        + HIDDEN,
        id="a list of lengths",
    ),
    pytest.param(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: +0\r\n\r\n" + HIDDEN,
        id="a signed length",
    ),
    pytest.param(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length : 0\r\n\r\n" + HIDDEN,
        id="a space before the colon",
    ),
    pytest.param(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n"
        b"0\r\n\r\n" + HIDDEN,
        id="an unknown encoding",
    ),
    pytest.param(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, identity"
        b"\r\n\r\n0\r\n\r\n" + HIDDEN,
        id="chunks not last",
    ),
    pytest.param(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding:\r\n chunked\r\n\r\n"
        b"0\r\n\r\n" + HIDDEN,
        id="a folded encoding",
    ),
    pytest.param(
        b"POST /v1/messages HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n" + HIDDEN,
        id="bare line feeds",
    ),
    pytest.param(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nX: a\rContent-Length: 0\r\n\r\n"
        + HIDDEN,
        id="a bare carriage return",
    ),
    pytest.param(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nX: \0\r\nContent-Length: 0\r\n\r\n"
        + HIDDEN,
        id="a NUL",
    ),
    pytest.param(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"-1\r\n\r\n" + HIDDEN,
        id="a negative chunk",
    ),
    pytest.param(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0x0\r\n\r\n" + HIDDEN,
        id="a hexadecimal prefix",
    ),
    pytest.param(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"fffffffffffffffff\r\n" + HIDDEN,
        id="a chunk beyond all sizes",
    ),
    pytest.param(
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1;\n\r\nx\r\n0\r\n\r\n" + HIDDEN,
        id="a line feed in a chunk's extension",
    ),
    pytest.param(
        b"POST /v1/messages HTTP/1.1 HTTP/1.0\r\nHost: localhost\r\n\r\n" + HIDDEN,
        id="two versions",
    ),
    pytest.param(b"POST /v1/messages\r\n\r\n" + HIDDEN, id="no version"),
]


@pytest.mark.parametrize("data", SMUGGLED)
async def test_an_ambiguous_request_is_refused_and_the_connection_closed(data, proxy, provider):
    answer = await asyncio.wait_for(proxy.exchange(data), 30)
    assert status_of(answer) == 400
    assert answer.count(b"HTTP/1.") == 1, "a request hidden after it is not answered"
    assert provider.calls == []


async def test_two_valid_requests_on_one_connection_get_two_answers(proxy, provider):
    first = HIDDEN.replace(b"Connection: close", b"Connection: keep-alive")
    answer = await proxy.exchange(first + HIDDEN)
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert len(provider.calls) == 2


async def test_a_long_chunk_extension_is_not_part_of_the_body(proxy, provider):
    head = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked"
    chunk = (
        b"\r\nConnection: close\r\n\r\n1;"
        + HIDDEN.replace(b"\r\n", b"")
        + b"x" * 2_000_000
        + b"\r\nx\r\n0\r\n\r\n"
    )
    with contextlib.suppress(ConnectionResetError):  # refused before it was completely sent
        answer = await asyncio.wait_for(proxy.exchange(head + chunk), 30)
        assert status_of(answer) == 400
    assert provider.calls == []
    assert status_of(await proxy.exchange(HIDDEN)) == 200, "others are served on"


# The client key.


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("x-api-key:",),
        ("Authorization: Bearer",),
        ("Authorization: Bearer ",),
        (f"Authorization: Basic {KEY}",),
        (f"Authorization: {KEY}",),
        (f"x-api-key: {KEY[:-1]}",),
        (f"x-api-key: {KEY}x",),
        (f"x-api-key: {KEY.upper()}",),
        (f"x-api-key: {KEY},{KEY}",),
        (f"api-key: {KEY}",),
        (f"Cookie: x-api-key={KEY}",),
        ("x-api-key: schl\xfcssel",),
        ("Authorization: Bearer \xff\xfe",),
        (f"x-api-key: {'k' * 60_000}",),
    ],
    ids=lambda headers: ", ".join(headers)[:40] or "none",
)
async def test_a_wrong_key_gets_401(headers, start, provider):
    proxy = await start(ANTHROPIC_API_KEY=KEY)
    answer = await proxy.exchange(request("/v1/messages", *headers))
    assert status_of(answer) == 401
    assert b"x-should-retry: false" in answer.lower()
    assert provider.calls == []
    assert proxy.lines("library.logged") == [], "and no trace of an exception"


async def test_client_key_and_cookies_are_not_forwarded(start, provider):
    proxy = await start(ANTHROPIC_API_KEY=KEY)
    secrets = [f"x-api-key: {KEY}", "Cookie: session=canary-cookie", "X-Forwarded-For: 10.9.8.7"]
    assert status_of(await proxy.exchange(request("/v1/messages", *secrets))) == 200
    (call,) = provider.calls
    observed = repr(sorted(call.headers.items()))
    for secret in (KEY, "canary-cookie", "10.9.8.7"):
        assert secret not in observed


# Small requests with a high cost. The time limits allow for a busy machine.


def deep(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


def message(content: bytes) -> bytes:
    head = b'{"model":"claude-opus-4-1","max_tokens":9,"messages":[{"role":"user","content":'
    return head + content + b"}]}"


TOOL = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"tools":[%s]}'
NUMBERS = [
    pytest.param(
        b'{"model":"m","max_tokens":1e400,"messages":[{"role":"user","content":"x"}]}',
        id="an endless number",
    ),
    pytest.param(
        b'{"model":"m","max_tokens":%s,"messages":[{"role":"user","content":"x"}]}'
        % (b"9" * 10**6),
        id="a million digits",
    ),
]
BOMBS = [
    pytest.param(b"[" * 100_000, id="open brackets"),
    pytest.param(b"[" * 100_000 + b"]" * 100_000, id="deep lists"),
    pytest.param(deep(100_000), id="deep objects"),
    pytest.param(message(b"[" * 100_000 + b"]" * 100_000), id="deep content"),
    pytest.param(
        message(b'[{"type":"tool_use","id":"t","name":"n","input":' + deep(100_000) + b"}]"),
        id="a deep argument",
    ),
    pytest.param(
        TOOL % (b'{"name":"n","input_schema":' + deep(100_000) + b"}"), id="a deep schema"
    ),
    pytest.param(
        TOOL
        % (
            b'{"name":"n","input_schema":'
            + b'{"type":"object","properties":{"a":' * 20_000
            + b"{}"
            + b"}}" * 20_000
            + b"}"
        ),
        id="a deep schema of objects",
    ),
    pytest.param(b"\xff\xfe" * 1000, id="not UTF-8"),
    pytest.param(b'"' + b"\\ud800" * 100_000 + b'"', id="lone surrogates"),
    pytest.param(b"null", id="null"),
    pytest.param(b"", id="nothing"),
]


@pytest.mark.parametrize("body", BOMBS)
@pytest.mark.parametrize(
    "path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/chat/completions"]
)
async def test_an_expensive_body_gets_400(body, path, proxy, provider):
    begun = time.process_time()
    answer = await asyncio.wait_for(proxy.exchange(request(path, body=body)), 60)
    took = time.process_time() - begun
    assert status_of(answer) in (400, 413), answer[:300]
    assert took < 1.0
    assert provider.calls == []


@pytest.mark.timed
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            message(b'[{"type":"tool_use","id":"t","name":"n","input":{%s}}]'
                    % b",".join(b'"k%d":1' % n for n in range(10**6))),
            id="a million keys",
        ),
        pytest.param(
            message(b"[%s]" % b",".join([b'{"type":"text","text":"x"}'] * 10**5)),
            id="a hundred thousand blocks",
        ),
    ],
)  # fmt: skip
async def test_a_large_request_does_not_block_others(body, proxy):
    """A large valid request may take long, but the health endpoint must still respond."""
    heavy = asyncio.create_task(proxy.exchange(request(body=body)))
    begun = time.monotonic()
    async with proxy.get("/livez") as answer:
        assert answer.status == 200
    assert time.monotonic() - begun < 3.0
    assert status_of(await heavy) in (200, 400)


@pytest.mark.parametrize("packing", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x"])
async def test_bodies_are_never_decompressed(packing, proxy, provider):
    header = f"Content-Encoding: {packing}"
    assert status_of(await proxy.exchange(request("/v1/messages", header))) == 415
    assert provider.calls == []
