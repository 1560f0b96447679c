"""
The `anthropic` SDK with a worker of every preset, whose provider answers in its own format.

Answers are whole and streamed, with tools, thinking and structured output. The provider must accept
every request.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
from anthropic.types import Message

from tests.chat_rules import violations
from tests.shapes import SHAPES, Turn, plays, shows_thinking
from tests.worker.proxy import Proxy

TOOLS = [
    {
        "name": "get_weather",
        "description": "The weather at a place",
        "input_schema": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "days": {"type": ["integer", "null"]}},
            "required": ["place"],
            "additionalProperties": False,
        },
    },
    {"name": "mcp__a_server_with_a_long_name__" + "x" * 60, "input_schema": {"type": "object"}},
]
LONG_NAME = TOOLS[1]["name"]
ASK = Turn(
    thought="Both at once.",
    text="Let me look.",
    calls=(("get_weather", {"place": "Zürich"}), ("get_weather", {"place": "Köln", "days": 3})),
)
ANSWER = Turn(thought="Sunny, I see.", text="It is sunny in Zürich.")
FORMAT = {
    "type": "json_schema",
    "schema": {
        "type": "object",
        "properties": {"title": {"type": "string"}},
        "required": ["title"],
        "additionalProperties": False,
    },
}


@pytest.fixture(params=SHAPES)
def preset(request) -> str:
    return request.param


@pytest.fixture
async def proxy(start, preset) -> Proxy:
    """A worker with *preset*."""
    azure = {"AZURE_API_VERSION": "2026-01-01"} if preset == "azure" else {}
    return await start(PROVIDER=preset, BIG_MODEL=SHAPES[preset].model, **azure)


@pytest.fixture
async def client(proxy, provider, preset) -> AsyncIterator[AsyncAnthropic]:
    """The SDK as in Claude Code; at the end, the provider must have received no invalid request."""
    http_client = DefaultAsyncHttpxClient(verify=False)  # avoids reading every root certificate
    async with AsyncAnthropic(
        base_url=proxy.url, api_key="any", max_retries=0, http_client=http_client
    ) as client:
        yield client
    quirks = proxy.worker.config.target(SHAPES[preset].model).quirks
    for call in provider.calls:
        assert violations(call.json, quirks=quirks) == [], f"request {call.number}"


async def ask(client: AsyncAnthropic, *, streams: bool, **fields: Any) -> Message:
    """Send a request; the SDK assembles a stream."""
    body = {"model": "claude-opus-5-5", "max_tokens": 4000, **fields}
    if not streams:
        return await client.messages.create(**body)
    async with client.messages.stream(**body) as stream:
        return await stream.get_final_message()


def spoken(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def thought(message: Message) -> list[str]:
    """Return the readable thinking; a block with only a signature has none."""
    blocks = [block for block in message.content if block.type == "thinking"]
    assert all(block.signature for block in blocks)
    return [block.thinking for block in blocks if block.thinking]


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
async def test_a_tool_loop_with_thinking(client, provider, preset, streams):
    provider.script(*plays(preset, ASK, ANSWER))
    messages: list[Any] = [{"role": "user", "content": "How is the weather?"}]
    fields = {"tools": TOOLS, "thinking": {"type": "adaptive"}, "streams": streams}

    first = await ask(client, messages=messages, **fields)
    calls = [block for block in first.content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in calls] == list(ASK.calls)
    assert (spoken(first), first.stop_reason) == (ASK.text, "tool_use")
    assert thought(first) == ([ASK.thought] if shows_thinking(preset) else [])
    assert first.usage.cache_read_input_tokens == 512
    assert first.usage.input_tokens == 900 + len(ASK.text) - 512

    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": f"sun in {call.input['place']}"}
        for call in reversed(calls)
    ]
    content = [block.model_dump(exclude_none=True) for block in first.content]
    messages += [{"role": "assistant", "content": content}, {"role": "user", "content": results}]
    second = await ask(client, messages=messages, **fields)
    assert (spoken(second), second.stop_reason) == (ANSWER.text, "end_turn")

    outgoing = provider.calls[1].json["messages"]
    assert [output["content"] for output in outgoing if output["role"] == "tool"] == [
        "sun in Zürich",
        "sun in Köln",
    ]
    assert json.dumps(outgoing[0]) == json.dumps(provider.calls[0].json["messages"][0])


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
async def test_a_tool_name_that_is_too_long(client, provider, preset, streams):
    """The provider calls the tool by its shortened name."""

    def script(call):
        outgoing = call.json["tools"][1]["function"]["name"]
        assert len(outgoing) <= 64
        return plays(preset, Turn(calls=((outgoing, {"a": 1}),)))[0](call)

    provider.script(script)
    messages = [{"role": "user", "content": "Call it"}]
    message = await ask(client, messages=messages, tools=TOOLS, streams=streams)
    (call,) = (block for block in message.content if block.type == "tool_use")
    assert (call.name, call.input) == (LONG_NAME, {"a": 1})


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
async def test_structured_output(client, proxy, provider, preset, streams):
    provider.script(*plays(preset, Turn(text='{"title": "Weather"}')))
    message = await ask(
        client,
        messages=[{"role": "user", "content": "A title, please"}],
        streams=streams,
        extra_body={"output_config": {"format": FORMAT}},
    )
    assert json.loads(spoken(message)) == {"title": "Weather"}
    body = provider.calls[0].json
    in_prompt = '"title"' in json.dumps(body["messages"]).replace('\\"', '"')
    assert ("response_format" in body) or in_prompt
    if body.get("response_format", {}).get("type") != "json_schema":
        assert in_prompt, "the provider must get the schema"


async def test_events_arrive_in_order(client, provider, preset):
    """An app gets every delta of the stream, in order."""
    provider.script(*plays(preset, ANSWER))
    async with client.messages.stream(
        model="claude-opus-5-5", max_tokens=100, messages=[{"role": "user", "content": "Hi"}]
    ) as stream:
        texts = [event.text async for event in stream if event.type == "text"]
    assert "".join(texts) == ANSWER.text
    assert len(texts) > 1


async def test_counting(client, provider, preset):
    messages = [{"role": "user", "content": "How many?"}]
    few = await client.messages.count_tokens(model="claude-opus-5-5", messages=messages)
    more = await client.messages.count_tokens(
        model="claude-opus-5-5", messages=messages, tools=TOOLS
    )
    assert 1 <= few.input_tokens < more.input_tokens
    assert provider.calls == []
