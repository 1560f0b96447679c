"""Tests of the scripted provider."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from tests.provider import (
    Provider,
    chunk,
    completion,
    failure,
    hang_up,
    raw,
    stream,
    tool_call,
)


@pytest.fixture
async def client():
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(client, provider: Provider, path="/chat/completions", **body):
    headers = {"Authorization": "Bearer sk-1"}
    async with client.post(provider.url + path, json=body, headers=headers) as answer:
        return answer.status, await answer.read()


async def test_answers_are_played_in_order_and_the_last_repeats(client, provider):
    provider.script(failure(429, "slow down", retry_after=2), completion("one"), completion("two"))
    answers = [await ask(client, provider, model="m") for _ in range(4)]
    assert [status for status, _ in answers] == [429, 200, 200, 200]
    texts = [json.loads(body)["choices"][0]["message"]["content"] for _, body in answers[1:]]
    assert texts == ["one", "two", "two"]


async def test_received_requests_are_recorded(client, provider):
    await ask(client, provider, model="m")
    call = await provider.called()
    assert (call.method, call.path, call.key) == ("POST", "/v1/chat/completions", "sk-1")
    assert call.json == {"model": "m"}
    assert call.done.is_set()


async def test_a_completion_is_streamed_on_request(client, provider):
    provider.script(completion("hello", tool_calls=[tool_call("Bash", {"command": "ls"})]))
    _, body = await ask(client, provider, stream=True, stream_options={"include_usage": True})
    lines = [line.removeprefix("data: ") for line in body.decode().split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    deltas = [part["choices"][0]["delta"] for part in chunks if part["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "hello"
    fragments = [call["function"]["arguments"] for d in deltas for call in d.get("tool_calls", ())]
    assert json.loads("".join(fragments)) == {"command": "ls"}
    assert chunks[-1]["usage"]["prompt_tokens"] == 10


async def test_usage_is_streamed_only_on_request(client, provider):
    _, body = await ask(client, provider, stream=True)
    assert b"usage" not in body


@pytest.mark.parametrize("streams", [True, False])
async def test_a_messages_call_is_answered_in_its_own_format(client, provider, streams):
    provider.script(completion("hello", reasoning="hm", tool_calls=[tool_call("Bash", {"a": 1})]))
    _, body = await ask(client, provider, "/messages", model="m", stream=streams)
    if streams:
        assert body.startswith(b"event: message_start")
        assert body.endswith(b'event: message_stop\ndata: {"type": "message_stop"}\n\n')
        assert b'"stop_reason": "tool_use"' in body
    else:
        message = json.loads(body)
        assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use"]
        assert message["content"][2]["input"] == {"a": 1}


async def test_a_raw_answer_is_sent_byte_by_byte_the_same(client, provider):
    provider.script(raw(b"\xff not json", status=502, headers={"Content-Type": "text/html"}))
    assert await ask(client, provider) == (502, b"\xff not json")


async def test_a_gate_holds_the_status_line_and_a_part_holds_the_rest(client, provider):
    status, rest = asyncio.Event(), asyncio.Event()
    provider.script(stream(chunk("one"), rest, chunk("two"), gate=status))
    asking = asyncio.create_task(client.post(provider.url + "/chat/completions", json={}))
    call = await provider.called()
    assert not asking.done()
    status.set()
    answer = await asking
    assert b"one" in await answer.content.readany()
    assert not call.done.is_set()
    rest.set()
    assert b"two" in await answer.content.read()
    await call.done.wait()


@pytest.mark.parametrize("end", ["cut", "reset"])
async def test_a_cut_stream_breaks_the_body(client, provider, end):
    provider.script(stream(chunk("one"), end=end))
    with pytest.raises(aiohttp.ClientError):
        await ask(client, provider)


async def test_an_eof_ends_the_body_without_done(client, provider):
    provider.script(stream(chunk("one"), end="eof"))
    _, body = await ask(client, provider)
    assert b"one" in body
    assert b"[DONE]" not in body


async def test_hang_up_closes_the_connection_without_an_answer(client, provider):
    provider.script(hang_up())
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await ask(client, provider)


@pytest.mark.parametrize("commits", [True, False], ids=["in mid-stream", "before the status"])
async def test_a_client_that_disconnects_is_recorded(provider, commits):
    never = asyncio.Event()
    provider.script(stream(chunk("one"), never, gate=None if commits else never))
    async with aiohttp.ClientSession() as session:
        asking = asyncio.create_task(session.post(provider.url + "/chat/completions", json={}))
        call = await provider.called()
        if commits:
            answer = await asking
            await answer.content.readany()
            answer.close()
        else:
            asking.cancel()
        await asyncio.wait_for(call.gone.wait(), 30)
    assert not call.done.is_set()


async def test_an_error_in_the_script_is_raised_at_the_end(client):
    def script(call):
        raise LookupError(call.path)

    async def run():
        async with Provider() as provider:
            provider.script(script)
            assert (await ask(client, provider))[0] == 500

    with pytest.raises(LookupError):
        await run()
