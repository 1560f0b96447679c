"""Rounds of model and tool search."""

from __future__ import annotations

import json

from ccproxy.convert.added_features import tool_search_loop
from ccproxy.convert.added_features.deferred_tools import tool_plan
from ccproxy.convert.added_features.tool_search_loop import ToolSearchLoop
from ccproxy.convert.direct.message_events import message_events
from tests.messages import read_stream


def answer(*blocks):
    message = {
        "type": "message", "role": "assistant", "id": "msg_1", "model": "m",
        "content": list(blocks), "stop_reason": "tool_use", "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 2},
    }  # fmt: skip
    return message_events(json.dumps(message).encode())


def results(*contents):
    return [
        {"type": "tool_search_tool_result", "tool_use_id": f"s{number}", "content": content}
        for number, content in enumerate(contents)
    ]


def test_searches_are_bounded(monkeypatch):
    monkeypatch.setattr(tool_search_loop, "_MAX_SEARCHES", 1)
    tools = [{"name": f"mcp__a__tool_{index}", "input_schema": {}} for index in range(9)]
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}], "tools": tools}
    data = json.dumps(body).encode()
    loop = ToolSearchLoop(data, tool_plan(data, 8), new_id=lambda: "srvtoolu_ccp_1")
    call = {"type": "tool_use", "name": "tool_search"}
    loop.feed(
        answer(*(call | {"id": f"c{n}", "input": {"query": f"mcp__a__tool_{n}"}} for n in range(3)))
    )
    loop.end_round()
    loop.search()
    assert [tool["name"] for tool in json.loads(loop.body)["tools"]][1:] == ["mcp__a__tool_0"]


def test_found_tools_are_sent_in_the_next_round():
    tools = [{"name": f"mcp__a__tool_{index}", "input_schema": {}} for index in range(9)]
    failed = {"type": "tool_search_tool_result_error", "error_code": "unavailable"}
    history = results(failed, "odd", {"tool_references": []})
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": history},
        {"role": "user", "content": "b"},
    ]
    body = json.dumps({"model": "m", "messages": messages, "tools": tools}).encode()
    plan = tool_plan(body, 8)
    assert plan is not None
    loop = ToolSearchLoop(body, plan, new_id=lambda: "srvtoolu_ccp_1")
    request = json.loads(loop.body)
    assert [tool["name"] for tool in request["tools"]] == ["tool_search"]
    texts = [block["content"] for block in request["messages"][1]["content"][:3]]
    assert texts[0] == "The search failed: unavailable"
    assert texts[1] == texts[2]
    call = {"type": "tool_use", "id": "c1", "name": "tool_search", "input": {"query": "tool_3"}}
    out = loop.feed(answer(call | {"input": {"query": "mcp__a__tool_3"}}))
    loop.end_round()
    assert loop.needs_round
    out += loop.search()
    assert [tool["name"] for tool in json.loads(loop.body)["tools"]][1:] == ["mcp__a__tool_3"]
    out += loop.feed(
        answer({"type": "tool_use", "id": "c2", "name": "mcp__a__tool_3", "input": {}})
    )
    loop.end_round()
    assert not loop.needs_round
    message = read_stream(out + loop.close()).message
    kinds = [block["type"] for block in message["content"]]
    assert kinds == ["server_tool_use", "tool_search_tool_result", "tool_use"]
