"""Answers that break off: one immediate error event, on every path of a stream."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import pytest

from ccproxy.convert.common import held_text
from ccproxy.convert.exchange import Exchange
from tests.fleet import eventually
from tests.messages import prompt, read_answer
from tests.provider import Provider, chunk, completion, failure, stream, tool_call
from tests.replies import data_line
from tests.worker.family import Family
from tests.worker.proxy import Proxy
from tests.worker.raw_provider import RawProvider, chunked

CHAT = data_line(chunk("hi"))
MESSAGE = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message",'
    b'"role":"assistant","model":"up","content":[],"usage":{"input_tokens":1,"output_tokens":1}}}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"hi"}}\n\n'
)
BROKEN = [
    pytest.param(b"zz\r\n", id="a chunk size that is not a number"),
    pytest.param(b"-5\r\nabc", id="a negative chunk size"),
    pytest.param(b"ffffffffffffffffff\r\nabc", id="an endless chunk"),
    pytest.param(b"<html>504</html>\r\n", id="a page inside the body"),
]


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("api", ["chat", "messages"])
async def test_broken_framing_ends_a_stream_with_one_error(
    start: Any, api: str, broken: bytes
) -> None:
    first = CHAT if api == "chat" else MESSAGE
    async with RawProvider(chunked(first) + broken) as provider:
        proxy = await start(provider.url, PROVIDER_API=api)
        async with asyncio.timeout(30):
            answer = await proxy.ask(prompt(stream=True))
        assert answer.error["type"] == "api_error"
        assert "not valid HTTP" in answer.error["message"]
        assert answer.body.count(b"event: error") <= 1
        assert [key.in_flight for key in proxy.worker.pool.snapshot()] == [0]


async def test_broken_framing_after_content_is_an_event(start: Any) -> None:
    """The content and the broken part arrive in separate reads."""
    async with RawProvider(chunked(CHAT)) as provider:
        proxy = await start(provider.url)
        async with proxy.post("/v1/messages", prompt(stream=True)) as response:
            head = await response.content.readuntil(b"text_delta")
            provider._writers[0].write(b"zz\r\n")
            async with asyncio.timeout(30):
                answer = read_answer(200, response.headers, head + await response.read())
    assert answer.body.count(b"event: error") == 1
    assert response.headers["request-id"].encode() in answer.body.split(b"event: error")[1]
    assert json.loads(answer.body.split(b"data: ")[-1])["error"]["type"] == "api_error"


async def test_broken_framing_of_a_whole_answer_is_an_error_at_once(start: Any) -> None:
    body = chunked(b'{"choices":', content_type="application/json") + b"zz\r\n"
    async with RawProvider(body) as provider:
        proxy = await start(provider.url)
        async with asyncio.timeout(30):
            answer = await proxy.ask()
    assert (answer.status, answer.error["type"]) == (502, "api_error")


async def test_broken_framing_in_bypass_mode_is_an_event(start: Any) -> None:
    async with RawProvider(chunked(MESSAGE)) as provider:
        url = provider.url.removesuffix("/v1")
        proxy = await start(provider.url, TRANSPARENT_URL=url)
        await proxy.worker.session.switches.switch_proxy(disabled=True)
        headers = {"x-api-key": "sk-ant-own-key-0123456789"}
        async with proxy.post("/v1/messages", prompt(stream=True), headers=headers) as response:
            head = await response.content.readuntil(b"text_delta")
            provider._writers[0].write(b"zz\r\n")
            async with asyncio.timeout(30):
                body = head + await response.read()
    assert body.startswith(MESSAGE[:100])
    assert body.count(b"event: error") == 1
    assert (await proxy.logged("request.finished"))["error"] == "overloaded_error"


async def test_broken_framing_behind_a_peer_is_one_event(tmp_path: Any) -> None:
    async with RawProvider(chunked(CHAT)) as provider, Family(tmp_path) as family:
        await family.start(Kimi={}, GLM={"PROVIDER_BASE_URL": provider.url})
        body = prompt(stream=True, model="GLM:big")
        async with family.proxies["Kimi"].post("/v1/messages", body) as response:
            head = await response.content.readuntil(b"text_delta")
            provider._writers[0].write(b"zz\r\n")
            async with asyncio.timeout(30):
                received = head + await response.read()
    assert received.count(b"event: error") == 1


# Errors before the content of a stream.

ROLE = chunk("", role="assistant")
ERROR = b'data: {"error":{"message":"try again","code":429}}\n\n'


async def test_an_error_after_the_role_is_answered_by_another_key(
    start: Any, provider: Provider
) -> None:
    proxy = await start(PROVIDER_API_KEY="sk-first-key-aaaa,sk-second-key-bbbb")
    provider.script(stream(ROLE, ERROR, end="eof"), completion("served"))
    answer = await proxy.ask(prompt(stream=True))
    assert (answer.status, answer.text) == (200, "served")
    assert [call.key for call in provider.calls] == ["sk-first-key-aaaa", "sk-second-key-bbbb"]
    assert proxy.worker.pool.snapshot()[0].state != "ready", "the key learns from it"


async def test_an_error_after_the_role_has_its_status(proxy: Proxy, provider: Provider) -> None:
    provider.script(stream(ROLE, ERROR, end="eof"))
    answer = await proxy.ask(prompt(stream=True))
    assert (answer.status, answer.error["type"]) == (429, "rate_limit_error")


async def test_an_error_after_message_start_is_retried(start: Any, provider: Provider) -> None:
    proxy = await start(PROVIDER_API="messages", MAX_RETRIES="1")
    begin = MESSAGE.partition(b"event: content_block_delta")[0]
    error = (
        'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":""}}\n\n'
    )
    provider.script(stream(begin, error, end="eof"), completion("served"))
    answer = await proxy.ask(prompt(stream=True))
    assert answer.text == "served"
    assert answer.body.count(b"event: message_start") == 1
    assert len(provider.calls) == 2


async def test_a_stream_that_ends_after_its_role_is_retried(start: Any, provider: Provider) -> None:
    proxy = await start(MAX_RETRIES="1")
    provider.script(stream(ROLE, end="eof"), completion("served"))
    assert (await proxy.ask(prompt(stream=True))).text == "served"


async def test_silence_after_the_role_counts_as_silence_before_the_answer(
    start: Any, provider: Provider
) -> None:
    proxy = await start(REQUEST_TIMEOUT="1")
    provider.script(stream(ROLE, asyncio.Event()))
    answer = await proxy.ask(prompt(stream=True))
    assert (answer.status, answer.error["type"]) == (504, "timeout_error")


async def test_an_error_after_content_is_not_retried(start: Any, provider: Provider) -> None:
    proxy = await start(MAX_RETRIES="2")
    provider.script(stream(ROLE, chunk("a"), ERROR, end="eof"))
    answer = await proxy.ask(prompt(stream=True))
    assert answer.error is not None
    assert len(provider.calls) == 1


# Failures in the log.


async def test_the_log_has_key_and_attempts_of_a_request_that_failed(
    start: Any, provider: Provider
) -> None:
    proxy = await start(PROVIDER_API_KEY="sk-first-key-aaaa,sk-second-key-bbbb,sk-third-key-cccc")
    provider.script(failure(401, "no"))
    await proxy.ask(prompt(stream=True))
    line = await proxy.logged("request.finished")
    assert (line["attempts"], line["key"]) == (3, "…cccc")


LONG = "x" * 5000
OMITTED = {"type": "enabled", "budget_tokens": 50, "display": "omitted"}
LONG_CALL = completion(tool_calls=[tool_call("Bash", {"command": LONG})])


@pytest.mark.parametrize(
    ("api", "answer", "fields"),
    [
        pytest.param("chat", LONG_CALL, {}, id="arguments, chat"),
        pytest.param("responses", LONG_CALL, {}, id="arguments, responses"),
        pytest.param(
            "chat", completion("ok", reasoning=LONG), {"thinking": OMITTED}, id="hidden thinking"
        ),
        pytest.param("chat", stream(*[chunk("\n" * 100)] * 50), {}, id="blank text"),
    ],
)
async def test_text_that_is_kept_until_its_end_is_bounded(
    start: Any,
    provider: Provider,
    monkeypatch: Any,
    api: str,
    answer: Any,
    fields: dict[str, Any],
) -> None:
    monkeypatch.setattr(held_text, "MAX_HELD", 1000)
    proxy = await start(PROVIDER_API=api)
    provider.script(answer)
    got = await proxy.ask(prompt(stream=True, **fields))
    assert "answer is longer than" in got.error["message"]


@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
async def test_text_that_is_passed_on_at_once_is_not_bounded(
    start: Any, provider: Provider, monkeypatch: Any, api: str
) -> None:
    monkeypatch.setattr(held_text, "MAX_HELD", 1000)
    proxy = await start(PROVIDER_API=api)
    provider.script(completion(LONG, reasoning="y" * 5000))
    assert (await proxy.ask(prompt(stream=True))).text == LONG


async def test_the_output_of_a_converted_response_is_bounded(
    proxy: Proxy, provider: Provider, monkeypatch: Any
) -> None:
    """Its last event repeats the whole output."""
    monkeypatch.setattr(held_text, "MAX_HELD", 1000)
    gate = asyncio.Event()
    provider.script(stream(chunk("hi"), gate, *[chunk("x" * 100)] * 50))
    body = {"model": "claude-opus-4-1", "input": "hello", "stream": True}
    async with proxy.post("/v1/responses", body) as response:
        await response.content.readuntil(b"output_text.delta")
        gate.set()
        last = json.loads((await response.read()).split(b"data: ")[-1])
    assert last["type"] == "response.failed"
    assert "answer is longer than" in last["response"]["error"]["message"]


async def test_an_idle_connection_does_not_keep_its_last_exchange(proxy: Proxy) -> None:
    await proxy.ask(prompt(stream=True))
    await eventually(lambda: not proxy.worker.requests.tasks)
    gc.collect()
    exchanges = [each for each in gc.get_objects() if isinstance(each, Exchange)]
    assert not [each for each in exchanges if proxy.worker.id_prefix in each.message_id]
