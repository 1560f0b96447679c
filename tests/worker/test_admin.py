"""
The admin routes: their answers, and requests that must be refused.

The attacks come from web pages, other paths and hosts, without keys, and with file names; every
attack must have no effect.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from ccproxy.config.worker_config import PLACEHOLDER
from ccproxy.worker.server.app import ROUTES
from tests.messages import prompt
from tests.provider import completion, failure
from tests.store.test_exports import PATHS
from tests.worker.admin_client import AUTH, CLIENT_KEY, admin
from tests.worker.proxy import KEY

HARMLESS = {"/config", "/v1/stats", "/models"}
CALLS = [
    f"{method} {path}"
    for path, route in ((path, route) for path, route in ROUTES.items() if route.is_admin)
    for method in ("GET", "POST", "DELETE")
    if route.endpoint(method) is not None
]
GUARDED = [call for call in CALLS if call.split(" ")[1] not in HARMLESS]
BODY = {"file_path": "stolen.jsonl", "messages": [{"role": "user", "content": "attack"}]}


ADMIN_ROUTES = {path: route for path, route in ROUTES.items() if route.is_admin}


@pytest.fixture
async def proxy(start, provider):
    """A worker with a client key, and a history of one exchange."""
    proxy = await start(ANTHROPIC_API_KEY=CLIENT_KEY, HISTORY="on")
    await proxy.ask(prompt("precious"), headers=AUTH)
    return proxy


async def state_of(proxy, home):
    """Return all state that admin routes can change."""
    session = proxy.worker.session
    return (
        session.bypass.is_active,
        session.history.is_on,
        session.history.file_name,
        (await session.history.last(None))[1],
        session.inspector.entries("response"),
        proxy.worker.chooser.tiers(),
        sorted(path for path in home.rglob("*") if path.parent.name != "state"),
    )


# Routes that require the key.


def test_the_table_is_part_of_the_routes():
    assert len(ADMIN_ROUTES) == 16
    assert {path for path, route in ADMIN_ROUTES.items() if route.is_harmless} <= HARMLESS
    assert not any(route.is_open for route in ADMIN_ROUTES.values())


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "anything-at-all-0123"}])
async def test_without_a_client_key_admin_routes_are_disabled(start, headers, tmp_path):
    proxy = await start(HISTORY="on")
    before = await state_of(proxy, tmp_path)
    for call in GUARDED:
        got = await admin(proxy, call, BODY, **headers)
        assert (got.status, got.error["type"]) == (403, "permission_error"), call
        assert "ANTHROPIC_API_KEY" in got.error["message"], call
        assert await state_of(proxy, tmp_path) == before, call


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"x-api-key": ""}, id="no key"),
        pytest.param({"x-api-key": "client-key-one-0123457"}, id="a wrong key"),
        pytest.param({"x-api-key": KEY}, id="the provider's key"),
        pytest.param({"x-api-key": CLIENT_KEY[:-1]}, id="a part of the key"),
        pytest.param({"x-api-key": "", "Authorization": "Basic eDp5"}, id="another scheme"),
        pytest.param({"x-api-key": "", "Cookie": f"key={CLIENT_KEY}"}, id="a cookie"),
    ],
)
async def test_every_route_requires_the_client_key_if_one_is_set(
    proxy, provider, headers, tmp_path
):
    before = await state_of(proxy, tmp_path)
    for call in CALLS:
        got = await admin(proxy, call, BODY, **headers)
        assert (got.status, got.error["type"]) == (401, "authentication_error"), call
        assert await state_of(proxy, tmp_path) == before, call
    assert len(provider.calls) == 1


async def test_the_key_gives_access_to_every_route(proxy):
    for call in CALLS:
        body = {} if call.endswith(("continue", "load", "switch_model")) else None
        got = await admin(proxy, call, body)
        # The body is checked after the key.
        assert got.status == (200 if body is None else 400), (call, got.json)


@pytest.mark.parametrize(
    "settings", [{"ADMIN_API": "off"}, {"HOST": "0.0.0.0"}], ids=["off", "beyond loopback"]
)
async def test_some_proxies_have_no_admin_routes(start, settings):
    proxy = await start(ANTHROPIC_API_KEY=CLIENT_KEY, **settings)
    for call in CALLS:
        assert (await admin(proxy, call, BODY)).status == 404, call


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_do_nothing(proxy, method, tmp_path):
    before = await state_of(proxy, tmp_path)
    for path, route in ADMIN_ROUTES.items():
        if route.endpoint(method) is None:
            assert (await admin(proxy, f"{method} {path}")).status == 405, path
            assert await state_of(proxy, tmp_path) == before, path


# Pages in a browser.


def raw(call, *headers, body=b"{}"):
    """Return a request as bytes, so that no client library normalises it."""
    lines = [f"{call} HTTP/1.1", f"x-api-key: {CLIENT_KEY}", "Connection: close", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


HERE = "Host: 127.0.0.1:8081"
AS_JSON = "Content-Type: application/json"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param(["Host: evil.example", AS_JSON], 421, id="rebinding"),
        pytest.param(["Host: evil.example:8081", AS_JSON], 421, id="rebinding with the port"),
        pytest.param(["Host: localhost.evil.example", AS_JSON], 421, id="a name like ours"),
        pytest.param(["Host: 127.0.0.1.evil.example", AS_JSON], 421, id="an address like ours"),
        pytest.param(["Host: localhost@evil.example", AS_JSON], 421, id="a user called localhost"),
        pytest.param(["Host: evil.example#localhost", AS_JSON], 421, id="a fragment"),
        pytest.param(["Host: 192.168.1.7", AS_JSON], 421, id="another address"),
        pytest.param([AS_JSON], 400, id="no host"),
        pytest.param(["Host:", AS_JSON], 400, id="an empty host"),
        pytest.param([HERE, "Host: evil.example", AS_JSON], 400, id="two hosts"),
        pytest.param(["Host: evil.example", HERE, AS_JSON], None, id="two hosts, ours last"),
        pytest.param([HERE, "Origin: https://evil.example", AS_JSON], 403, id="a page"),
        pytest.param([HERE, "Origin: null", AS_JSON], 403, id="a file or frame"),
        pytest.param([HERE, "Origin: http://127.0.0.1:8081", AS_JSON], 403, id="our own origin"),
        pytest.param([HERE, "Origin: http://localhost:3000", AS_JSON], 403, id="a local page"),
        pytest.param([HERE, "Origin: chrome-extension://abc", AS_JSON], 403, id="an extension"),
        pytest.param([HERE, "Sec-Fetch-Site: cross-site", AS_JSON], 403, id="cross-site"),
        pytest.param([HERE, "Sec-Fetch-Site: same-site", AS_JSON], 403, id="another local port"),
        pytest.param([HERE, "Sec-Fetch-Site: same-origin", AS_JSON], 403, id="same origin"),
        pytest.param([HERE, "Content-Type: text/plain"], 415, id="a simple request"),
        pytest.param([HERE, "Content-Type: text/plain; application/json"], 415, id="pretending"),
        pytest.param([HERE, "Content-Type: application/x-www-form-urlencoded"], 415, id="a form"),
        pytest.param([HERE, "Content-Type: multipart/form-data; boundary=x"], 415, id="an upload"),
        pytest.param([HERE], 415, id="no type"),
    ],
)
async def test_a_page_is_refused(proxy, headers, status, tmp_path):
    before = await state_of(proxy, tmp_path)
    for call in ("POST /proxy/disable", "DELETE /conversation"):
        got = await proxy.exchange(raw(call, *headers))
        answered = int(got.split(b" ", 2)[1])
        assert answered == status or (status is None and answered in (400, 421)), got
        assert b"access-control" not in got.lower()
        assert await state_of(proxy, tmp_path) == before, call


async def test_a_preflight_is_refused(proxy):
    asks = ["Origin: https://evil.example", "Access-Control-Request-Method: POST"]
    got = await proxy.exchange(raw("OPTIONS /proxy/disable", HERE, *asks, body=b""))
    assert b" 403 " in got.split(b"\r\n")[0]
    assert b"access-control" not in got.lower()


async def test_an_ordinary_request_works(proxy):
    got = await proxy.exchange(raw("POST /proxy/disable", HERE, AS_JSON))
    assert b" 200 " in got.split(b"\r\n")[0]
    assert proxy.worker.session.bypass.is_active


# Paths that resemble others.


TARGETS = [
    "//proxy/disable", "/./proxy/disable", "/x/../proxy/disable", "/proxy//disable",
    "/proxy/disable;x", "/proxy;/disable", "/PROXY/disable", "/proxy/disable.",
    "/health/../proxy/disable", "/health%2f..%2fproxy/disable", "/health?/proxy/disable",
    "/health#/proxy/disable", "/proxy%2fdisable",
    "/%2e%2e/proxy/disable", "/proxy/disable%00", "/proxy/disable%20",
    "/proxy/disable/", "/%70roxy/disable", "/v1/v1/stats", "/v1/v1/../../proxy/disable",
    "http://evil.example/proxy/disable", "http://127.0.0.1/health?x=/proxy/disable",
    "http://localhost@evil.example/proxy/disable", "/\\proxy\\disable", "*", "proxy/disable",
]  # fmt: skip


async def test_no_spelling_of_a_path_has_an_effect_without_the_key(proxy, tmp_path):
    before = await state_of(proxy, tmp_path)
    for target in TARGETS:
        anonymous = raw(f"POST {target}", HERE, AS_JSON).replace(CLIENT_KEY.encode(), b"")
        got = await proxy.exchange(anonymous)
        assert int(got.split(b" ", 2)[1]) in (400, 401, 404, 405, 421), (target, got)
        assert await state_of(proxy, tmp_path) == before, target


# Names of files.


@pytest.mark.parametrize("route", ["enable", "load"])
async def test_no_path_is_taken_from_a_request(proxy, route, tmp_path):
    before = await state_of(proxy, tmp_path)
    for name in filter(None, PATHS):
        got = await admin(proxy, f"POST /conversation/{route}", {"file_path": name})
        assert (got.status, got.error["type"]) == (400, "invalid_request_error"), name
        assert await state_of(proxy, tmp_path) == before, name


async def test_invalid_bodies_are_refused(proxy):
    for body in ([], "x", 5, {"file_path": 5}, {"file_path": ["x"]}):
        got = await admin(proxy, "POST /conversation/enable", body)
        assert (got.status, got.error["type"]) == (400, "invalid_request_error"), body


# Answers.


async def test_config(start):
    proxy = await start(BIG_MODEL="b", MIDDLE_MODEL="m", SMALL_MODEL="s", PROVIDER="kimi")
    got = await admin(proxy, "GET /config")
    assert (got.status, got.json) == (
        200,
        {
            "preferred_provider": "kimi",
            "big_model": "b",
            "middle_model": "m",
            "small_model": "s",
            "message": "Test serves Kimi",
        },
    )


async def test_debug_logs_contain_no_bodies_and_no_keys(proxy, provider):
    provider.script(failure(401, f"key {KEY} is wrong"))
    await proxy.ask(prompt("precious", model="claude-haiku-4-5"), headers=AUTH)
    got = await admin(proxy, "GET /debug_logs")
    assert got.json["bodies"] is False
    assert [entry["type"] for entry in got.json["logs"]] == [
        *("config", "request", "model_mapping", "response"),
        *("request", "model_mapping", "error"),
    ]
    assert got.json["total_count"] == 7
    for secret in (KEY, CLIENT_KEY, "precious"):
        assert secret not in json.dumps(got.json)
    mapping = got.json["logs"][5]["data"]
    assert (mapping["requested"], mapping["model"]) == ("claude-haiku-4-5", "gpt-4o-mini")
    assert got.json["logs"][6]["data"]["status"] == 401


@pytest.mark.parametrize(
    ("query", "types"),
    [
        ("?log_type=all&limit=2", ["model_mapping", "response"]),
        ("?log_type=request", ["request"]),
        ("?log_type=config&limit=5", ["config"]),
        ("?log_type=model_switch", []),
        ("?limit=0", []),
    ],
)
async def test_debug_logs_are_filtered(proxy, query, types):
    got = await admin(proxy, f"GET /debug_logs{query}")
    assert [entry["type"] for entry in got.json["logs"]] == types


async def test_an_unknown_log_type_is_refused(proxy):
    got = await admin(proxy, "GET /debug_logs?log_type=secrets")
    assert (got.status, "model_mapping" in got.error["message"]) == (400, True)


async def test_debug_logs_can_be_deleted(proxy):
    assert (await admin(proxy, "DELETE /debug_logs")).json["total_count"] == 0
    assert (await admin(proxy, "GET /debug_logs")).json["logs"] == []


async def test_inspection_shows_bodies_without_keys(start, provider):
    proxy = await start(ANTHROPIC_API_KEY=CLIENT_KEY, INSPECT="on")
    provider.script(completion(f"an answer with {KEY}"))
    await proxy.ask(prompt("a question", stream=True), headers=AUTH)
    got = await admin(proxy, "GET /debug_logs")
    assert got.json["bodies"] is True
    _, request, _, response = got.json["logs"]
    assert "a question" in request["data"]["body"]
    assert "an answer" in response["data"]["body"]
    assert KEY not in json.dumps(got.json)


# The switch.


@pytest.fixture
async def disabled(start, provider):
    proxy = await start(
        ANTHROPIC_API_KEY=CLIENT_KEY,
        TRANSPARENT_URL=provider.url.removesuffix("/v1"),
        PROVIDER_BASE_URL="http://127.0.0.1:9/v1",
    )
    got = await admin(proxy, "POST /proxy/disable")
    assert (got.json["enabled"], got.json["status"]) == (False, "disabled")
    return proxy


OWN = "sk-ant-api03-of-the-user-0123"


async def test_disabled_requests_pass_unchanged(disabled, provider):
    body = (
        b'{ "model":"claude-opus-4-1" , "max_tokens":5,"messages":[{"role":"user","content":"Hi"}]}'
    )
    headers = {
        "x-api-key": CLIENT_KEY,
        "Authorization": f"Bearer {OWN}",
        "anthropic-beta": "a,b",
        "X-Anything": "goes",
        "Cookie": "c=d",
        "X-Forwarded-For": "10.0.0.1",
    }
    answer = await disabled.ask(body, headers=headers, path="/v1/messages?beta=true")
    assert (answer.status, answer.text) == (200, "ok")
    (call,) = provider.calls
    assert (call.path, call.query) == ("/v1/messages", "beta=true")
    assert call.body == body
    assert call.headers["authorization"] == f"Bearer {OWN}"
    assert (call.headers["anthropic-beta"], call.headers["x-anything"]) == ("a,b", "goes")
    assert call.headers["host"] in provider.url
    assert {"x-api-key", "cookie", "x-forwarded-for"} & set(call.headers) == set()


async def test_disabled_no_header_is_added_and_no_hop_by_hop_header_passed_on(disabled, provider):
    body = b'{"model":"m"}'
    head = (
        "POST /v1/messages?a=%2F&b=%41 HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {OWN}\r\nx-api-key: {CLIENT_KEY}\r\n"
        "x-ccproxy-hop: 1\r\nX-Trace: 1\r\nX-Kept: 2\r\n"
        f"Connection: close\r\nConnection: x-trace\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    assert b" 200 OK" in await disabled.exchange(head.encode() + body)
    (call,) = provider.calls
    assert call.query == "a=%2F&b=%41"
    assert set(call.headers) - {"connection"} == {
        *("host", "authorization", "x-kept", "accept", "accept-encoding", "content-length")
    }


async def test_disabled_streams_and_errors_are_unchanged(disabled, provider):
    headers = {**AUTH, "Authorization": f"Bearer {OWN}"}
    answer = await disabled.ask(prompt(stream=True), headers=headers)
    assert answer.text == "ok"
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "slowly"}}
    provider.script(failure(429, error, retry_after=7))
    answer = await disabled.ask(prompt(), headers=headers)
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")


async def test_disabled_the_proxys_own_key_is_not_sent(disabled, provider):
    answer = await disabled.ask(prompt(), headers=AUTH)
    assert (answer.status, answer.error["type"]) == (401, "authentication_error")
    assert provider.calls == []


async def test_while_disabled_placeholders_are_not_sent(start, provider):
    proxy = await start(TRANSPARENT_URL=provider.url.removesuffix("/v1"))
    await proxy.worker.session.switches.switch_proxy(disabled=True)
    placeholder = {"Authorization": f"Bearer {PLACEHOLDER}"}
    answer = await proxy.ask(prompt(), headers=placeholder)
    assert (answer.status, provider.calls) == (401, [])
    assert "only the proxy's own key" in answer.error["message"]
    assert (await proxy.ask(prompt(), headers={**placeholder, "x-api-key": OWN})).status == 200
    assert provider.calls[0].key == OWN


async def test_toggling(disabled, provider):
    assert (await admin(disabled, "GET /proxy/status")).json["enabled"] is False
    assert (await admin(disabled, "POST /proxy/toggle")).json["enabled"] is True
    assert (await admin(disabled, "POST /proxy/toggle")).json["enabled"] is False
    assert (await admin(disabled, "POST /proxy/enable")).json["enabled"] is True
    answer = await disabled.ask(prompt(), headers=AUTH)
    assert answer.status == 502, "the provider's dead port is asked again"
    assert provider.calls == []


async def test_while_disabled_an_unreachable_server_is_reported(start):
    proxy = await start(ANTHROPIC_API_KEY=CLIENT_KEY, TRANSPARENT_URL="http://127.0.0.1:9")
    await admin(proxy, "POST /proxy/disable")
    answer = await proxy.ask(prompt(), headers={**AUTH, "Authorization": f"Bearer {OWN}"})
    assert (answer.status, "is disabled" in answer.error["message"]) == (502, True)


async def test_disabled_a_client_may_disconnect(disabled, provider):
    gate = asyncio.Event()
    provider.script(completion("late", gate=gate))
    headers = {**AUTH, "Authorization": f"Bearer {OWN}"}
    asking = asyncio.ensure_future(disabled.ask(prompt(), headers=headers))
    call = await provider.called()
    asking.cancel()
    await asyncio.wait_for(call.gone.wait(), 30)
