"""Rounds of model and web search: the requests, the single stream, the history."""

from __future__ import annotations

import json
from itertools import count

import pytest

from ccproxy.convert.added_features.search_results import SearchOutcome, SearchResult
from ccproxy.convert.added_features.search_tool import SearchTool
from ccproxy.convert.added_features.server_tool_loop import MAX_ROUNDS, with_calls
from ccproxy.convert.added_features.web_search_loop import WebSearchLoop, web_search_calls
from ccproxy.convert.direct.message_events import message_events
from ccproxy.errors import Problem
from ccproxy.protocol import sse
from tests.messages import read_stream

SEARCH = {"type": "web_search_20250305", "name": "web_search"}
READ = {"name": "Read", "input_schema": {}}
FOUND = SearchOutcome(results=(SearchResult(url="https://a.example/", title="A", text="42"),))


def loop(*tools, uses=8, **fields):
    body = {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hello"}],
        "tools": [SEARCH, *tools],
        **fields,
    }
    numbers = count(1)
    return WebSearchLoop(
        json.dumps(body).encode(),
        SearchTool(max_uses=uses),
        new_id=lambda: f"srvtoolu_{next(numbers)}",
    )


def answer(*blocks, **usage):
    message = {
        "type": "message",
        "role": "assistant",
        "id": "msg_1",
        "model": "m",
        "content": list(blocks),
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 2, **usage},
    }
    return message_events(json.dumps(message).encode())


def search(query="x", call_id="call_1", name="web_search"):
    arguments = {} if query is None else {"query": query}
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def text(words):
    return {"type": "text", "text": words}


def test_rounds_become_one_stream():
    one_call = {"disable_parallel_tool_use": True}
    forced = {"type": "tool", "name": "web_search", **one_call}
    rounds = loop(READ, tool_choice=forced)
    first = json.loads(rounds.body)
    assert [tool["name"] for tool in first["tools"]] == ["web_search", "Read"]
    assert (first["tool_choice"], first["stream"]) == (forced, True)
    out = rounds.feed(answer(text("Look."), search(), cache={"a": 1}) + sse.PING)
    rounds.end_round()
    assert rounds.needs_round
    out += rounds.resolve([FOUND for _ in rounds.allowed()])
    second = json.loads(rounds.body)
    assert second["tool_choice"] == {"type": "auto", **one_call}
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][1]["content"][1] == search()
    assert "42" in second["messages"][2]["content"][0]["content"]
    out += rounds.feed(answer(text("It is 42.")))
    rounds.end_round()
    assert not rounds.needs_round
    stream = read_stream(out + rounds.close())
    kinds = [block["type"] for block in stream.message["content"]]
    assert kinds == ["text", "server_tool_use", "web_search_tool_result", "text"]
    assert stream.message["usage"]["output_tokens"] == 4
    assert stream.message["usage"]["server_tool_use"] == {"web_search_requests": 1}


@pytest.mark.parametrize("usage", [5, None, {"web_search_requests": "one"}], ids=str)
def test_an_unusual_count_of_the_provider_does_not_matter(usage):
    rounds = loop()
    out = rounds.feed(answer(search(), server_tool_use=usage))
    rounds.end_round()
    out += rounds.resolve([FOUND])
    out += rounds.feed(answer(text("It is 42.")))
    rounds.end_round()
    stream = read_stream(out + rounds.close())
    assert stream.message["usage"]["server_tool_use"] == {"web_search_requests": 1}


def test_a_call_of_another_tool_ends_the_answer():
    rounds = loop(READ)
    out = rounds.feed(answer(search(), search(None, "call_2", "Read")))
    rounds.end_round()
    assert not rounds.needs_round
    out += rounds.resolve([FOUND])
    stream = read_stream(out + rounds.close())
    kinds = [block["type"] for block in stream.message["content"]]
    assert kinds == ["server_tool_use", "tool_use", "web_search_tool_result"]


@pytest.mark.parametrize(
    ("calls", "uses", "errors"),
    [
        ([search("a"), search("b", "call_2")], 1, [None, "max_uses_exceeded"]),
        ([search(None)], 8, ["invalid_tool_input"]),
        ([search(7)], 8, ["invalid_tool_input"]),
    ],
    ids=["max_uses", "no query", "no text"],
)
def test_searches_that_are_refused(calls, uses, errors):
    rounds = loop(uses=uses)
    rounds.feed(answer(*calls))
    rounds.end_round()
    out = rounds.resolve([FOUND for _ in rounds.allowed()])
    events = [json.loads(event.data) for event in sse.Decoder().feed(out)]
    contents = [event["content_block"]["content"] for event in events if "content_block" in event]
    got = [each.get("error_code") if isinstance(each, dict) else None for each in contents]
    assert got == errors


@pytest.mark.parametrize(
    ("calls", "reason"),
    [
        pytest.param([search()], b"end_turn", id="a search"),
        pytest.param([search(), search(None, "call_2", "Read")], b"tool_use", id="and another"),
    ],
)
def test_the_last_round_has_no_search_and_an_end(calls, reason):
    rounds = loop(tool_choice={"type": "auto"})
    for _ in range(MAX_ROUNDS - 1):
        rounds.feed(answer(search()))
        rounds.end_round()
        rounds.resolve([FOUND for _ in rounds.allowed()])
    body = json.loads(rounds.body)
    assert "tools" not in body
    assert "tool_choice" not in body
    rounds.feed(answer(*calls))
    rounds.end_round()
    assert not rounds.needs_round
    assert b'"stop_reason":"%b"' % reason in rounds.close()


def test_an_error_event_is_raised():
    error = b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}'
    with pytest.raises(Problem, match="busy") as raised:
        loop().feed(sse.encode(b"error", error))
    assert raised.value.kind == "overloaded_error"


