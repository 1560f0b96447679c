"""Routes: every spelling of a path, methods, ids, and released bodies."""

from __future__ import annotations

import gc
import gzip
import resource
import tracemalloc
from importlib import import_module
from typing import Any

import pytest

from ccproxy.worker.server.app import ROUTES, route_of
from ccproxy.worker.server.endpoints import event_logging
from ccproxy.worker.upstream import provider_answer
from tests.messages import prompt
from tests.provider import Provider, completion, failure, raw
from tests.worker.proxy import Proxy


@pytest.mark.parametrize(
    "path",
    [
        "/v1/messages",
        "//v1/messages",
        "/messages",
        "/v1/v1/messages",
        "/v1//messages/",
        "//messages",
    ],
)
async def test_every_spelling_of_the_base_url_reaches_the_messages_api(
    proxy: Proxy, path: str
) -> None:
    async with proxy.post(path, prompt()) as response:
        assert response.status == 200
        assert (await response.json())["content"][0]["text"] == "ok"


def test_models_without_a_version_is_a_separate_route() -> None:
    assert route_of("/models").is_admin
    assert not route_of("/v1/models").is_admin


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", "/v1/messages", "POST"), ("POST", "/health", "GET, HEAD"), ("PUT", "/", "GET, HEAD")],
)
async def test_a_wrong_method_is_answered_with_the_right_ones(
    proxy: Proxy, method: str, path: str, allow: str
) -> None:
    async with proxy.session.request(method, proxy.url + path) as response:
        assert (response.status, response.headers["Allow"]) == (405, allow)


@pytest.mark.parametrize("streams", [False, True])
async def test_every_response_has_its_id_under_both_names(proxy: Proxy, streams: bool) -> None:
    async with proxy.post("/v1/messages", prompt(stream=streams)) as response:
        assert response.headers["request-id"] == response.headers["x-request-id"]
        await response.read()
    async with proxy.get("/nowhere") as response:
        assert response.headers["request-id"] == response.headers["x-request-id"]


# Telemetry.


@pytest.mark.parametrize("path", ["/api/event_logging/batch", "/api/event_logging/v2/batch"])
async def test_telemetry_is_accepted_without_a_key_and_discarded(start: Any, path: str) -> None:
    proxy = await start(ANTHROPIC_API_KEY="client-key-one-0123456")
    async with proxy.post(path, {"events": [{"a": "b" * 100_000}]}) as response:
        assert (response.status, await response.json()) == (200, {})


async def test_telemetry_beyond_its_limit_is_refused_without_reading_it(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_logging, "BODY_LIMIT", 1000)
    head = b"POST /api/event_logging/batch HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    assert b" 413 " in await proxy.exchange(head + b"Content-Length: 2000\r\n\r\n")
    chunk = b"Transfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n"
    assert b" 413 " in await proxy.exchange(head + chunk)


# Message threads.

THREADS = {"anthropic-beta": "message-threads-2026-08-12"}


@pytest.mark.parametrize("api", ["chat", "messages"])
@pytest.mark.parametrize(
    ("thread", "code"),
    [
        ({"type": "create"}, "thread_unsupported_request"),
        ({"type": "continue", "previous_message_id": "msg_1"}, "thread_not_found"),
    ],
)
async def test_a_thread_is_refused_so_that_the_client_sends_everything(
    start: Any, provider: Provider, api: str, thread: dict[str, str], code: str
) -> None:
    proxy = await start(PROVIDER_API=api)
    for headers in (THREADS, {}):
        async with proxy.post("/v1/messages", prompt(thread=thread), headers=headers) as response:
            error = (await response.json())["error"]
            assert response.status == 400
        assert error["type"] == "invalid_request_error"
        assert error["details"]["error_code"] == code
    assert provider.calls == []


async def test_the_beta_without_a_thread_changes_nothing(proxy: Proxy) -> None:
    async with proxy.post("/v1/messages", prompt(thread=None), headers=THREADS) as response:
        assert response.status == 200


# Both versions of the API.


@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21"])
@pytest.mark.parametrize("api", ["chat", "messages"])
async def test_both_versions_and_both_credentials_work(
    start: Any, provider: Provider, api: str, version: str
) -> None:
    proxy = await start(PROVIDER_API=api, PASS_CLIENT_KEY="true", PROVIDER_API_KEY="")
    headers = {"anthropic-version": version, "Authorization": "Bearer sk-of-client-bearer"}
    headers["x-api-key"] = "sk-of-client-x-api-key"
    async with proxy.post("/v1/messages", prompt(), headers=headers) as response:
        assert response.status == 200
    (call,) = provider.calls
    assert call.key == "sk-of-client-x-api-key", "as at Anthropic, x-api-key comes first"
    if api == "messages":
        assert call.headers["anthropic-version"] == version


