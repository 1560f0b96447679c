"""Tool search over HTTP: more tools than the provider accepts, in every converted dialect."""

from __future__ import annotations

import json

import pytest

from tests.fleet import eventually
from tests.messages import prompt
from tests.provider import completion, failure, tool_call
from tests.search_engine import HITS

DIALECTS = pytest.mark.parametrize("api", ["chat", "responses"])
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
WEATHER = "mcp__weather__forecast"
SERVER_SEARCH = {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}
WEB = {"type": "web_search_20250305", "name": "web_search"}
FIND = tool_call("tool_search", {"query": "weather forecast"}, call_id="call_find")


def tools(count):
    named = [f"mcp__server__tool_{index}" for index in range(count - 2)]
    return [
        {"name": name, "description": "does it", "input_schema": {"type": "object"}}
        for name in ("Read", *named, WEATHER)
    ]


def sent_tools(call):
    return [tool.get("function", tool)["name"] for tool in call.json["tools"]]


def forecasts(call):
    """Search first, then call the tool from the results."""
    if WEATHER not in sent_tools(call):
        return completion("Let me look.", tool_calls=[FIND])
    return completion(tool_calls=[tool_call(WEATHER, {"day": "today"}, call_id="call_1")])


@DIALECTS
@STREAMS
async def test_the_model_finds_the_last_of_two_hundred_tools(start, provider, api, stream):
    provider.script(forecasts)
    proxy = await start(PROVIDER_API=api, MAX_TOOLS="128")
    answer = await proxy.ask(prompt(tools=tools(200), stream=stream))
    first, second = provider.calls
    assert sent_tools(first) == ["Read", "tool_search"]
    assert sent_tools(second) == ["Read", "tool_search", WEATHER]
    kinds = [block["type"] for block in answer.message["content"]]
    assert kinds == ["text", "server_tool_use", "tool_search_tool_result", "tool_use"]
    (use,) = answer.blocks("tool_use")
    assert (use["name"], use["input"]) == (WEATHER, {"day": "today"})
    assert answer.message["stop_reason"] == "tool_use"
    usage = answer.message["usage"]
    assert usage["server_tool_use"] == {"tool_search_requests": 1}
    await eventually(lambda: not proxy.worker.requests.tasks)
    totals = proxy.worker.session.usage.totals
    assert (totals.input, totals.output) == (
        usage["input_tokens"], usage["output_tokens"]
    )  # fmt: skip
    assert json.dumps(proxy.lines("tools.searched")).count("request") == 1


@DIALECTS
async def test_later_turns_only_append(start, provider, api):
    provider.script(forecasts)
    proxy = await start(PROVIDER_API=api, MAX_TOOLS="128")
    body = prompt(tools=tools(200))
    answer = await proxy.ask(body)
    (use,) = answer.blocks("tool_use")
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": "rain"}
    turn = {"role": "assistant", "content": answer.message["content"]}
    messages = [*body["messages"], turn, {"role": "user", "content": [result]}]
    provider.script(completion("It rains."))
    later = await proxy.ask({**body, "messages": messages})
    assert later.text == "It rains."
    _, second, third = provider.calls
    field = "messages" if api == "chat" else "input"
    assert second.json["tools"] == third.json["tools"]
    assert third.json[field][: len(second.json[field])] == second.json[field]


async def test_a_provider_s_limit_holds(start, provider):
    provider.script(completion("ok"))
    proxy = await start(PROVIDER="openai", BIG_MODEL="gpt-4.1", PROVIDER_API="chat")
    for count in (128, 129, 500):
        assert (await proxy.ask(prompt(tools=tools(count)))).text == "ok"
    assert [len(call.json["tools"]) for call in provider.calls] == [128, 2, 2]


@DIALECTS
async def test_deferred_tools_of_the_clients_search(start, provider, api):
    late = tools(2)[1] | {"defer_loading": True}
    call = tool_call("tool_search_tool_regex", {"query": "weather"}, call_id="call_find")
    provider.script(completion(tool_calls=[call]), completion("ok"))
    proxy = await start(PROVIDER_API=api)
    answer = await proxy.ask(prompt(tools=[SERVER_SEARCH, tools(2)[0], late]))
    assert [sent_tools(each) for each in provider.calls] == [
        ["Read", "tool_search_tool_regex"],
        ["Read", "tool_search_tool_regex", WEATHER],
    ]
    (result_block,) = answer.blocks("tool_search_tool_result")
    assert result_block["content"]["tool_references"] == [
        {"type": "tool_reference", "tool_name": WEATHER}
    ]


async def test_with_web_searches(start, provider, engine):
    search = tool_call("web_search", {"query": "x"}, call_id="call_web")
    provider.script(
        completion(tool_calls=[FIND]), completion(tool_calls=[search]), completion("ok")
    )
    proxy = await start(MAX_TOOLS="8", WEB_SEARCH=f"searxng:{engine.url}")
    answer = await proxy.ask(prompt(tools=[WEB, *tools(20)], stream=True))
    assert answer.text == "ok"
    assert HITS[0]["url"] in json.dumps(provider.calls[2].json["messages"])
    assert sent_tools(provider.calls[2]) == ["web_search", "Read", "tool_search", WEATHER]
    assert answer.message["usage"]["server_tool_use"] == {
        "web_search_requests": 1,
        "tool_search_requests": 1,
    }


async def test_a_refusal_of_a_later_round_is_an_error(start, provider):
    provider.script(completion(tool_calls=[FIND]), failure(401))
    proxy = await start(MAX_TOOLS="8")
    assert (await proxy.ask(prompt(tools=tools(20)))).status == 401


async def test_codex_gets_no_tool_search(start, provider):
    provider.script(forecasts)
    proxy = await start(MAX_TOOLS="8")
    functions = [
        {"type": "function", "name": each["name"], "parameters": each["input_schema"]}
        for each in tools(20)
    ]
    body = {"model": "m", "input": "hello", "tools": functions}
    async with proxy.post("/v1/responses", body) as response:
        kinds = [item["type"] for item in (await response.json())["output"]]
    assert kinds == ["message", "function_call"]