CALL_START = {
    "type": "content_block_start",
    "index": 0,
    "content_block": {"type": "tool_use", "name": "web_search", "id": "c"},
}


@pytest.mark.parametrize(
    "events",
    [
        [5],
        [{"type": 5}],
        [{"type": "error"}],
        [{"type": "message_delta"}],
        [{"type": "message_delta", "delta": {}, "usage": 5}],
        [{"type": "content_block_start", "index": 0}],
        [{"type": "content_block_start", "index": 0, "content_block": None}],
        [{"type": "content_block_start", "content_block": {}}],
        [{"type": "content_block_delta", "index": "a"}],
        [CALL_START, {"type": "content_block_delta", "index": 0, "delta": None}],
        [
            {**CALL_START, "content_block": {"type": "tool_use", "name": "web_search"}},
            {"type": "content_block_stop", "index": 0},
        ],
        [
            CALL_START,
            {"type": "content_block_delta", "index": 0, "delta": {"partial_json": 5}},
            {"type": "content_block_stop", "index": 0},
        ],
    ],
    ids=str,
)
def test_invalid_events(events):
    rounds = loop()
    with pytest.raises(Problem, match="not valid"):
        rounds.feed(b"".join(sse.encode(b"x", json.dumps(event).encode()) for event in events))


@pytest.mark.parametrize("without", ["message_start", "content_block_start"])
def test_a_round_without_its_beginning(without):
    rounds = loop()
    data = answer(text("a")) if without == "content_block_start" else answer(search())
    events = [event for event in sse.Decoder().feed(data) if event.event.decode() != without]
    rounds.feed(b"".join(sse.encode(*event) for event in events))
    rounds.feed(answer(search()))
    rounds.end_round()
    with pytest.raises(Problem, match="not valid"):
        rounds.resolve([FOUND for _ in rounds.allowed()])


def test_counts_of_all_rounds_are_added():
    rounds = loop()
    for searched in (1, 2):
        rounds.feed(answer(search(), server_tool_use={"x": searched, "y": None}, z="a"))
        rounds.end_round()
        rounds.resolve([FOUND for _ in rounds.allowed()])
    rounds.feed(answer())
    rounds.end_round()
    usage = json.loads(sse.Decoder().feed(rounds.close())[0].data)["usage"]
    assert (usage["input_tokens"], usage["z"]) == (15, "a")
    assert usage["server_tool_use"] == {"x": 3, "y": None, "web_search_requests": 2}


def test_a_stream_without_end():
    rounds = loop()
    rounds.feed(answer(text("a")).partition(b"event: message_delta")[0])
    with pytest.raises(Problem, match="was cut off"):
        rounds.end_round()


# History.

USE = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}
RESULT = {"type": "web_search_tool_result", "tool_use_id": "s1",
          "content": [{"type": "web_search_result", "url": "u", "title": "t"}]}  # fmt: skip
CALL = {"type": "tool_use", "id": "s1", "name": "find", "input": {"query": "x"}}
GIVEN = {"type": "tool_result", "tool_use_id": "s1", "content": "t (u)"}


def assistant(*content):
    return {"role": "assistant", "content": list(content)}


def user(*content):
    return {"role": "user", "content": list(content)}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([user(text("a"))], [user(text("a"))], id="nothing to do"),
        pytest.param(
            [assistant(USE, RESULT, text("b")), {"role": "user", "content": "c"}],
            [assistant(CALL), user(GIVEN), assistant(text("b")), {"role": "user", "content": "c"}],
            id="a text follows",
        ),
        pytest.param(
            [assistant(USE, RESULT), {"role": "user", "content": "c"}],
            [assistant(CALL), user(GIVEN, text("c"))],
            id="the user follows",
        ),
        pytest.param(
            [assistant(USE, RESULT), user(text("c"))],
            [assistant(CALL), user(GIVEN, text("c"))],
            id="the user's blocks follow",
        ),
        pytest.param(
            [assistant(USE, RESULT)], [assistant(CALL), user(GIVEN)], id="nothing follows"
        ),
        pytest.param(
            [assistant(RESULT), user(text("c"))], [user(GIVEN, text("c"))], id="only a result"
        ),
        pytest.param(
            [assistant(USE, RESULT), assistant(text("b"))],
            [assistant(CALL), user(GIVEN), assistant(text("b"))],
            id="the assistant follows",
        ),
        pytest.param(
            [assistant(USE), assistant(RESULT, text("b"))],
            [assistant(CALL), user(GIVEN), assistant(text("b"))],
            id="the next message begins with the result",
        ),
        pytest.param(
            [assistant(USE, RESULT), {"role": "system", "content": "s"}, user(text("c"))],
            [assistant(CALL), user(GIVEN), {"role": "system", "content": "s"}, user(text("c"))],
            id="a system message follows",
        ),
        pytest.param(
            [
                assistant(
                    USE | {"id": "srvtoolu_ccp_1_call_6331"},
                    RESULT | {"tool_use_id": "srvtoolu_ccp_1_call_6331"},
                )
            ],
            [assistant(CALL | {"id": "c1"}), user(GIVEN | {"tool_use_id": "c1"})],
            id="the model's own id",
        ),
        pytest.param(
            [assistant(USE | {"input": None}, "x", RESULT)],
            [assistant(CALL | {"input": {}}, "x"), user(GIVEN)],
            id="unusual blocks",
        ),
    ],
)
def test_earlier_searches_become_calls(messages, expected):
    body = json.dumps({"messages": messages}).encode()
    assert [
        json.loads(bytes(raw)) for raw in with_calls(body, web_search_calls("find"))
    ] == expected