# The shared retry budget.


async def test_a_client_that_retries_gets_one_attempt_per_request(
    start: Any, provider: Provider
) -> None:
    proxy = await start(MAX_RETRIES="2")
    provider.script(failure(529))
    for count in range(3):
        headers = {"x-stainless-retry-count": str(count)}
        async with proxy.post("/v1/messages", prompt(), headers=headers) as response:
            assert response.status == 529
    assert len(provider.calls) == 3 + 1 + 1


# Counting in direct mode.


@pytest.mark.parametrize("status", [400, 401, 429, 500, 529])
async def test_a_failing_count_is_estimated_and_affects_no_key(
    start: Any, provider: Provider, status: int
) -> None:
    proxy = await start(PROVIDER_API="messages", MAX_RETRIES="2")
    provider.script(failure(status))
    for _ in range(6):
        async with proxy.post("/v1/messages/count_tokens", prompt()) as response:
            assert response.status == 200
            assert (await response.json())["input_tokens"] > 0
    assert len(provider.calls) == 6, "no repeats"
    (key,) = proxy.worker.pool.snapshot()
    assert (key.state, key.used_today, key.in_flight) == ("ready", 0, 0)
    provider.script(completion("ok"))
    assert (await proxy.ask()).text == "ok"


# A provider that does not stream.


async def test_a_whole_message_for_a_stream_request_is_sent_as_events(
    start: Any, provider: Provider
) -> None:
    from tests.provider import raw

    proxy = await start(PROVIDER_API="messages")
    provider.script(
        raw(
            b'{"id":"m","type":"message","role":"assistant","model":"up","content":['
            b'{"type":"thinking","thinking":"hm","signature":"c2ln"},{"type":"text","text":"hello"},'
            b'{"type":"tool_use","id":"t1","name":"Read","input":{"a":1}}],"stop_reason":"tool_use",'
            b'"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":4}}'
        )
    )
    answer = await proxy.ask(prompt(stream=True))
    assert answer.text == "hello"
    assert [block["type"] for block in answer.message["content"]] == [
        "thinking",
        "text",
        "tool_use",
    ]
    assert answer.message["content"][2]["input"] == {"a": 1}
    assert (await proxy.logged("request.finished"))["tokens"]["output"] == 4


# File descriptors.


async def test_connections_leave_descriptors_in_reserve(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ccproxy.worker.server import http

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    proxy = await start(MAX_CONNECTIONS="1024")
    assert proxy.lifecycle.http.max_connections == (256 - http.RESERVED_DESCRIPTORS) // 2


async def test_a_multi_line_event_of_a_chat_stream_stays_valid(
    proxy: Proxy, provider: Provider
) -> None:
    from tests.provider import chunk, stream

    provider.script(stream(b'data: {"choices": [],\ndata: "a": 1}\n\n', chunk("x", finish="stop")))
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    async with proxy.post("/v1/chat/completions", body) as response:
        received = await response.read()
    assert b'data: {"choices": [],\ndata: "a": 1}\n\n' in received
    assert all(not line or line.startswith((b"data: ", b":")) for line in received.split(b"\n"))


async def test_a_response_that_is_too_large_is_reported_and_its_memory_freed(
    start: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory must be freed without the garbage collector, which rarely runs in a worker."""
    monkeypatch.setattr(provider_answer, "MAX_WHOLE", 4 << 20)
    size = 8 << 20
    body = b'{"choices":[{"message":{"content":"' + b"a" * size + b'"}}]}'
    provider.script(raw(gzip.compress(body), headers={"Content-Encoding": "gzip"}))
    proxy = await start(MAX_RETRIES="0", PROVIDER_API_KEY="sk-1")
    gc.disable()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(3):
            answer = await proxy.ask()
            assert "its response is larger than 4 MiB" in answer.error["message"]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert after - before < size / 2


def test_an_endpoint_that_is_imported_on_demand_exists():
    for route in ROUTES.values():
        for endpoint in filter(None, (route.get, route.post, route.delete)):
            assert callable(getattr(import_module(endpoint.__module__), endpoint.__name__))
