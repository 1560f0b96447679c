"""POST /v1/responses: OpenAI clients with providers of every API."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from tests import responses_answers as responses
from tests.provider import chunk, completion, failure, stream, tool_call
from tests.replies import USAGE
from tests.responses_answers import events_of, sse
from tests.worker.proxy import KEY

MODEL = "gpt-5.6-sol"
BODY = {"model": MODEL, "input": "Hi"}


@pytest.fixture
async def proxy(start):
    return await start(PROVIDER="openai", BIG_MODEL=MODEL)


async def ask(proxy, body, status=200):
    async with proxy.post("/v1/responses", body) as answer:
        assert answer.status == status
        return await answer.read()


async def test_request_and_answer_are_unchanged(proxy, provider):
    provider.script(completion("Hello"))
    body = {**BODY, "store": False, "new_field": {"a": 1.50}}
    answer = json.loads(await ask(proxy, body))
    (call,) = provider.calls
    assert (call.path, call.key, call.json) == ("/v1/responses", KEY, body)
    assert answer["output"][0]["content"][0]["text"] == "Hello"


async def test_a_stream_is_passed_on(proxy, provider):
    whole = responses.response(responses.message("Hello"), responses.call("f", {"a": 1}))
    parts = [sse([each]) for each in events_of(whole)]
    provider.script(stream(*parts, end="eof"))
    assert await ask(proxy, {**BODY, "stream": True}) == b"".join(parts)


async def test_claude_names_mean_the_tiers(proxy, provider):
    await ask(proxy, {**BODY, "model": "claude-opus-4-1"})
    assert provider.calls[0].json["model"] == MODEL


async def test_nothing_is_stored(proxy, provider):
    await ask(proxy, BODY)
    assert provider.calls[0].json["store"] is False


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"previous_response_id": "resp_1"}, "Previous response with id 'resp_1' not found."),
        ({"store": True}, "stores no responses"),
        ({"conversation": "conv_1"}, "stores no responses"),
    ],
)
async def test_stored_state_is_refused(proxy, provider, fields, words):
    error = json.loads(await ask(proxy, {**BODY, **fields}, 400))["error"]
    assert words in error["message"]
    assert provider.calls == []


@pytest.mark.parametrize("end", ["eof", "cut"])
async def test_a_cut_stream_ends_with_an_error_event(proxy, provider, end):
    parts = [sse([each]) for each in events_of(responses.response(responses.message("Hello")))]
    provider.script(stream(*parts[:6], end=end))
    answer = await ask(proxy, {**BODY, "stream": True})
    assert answer.rsplit(b"event: ", 1)[1].startswith(b"response.failed\n")
    assert b"response.completed" not in answer


async def test_a_refusal_is_an_error_in_openais_form(proxy, provider):
    provider.script(failure(429, "slow down", retry_after=3))
    error = json.loads(await ask(proxy, BODY, 429))["error"]
    assert error["type"] == "rate_limit_error"


# Every upstream dialect: the SDK reads the stream with its own accumulator.

UPSTREAMS = {
    "chat": {"PROVIDER": "openai", "BIG_MODEL": "gpt-4.1"},
    "responses": {"PROVIDER": "openai", "BIG_MODEL": MODEL},
    "messages": {"PROVIDER_API": "messages", "BIG_MODEL": "claude-x"},
}
TOOLS = [
    {"type": "function", "name": "shell", "parameters": {"type": "object"}, "strict": False},
    {"type": "custom", "name": "apply_patch", "description": "Edits files."},
    {
        "type": "namespace",
        "name": "mcp__files",
        "description": "Files.",
        "tools": [{"type": "function", "name": "read", "parameters": {"type": "object"}}],
    },
]
EVERY = pytest.mark.parametrize("api", UPSTREAMS)
CONVERTED = pytest.mark.parametrize("api", ["chat", "messages"])
WAYS = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])


@asynccontextmanager
async def client(start, api, **settings):
    proxy = await start(**UPSTREAMS[api], **settings)
    url = f"{proxy.url}/v1"
    http_client = openai.DefaultAsyncHttpxClient(verify=False)  # avoids reading root certificates
    async with openai.AsyncOpenAI(
        base_url=url, api_key="any", max_retries=0, http_client=http_client
    ) as sdk:

        async def create(streams=True, **fields):
            fields = {"model": UPSTREAMS[api]["BIG_MODEL"], "store": False, **fields}
            if not streams:
                return await sdk.responses.create(**fields)
            async with sdk.responses.stream(**fields) as events:
                kinds = [event.type async for event in events]
                assert kinds[:2] == ["response.created", "response.in_progress"]
                return await events.get_final_response()

        yield create


@EVERY
@WAYS
async def test_a_text_with_reasoning(start, provider, api, streams):
    provider.script(completion("Hello", reasoning="Hm"))
    async with client(start, api) as create:
        answer = await create(streams, input="Hi", reasoning={"summary": "auto"})
    assert answer.output_text == "Hello"
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert answer.usage.input_tokens == USAGE["prompt_tokens"]
    assert answer.usage.output_tokens == USAGE["completion_tokens"]
    assert answer.status == "completed"


@CONVERTED
@WAYS
async def test_calls_have_the_clients_form(start, provider, api, streams):
    calls = [
        tool_call("shell", {"cmd": "ls"}),
        tool_call("apply_patch", {"input": '*** Begin "Patch"'}, call_id="call_2"),
        tool_call("mcp__files__read", {"path": "a"}, call_id="call_3"),
    ]
    provider.script(completion("I look.", tool_calls=calls))
    async with client(start, api) as create:
        answer = await create(streams, input="Hi", tools=TOOLS)
    text, shell, patch, read = answer.output
    assert text.content[0].text == "I look."
    assert (shell.type, shell.name, json.loads(shell.arguments)) == (
        *("function_call", "shell"),
        {"cmd": "ls"},
    )
    assert (patch.type, patch.name, patch.input) == (
        *("custom_tool_call", "apply_patch"),
        '*** Begin "Patch"',
    )
    assert (read.type, read.name, read.namespace) == ("function_call", "read", "mcp__files")


@EVERY
async def test_a_tool_loop(start, provider, api):
    """The client returns every item; the provider gets its own calls and reasoning."""
    calls = [
        tool_call("shell", {"n": 1}, call_id="call_1"),
        tool_call("shell", {"n": 2}, call_id="call_2"),
    ]
    provider.script(completion("", reasoning="A plan.", tool_calls=calls), completion("Done."))
    items: list[Any] = [{"role": "user", "content": "Do it"}]
    async with client(start, api) as create:
        first = await create(input=items, tools=TOOLS[:1])
        items += [item.to_dict() for item in first.output]
        ids = [item.call_id for item in first.output if item.type == "function_call"]
        items += [
            {"type": "function_call_output", "call_id": call_id, "output": f"result {call_id}"}
            for call_id in reversed(ids)
        ]
        second = await create(input=items, tools=TOOLS[:1])
    assert second.output_text == "Done."
    outgoing = json.dumps(provider.calls[1].json)
    assert outgoing.index("result") > outgoing.index(ids[1])
    assert [f"result {each}" in outgoing for each in ids] == [True, True]
    if api == "responses":
        reasoning = provider.calls[1].json["input"][1]
        assert reasoning["encrypted_content"] == "gAAAAscripted"
    elif api == "messages":
        blocks = provider.calls[1].json["messages"][1]["content"]
        assert [block["type"] for block in blocks] == ["thinking", "tool_use", "tool_use"]


async def test_reasoning_of_another_provider_is_not_passed_on(start, provider):
    foreign = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA", "id": "rs_1"}
    text = {"type": "message", "role": "assistant", "content": "Hello", "id": "msg_1"}
    user = {"role": "user", "content": "Hi"}
    for api in UPSTREAMS:
        async with client(start, api) as create:
            await create(False, input=[user, foreign, text, user])
        outgoing = json.dumps(provider.calls[-1].json)
        assert ("gAAAA" in outgoing, "rs_1" in outgoing, "msg_1" in outgoing) == (
            False,
            False,
            False,
        )
        assert "Hello" in outgoing


@EVERY
async def test_a_limit_makes_the_answer_incomplete(start, provider, api):
    provider.script(completion("Hel", finish="length"))
    async with client(start, api) as create:
        answer = await create(False, input="Hi", max_output_tokens=20)
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"


@EVERY
async def test_errors_have_openais_form_and_code(start, provider, api):
    provider.script(failure(429, "slow down", retry_after=3))
    async with client(start, api) as create:
        with pytest.raises(openai.RateLimitError) as caught:
            await create(input="Hi")
    assert caught.value.code == "rate_limit_exceeded"


@EVERY
async def test_codex_gets_errors_in_the_stream(start, provider, api):
    """Codex would retry an error status in two layers, and not show its text."""
    proxy = await start(**UPSTREAMS[api])
    provider.script(failure(429, "slow down", retry_after=3))
    body = {"model": UPSTREAMS[api]["BIG_MODEL"], "input": "Hi", "stream": True}
    headers = {"originator": "codex_exec"}
    async with proxy.post("/v1/responses", body, headers=headers) as answer:
        assert answer.status == 200
        created, failed = (await answer.read()).strip().split(b"\n\n")
    assert created.startswith(b"event: response.created\n")
    error = json.loads(failed.partition(b"data: ")[2])["response"]["error"]
    assert error["code"] == "rate_limit_exceeded"
    assert "try again in" in error["message"]
    assert (await proxy.logged("request.finished"))["error"] == "rate_limit_error"


@CONVERTED
async def test_a_cut_is_response_failed(start, provider, api):
    proxy = await start(**UPSTREAMS[api])
    provider.script(stream(*BEGINNINGS[api], end="cut"))
    body = {"model": UPSTREAMS[api]["BIG_MODEL"], "input": "Hi", "stream": True}
    answer = await ask(proxy, body)
    last = answer.rsplit(b"event: ", 1)[1]
    assert last.startswith(b"response.failed\n")
    failed = json.loads(last.partition(b"data: ")[2])["response"]
    assert (failed["status"], bool(failed["error"]["message"])) == ("failed", True)
    assert b"Hel" in answer


BEGINNINGS: dict[str, Any] = {
    "chat": (chunk(content="Hel"),),
    "messages": (
        b'event: message_start\ndata: {"type":"message_start","message":{"content":[]}}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"text","text":""}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"Hel"}}\n\n',
    ),
}


@CONVERTED
async def test_the_providers_connection_is_closed_when_the_client_disconnects(start, provider, api):
    proxy = await start(**UPSTREAMS[api])
    gate = asyncio.Event()
    provider.script(stream(*BEGINNINGS[api], gate, end="eof"))
    body = {"model": UPSTREAMS[api]["BIG_MODEL"], "input": "Hi", "stream": True}
    async with proxy.post("/v1/responses", body) as answer:
        await answer.content.readany()
    async with asyncio.timeout(30):
        await provider.calls[0].gone.wait()
    gate.set()


@EVERY
async def test_silence_is_filled_with_comments(start, provider, api):
    proxy = await start(**UPSTREAMS[api], EARLY_COMMIT="0.05")
    gate = asyncio.Event()
    provider.script(completion("ok", gate=gate))
    body = {"model": UPSTREAMS[api]["BIG_MODEL"], "input": "Hi", "stream": True}
    async with proxy.post("/v1/responses", body) as answer:
        assert await answer.content.readany() == b": ping\n\n"
        gate.set()
        rest = await answer.read()
    assert b"event: response.completed\n" in rest
