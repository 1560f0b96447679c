"""The endpoints other than /v1/messages."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.messages import prompt
from tests.provider import chunk, completion, failure, raw, stream
from tests.worker.proxy import KEY


async def test_health_describes_the_configuration_without_secrets(start):
    proxy = await start(
        ANTHROPIC_API_KEY="client-key-0123456789", BIG_MODEL="b", MIDDLE_MODEL="m", SMALL_MODEL="s"
    )
    async with proxy.get("/health") as response:
        text = await response.text()
    body = json.loads(text)
    assert body["status"] == "healthy"
    assert body["label"] == "Test"
    assert body["models"] == {"big_model": "b", "middle_model": "m", "small_model": "s"}
    assert body["server"]["host"] == "127.0.0.1"
    assert body["api_status"] == {
        "openai_api_configured": True,
        "api_key_valid": True,
        "client_api_key_validation": True,
        "openai_base_url": proxy.worker.config.base_url,
    }
    assert body["api_keys_count"] == 1
    assert body["keys"] == {"ready": 1, "total": 1}
    assert {"timestamp", "version", "openai_api_configured", "api_key_valid"} <= set(body)
    assert KEY not in text
    assert "client-key" not in text


async def test_health_reports_that_every_key_is_refused(start, provider):
    proxy = await start(PROVIDER_API_KEY="sk-one-aaaaaaaa,sk-two-bbbbbbbb")
    provider.script(failure(401, "bad key"))
    await proxy.ask()
    async with proxy.get("/health") as response:
        assert (await response.json())["api_key_valid"] is False


async def test_the_root_introduces_the_proxy(proxy):
    async with proxy.get("/") as response:
        body = await response.json()
    assert body["status"] == "running"
    assert body["endpoints"]["messages"] == "/v1/messages"
    assert body["config"]["big_model"] == "gpt-4o"
    async with proxy.session.head(proxy.url + "/") as response:
        assert (response.status, await response.read()) == (200, b"")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/livez"),
        ("GET", "/readyz"),
        ("GET", "/api/hello"),
        ("HEAD", "/api/hello"),
        ("POST", "/api/event_logging/batch"),
        ("POST", "/api/event_logging/batch?x=1"),
    ],
)
async def test_probes_are_answered_and_logged_only_at_debug(proxy, provider, method, path):
    async with proxy.session.request(method, proxy.url + path) as response:
        assert response.status == 200
        assert response.headers["request-id"].startswith("req_")
    assert (await proxy.logged("request.finished"))["level"] == "debug"
    assert provider.calls == provider.other == []


async def test_readiness_ends_when_the_drain_starts(proxy):
    proxy.worker.requests.draining = True
    async with proxy.get("/readyz") as response:
        assert response.status == 503
        assert response.headers["connection"] == "close"
    async with proxy.get("/livez") as response:
        assert response.status == 200


# Models.


async def test_models_are_found_by_claude_code_and_by_openai_clients(start):
    proxy = await start(BIG_MODEL="kimi-k3", MIDDLE_MODEL="kimi-k3", SMALL_MODEL="kimi-mini")
    async with proxy.get("/v1/models?limit=1000") as response:
        body = await response.json()
    ids = [entry["id"] for entry in body["data"]]
    assert ids == ["claude-opus", "claude-sonnet", "claude-haiku", "kimi-k3", "kimi-mini"]
    assert body["data"][0]["display_name"] == "kimi-k3 (Test)"
    assert body["data"][2]["display_name"] == "kimi-mini (Test)"
    assert {entry["type"] for entry in body["data"]} == {"model"}
    assert {entry["object"] for entry in body["data"]} == {"model"}
    assert (body["has_more"], body["object"]) == (False, "list")
    assert (body["first_id"], body["last_id"]) == (ids[0], ids[-1])


async def test_every_listed_model_is_answered_by_the_model_in_its_name(start, provider):
    proxy = await start(BIG_MODEL="big", MIDDLE_MODEL="middle", SMALL_MODEL="small")
    async with proxy.get("/v1/models") as response:
        listed = (await response.json())["data"]
    for entry in listed:
        await proxy.ask({**prompt(), "model": entry["id"]})
    request = [call.json["model"] for call in provider.calls]
    assert request == ["big", "middle", "small", "big", "middle", "small"]


async def test_one_model(proxy):
    async with proxy.get("/v1/models/anthropic/claude-haiku-x") as response:
        body = await response.json()
    assert (body["id"], body["type"]) == ("anthropic/claude-haiku-x", "model")
    assert body["display_name"].startswith("gpt-4o-mini")


# Counting.


async def test_tokens_are_counted_without_the_provider(proxy, provider):
    async with proxy.post("/v1/messages/count_tokens?beta=true", prompt("hello there")) as response:
        small = (await response.json())["input_tokens"]
    tools = [{"name": "Read", "description": "x" * 500, "input_schema": {"type": "object"}}]
    async with proxy.post("/v1/messages/count_tokens", prompt("hello there", tools=tools)) as got:
        large = (await got.json())["input_tokens"]
    assert 1 <= small < large
    assert provider.calls == []


async def test_counting_needs_no_max_tokens_but_messages(proxy):
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    async with proxy.post("/v1/messages/count_tokens", body) as response:
        assert response.status == 200
    async with proxy.post("/v1/messages/count_tokens", {"model": "m", "messages": []}) as response:
        assert response.status == 400


async def test_fifty_counts_do_not_block_other_requests(proxy):
    body = prompt("word " * 30_000)

    async def count():
        async with proxy.post("/v1/messages/count_tokens", body) as response:
            return (await response.json())["input_tokens"]

    counts = asyncio.gather(*(count() for _ in range(50)))
    async with asyncio.timeout(30), proxy.get("/livez") as response:
        assert response.status == 200
    assert len(set(await counts)) == 1


# The connection test.


async def test_the_connection_test_sends_one_request_to_the_small_model(proxy, provider):
    async with proxy.get("/test-connection") as response:
        body = await response.json()
    assert response.status == 200
    assert (body["status"], body["model_used"]) == ("success", "gpt-4o-mini")
    assert body["response_id"].startswith("msg_")
    (call,) = provider.calls
    assert call.json["model"] == "gpt-4o-mini"
    assert call.json["max_tokens"] <= 16


async def test_a_failed_connection_test_advises_the_user(proxy, provider):
    provider.script(failure(401, f"key {KEY} is wrong"))
    async with proxy.get("/test-connection") as response:
        body = await response.json()
    assert response.status == 503
    assert (body["status"], body["error_type"]) == ("failed", "authentication_error")
    assert "PROVIDER_API_KEY" in body["suggestions"][0]
    assert KEY[:10] not in body["message"]


async def test_the_connection_test_in_direct_mode(start, provider):
    proxy = await start(PROVIDER_API="messages")
    async with proxy.get("/test-connection") as response:
        body = await response.json()
    assert (body["status"], body["response_id"]) == ("success", "msg_scripted_1")
    assert provider.calls[0].path == "/v1/messages"


# OpenAI's clients.


async def test_an_openai_client_gets_the_mapped_models_answer_unchanged(proxy, provider):
    provider.script(raw('{"id":"x",  "choices":[{"message":{"content":"hi"}}]}'))
    tools = [{"type": "function", "function": {"name": "Read"}}]
    history = [{"role": "assistant", "content": None}, {"role": "user", "content": "x"}]
    outgoing = {"model": "claude-haiku-x", "messages": history, "tools": tools, "seed": 7}
    async with proxy.post("/v1/chat/completions", outgoing) as response:
        assert await response.text() == '{"id":"x",  "choices":[{"message":{"content":"hi"}}]}'
    (call,) = provider.calls
    assert call.json == {**outgoing, "model": "gpt-4o-mini"}
    assert call.key == KEY


async def test_an_openai_stream_is_valid_and_ends_with_done(proxy, provider):
    provider.script(stream(chunk("a"), ": a comment\n\n", chunk("b", finish="stop"), end="eof"))
    outgoing = {"model": "gpt-4o", "messages": [], "stream": True}
    async with proxy.post("/v1/chat/completions", outgoing) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        text = await response.text()
    lines = [line for line in text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert [json.loads(line[6:])["choices"][0]["delta"].get("content") for line in lines[:-1]] == [
        "a",
        "b",
    ]


async def test_an_openai_stream_that_breaks_off_ends_with_an_error(proxy, provider):
    provider.script(stream(chunk("a"), end="cut"))
    async with proxy.post("/v1/chat/completions", {"model": "m", "stream": True}) as response:
        last = (await response.text()).strip().split("\n\n")[-1]
    assert json.loads(last.removeprefix("data: "))["error"]["type"] == "api_error"


async def test_openai_clients_get_openai_errors(proxy, provider):
    provider.script(failure(429, "slow", retry_after=3))
    async with proxy.post("/v1/chat/completions", {"model": "m"}) as response:
        body = await response.json()
    assert (response.status, response.headers["retry-after"]) == (429, "3")
    assert body["error"]["type"] == "rate_limit_error"
    assert "slow" in body["error"]["message"]
    async with proxy.session.post(proxy.url + "/v1/chat/completions", data=b"{") as response:
        assert response.status == 400


async def test_comments_keep_openai_clients_waiting(start, provider):
    proxy = await start(EARLY_COMMIT="0.05")
    gate = asyncio.Event()
    provider.script(completion("late", gate=gate))
    async with proxy.post("/v1/chat/completions", {"model": "m", "stream": True}) as response:
        assert await response.content.readuntil(b"\n\n") == b": ping\n\n"
        gate.set()
        assert (await response.text()).endswith("data: [DONE]\n\n")


async def test_direct_mode_has_no_chat_completions(start, provider):
    proxy = await start(PROVIDER_API="messages")
    async with proxy.post("/v1/chat/completions", {"model": "m"}) as response:
        assert response.status == 404
    assert provider.calls == []


@pytest.mark.parametrize(
    ("api", "path", "name"),
    [
        ("chat", "/v1/messages", "m" * 257),
        ("chat", "/v1/messages/count_tokens", "m" * 257),
        ("chat", "/v1/chat/completions", "m" * 257),
        ("messages", "/v1/messages", "m" * 257),
        # Half of an emoji is replaced, even in converted text.
        ("messages", "/v1/messages", "\ud83d" + "m" * 256),
        ("messages", "/v1/messages/count_tokens", "m" * 257),
    ],
)
async def test_the_length_of_a_models_name_is_limited(start, provider, api, path, name):
    proxy = await start(PROVIDER_API=api)
    async with proxy.post(path, prompt(model=name)) as response:
        error = (await response.json())["error"]
    assert response.status == 400
    assert error["type"] == "invalid_request_error"
    assert error["message"] == "model: String should have at most 256 characters"
    assert not provider.calls
    assert proxy.worker.config.models.pick.cache_info().currsize == 0, "the name is not cached"


async def test_the_length_of_a_name_in_a_path_is_limited(proxy):
    async with proxy.get(f"/v1/models/{'m' * 257}") as response:
        assert response.status == 400
    assert proxy.worker.config.models.pick.cache_info().currsize == 0


async def test_a_models_name_of_the_maximum_length_is_accepted(proxy, provider):
    provider.script(completion("ok"))
    assert (await proxy.ask(prompt(model="m" * 256))).status == 200
