"""Tests of reading an answer: one event, a whole body, or a body of events."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy.convert.chat.answer import _add_delta as add_delta
from ccproxy.convert.chat.answer import (
    fold,
    fold_stream,
    is_stream,
    read_completion,
    read_event,
    to_message,
)
from ccproxy.convert.chat.stream import ChatToMessageStream
from ccproxy.convert.errors.causes import Cause
from ccproxy.convert.errors.classify import ProviderError
from ccproxy.errors import Problem
from ccproxy.protocol.chat import Chunk
from ccproxy.protocol.sse import ServerEvent
from ccproxy.providers.quirks import PLAIN
from tests.chat_answers import SIGNER, USAGE, call, context, end, parsed, say, sse, whole
from tests.grammar import assemble, check


def event(data, name=b""):
    return ServerEvent(name, data if isinstance(data, bytes) else json.dumps(data).encode())


FINE = {"base_resp": {"status_code": 0, "status_msg": ""}}
IN_CHOICE = {"choices": [{"index": 0, "delta": {}, "error": {"code": 429, "message": "slow down"}}]}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(say("a"), id="a chunk"),
        pytest.param({"choices": []}, id="no choices"),
        pytest.param({"id": "x", "usage": {"prompt_tokens": 1}}, id="usage alone"),
        pytest.param({**say("a"), "error": None}, id="error null"),
        pytest.param({**say("a"), "error": {}}, id="an empty error"),
        pytest.param({**say("a"), **FINE}, id="a success of MiniMax"),
        pytest.param(say('the word "error" in a text'), id="a text about errors"),
        pytest.param({}, id="nothing at all"),
    ],
)
def test_chunks(data):
    assert isinstance(read_event(event(data), PLAIN), Chunk)


def test_an_error_in_a_stream():
    result = read_event(event({"error": {"code": 429, "message": "m"}}), PLAIN)
    assert isinstance(result, ProviderError)
    assert result.cause is Cause.RATE_LIMIT


def test_an_error_event_without_an_error_object():
    with pytest.raises(
        Problem, match=r'ended the answer with an error: \{"message": "boom"\}'
    ) as broken:
        read_event(event({"message": "boom"}, b"error"), PLAIN)
    assert broken.value.kind == "api_error"


def test_an_error_event_with_an_error_object():
    result = read_event(event({"error": {"message": "Rate limit", "code": 429}}, b"error"), PLAIN)
    assert isinstance(result, ProviderError)
    assert result.cause is Cause.RATE_LIMIT


@pytest.mark.parametrize("name", [b"", b"message", b"completion.chunk"])
def test_other_event_names_are_ignored(name):
    assert isinstance(read_event(event(say("a"), name), PLAIN), Chunk)


@pytest.mark.parametrize("data", [b"Internal error", b"42", b'"text"', b"[1]"])
def test_data_that_is_neither_chunk_nor_error_is_a_problem(data):
    with pytest.raises(Problem, match="is not valid"):
        read_event(event(data), PLAIN)


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        pytest.param({"detail": "Not Found"}, Cause.SERVER, id="a body"),
        pytest.param(IN_CHOICE, Cause.RATE_LIMIT, id="in a choice"),
    ],
)
def test_errors_under_a_200(body, cause):
    result = read_completion(json.dumps(body).encode(), PLAIN)
    assert isinstance(result, ProviderError)
    assert result.cause is cause


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(whole("a"), id="an answer"),
        pytest.param({**whole("a"), "error": None}, id="error null"),
        pytest.param({**whole("a"), **FINE}, id="MiniMax"),
        pytest.param({**whole("a"), "detail": "x", "message": "y"}, id="with strange fields"),
    ],
)
def test_answers_under_a_200(body):
    result = read_completion(json.dumps(body).encode(), PLAIN)
    assert isinstance(result, Chunk)
    assert result.choices[0].message.content == "a"


@given(st.binary(max_size=80), st.sampled_from([b"", b"error"]))
def test_any_bytes_are_read_or_refused(data, name):
    for read in (
        lambda: read_event(ServerEvent(name, data), PLAIN),
        lambda: read_completion(data, PLAIN),
    ):
        with contextlib.suppress(Problem):  # and nothing else
            assert isinstance(read(), Chunk | ProviderError)


# A whole answer becomes the same message as the stream of the same answer.


def message_of(completion, **settings):
    return to_message(json.dumps(completion).encode(), context(**settings))


def function(arguments, name="Read", **more):
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


def test_events_of_other_providers():
    """Direct mode also folds streams without usage, with citations and with hosted tools."""
    use = {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "read", "input": {}}
    citation = {"type": "char_location", "cited_text": "42"}
    deltas = [
        ({"type": "text", "text": ""}, {"type": "text_delta", "text": "It is 42."}),
        ({"type": "text", "text": ""}, {"type": "citations_delta", "citation": citation}),
        (use, {"type": "input_json_delta", "partial_json": '{"path":"a"}'}),
    ]
    events = [{"type": "message_start", "message": {"id": "msg_1"}}]
    for index, (block, delta) in enumerate(deltas):
        events += [
            {"type": "content_block_start", "index": index, "content_block": block},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    events.append({"type": "message_delta", "delta": {"stop_reason": "end_turn"}})
    assert fold(events) == {
        "id": "msg_1",
        "content": [
            {"type": "text", "text": "It is 42."},
            {"type": "text", "text": "", "citations": [citation]},
            {**use, "input": {"path": "a"}},
        ],
        "usage": {},
        "stop_reason": "end_turn",
    }


def test_citations_are_appended_to_one_list():
    """A copy for each citation would take quadratic time: 3 s for 40,000."""
    block: dict[str, Any] = {"type": "text", "citations": None}
    add_delta(block, [], {"type": "citations_delta", "citation": 1})
    citations = block["citations"]
    add_delta(block, [], {"type": "citations_delta", "citation": 2})
    assert block["citations"] is citations
    assert citations == [1, 2]


def test_the_citations_of_an_event_are_not_changed():
    start = {"type": "text", "citations": [1]}
    events = [
        {"type": "message_start", "message": {}},
        {"type": "content_block_start", "index": 0, "content_block": start},
        {"type": "content_block_delta", "delta": {"type": "citations_delta", "citation": 2}},
    ]
    assert fold(events)["content"] == [{"type": "text", "citations": [1, 2]}]
    assert start["citations"] == [1]


def test_a_whole_message():
    assert message_of(whole("Hello")) == {
        "id": "msg_test",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 31,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 7,
        },
    }


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        pytest.param(whole(None), [], id="nothing"),
        pytest.param(
            whole("Reading", tool_calls=[function('{"path": "a"}', id="c9")]),
            [("text", "Reading"), ("tool_use", "c9", {"path": "a"})],
            id="text and a call",
        ),
        pytest.param(whole(None, refusal="No."), [("text", "No.")], id="a refusal"),
        pytest.param(
            whole(None, tool_calls=[function('{"a": 1,}', id="c1")]),
            [("tool_use", "c1", {"arguments": '{"a": 1,}'})],
            id="invalid JSON",
        ),
        pytest.param(
            whole(None, finish="length", tool_calls=[function('{"a', id="c1")]),
            [("tool_use", "c1", {})],
            id="a call cut by the token limit has no member",
        ),
        pytest.param(
            whole(None, finish=None, tool_calls=[function('{"a', id="c1")]),
            [("tool_use", "c1", {"arguments": '{"a'})],
            id="cut JSON and no reason",
        ),
        pytest.param(
            whole(None, tool_calls=[function("{}", id="same"), function("{}", id="same")]),
            [("tool_use", "same", {})],
            id="the same id, name and arguments are one call",
        ),
        pytest.param(
            whole(None, tool_calls=[function("{}", id="functions.Read:0")]),
            [("tool_use", "MADE", {})],
            id="an id of Kimi's",
        ),
        pytest.param(
            whole(None, tool_calls=[function("{}", id="known")]),
            [("tool_use", "MADE", {})],
            id="an id that the conversation has",
        ),
    ],
)
def test_content(completion, expected):
    blocks: list[Any] = []
    for block in message_of(completion, known_ids=frozenset({"known"}))["content"]:
        if block["type"] == "tool_use":
            is_made = block["id"].startswith("toolu_")
            blocks.append(("tool_use", "MADE" if is_made else block["id"], block["input"]))
        else:
            blocks.append((block["type"], block[block["type"]]))
    assert blocks == expected


@pytest.mark.parametrize("finish", [None, "", "eos", "stop"])
def test_a_whole_answer_is_complete_without_a_reason(finish):
    assert message_of(whole("a", finish=finish))["stop_reason"] == "end_turn"


@pytest.mark.parametrize("number", [{"index": 1}, {"index": 0}, {}])
def test_choices_are_merged(number):
    """Copilot splits an answer into two choices with equal or missing indexes."""
    completion = whole("I will look.", finish="tool_calls")
    second = {"message": {"tool_calls": [function("{}", id="t1")]}, "finish_reason": "tool_calls"}
    completion["choices"].append({**number, **second})
    message = message_of(completion)
    assert [block["type"] for block in message["content"]] == ["text", "tool_use"]
    assert message["stop_reason"] == "tool_use"


def test_stop_sequences_cut_a_whole_answer():
    message = message_of(whole("<block>no</block> since"), stop_sequences=("</block>",))
    assert message["content"] == [{"type": "text", "text": "<block>no"}]
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "</block>")


def test_thinking_is_signed():
    (block, _) = message_of(whole("a", reasoning="r"))["content"]
    assert SIGNER.open(block["signature"]).provider == "acme"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        pytest.param(b"", "api_error", id="nothing"),
        pytest.param(b"<html>", "api_error", id="HTML"),
        pytest.param(b'{"choices":[]}', "api_error", id="no choice"),
        pytest.param(b'{"choices":null}', "api_error", id="null choices"),
        pytest.param(
            b'{"choices":[{"message":{"content":"a"},"finish_reason":"error"}]}',
            "api_error",
            id="an answer that failed",
        ),
        pytest.param(
            b'{"choices":[{"message":{"content":""},"finish_reason":"error",'
            b'"error":{"code":429,"message":"slow down"}}]}',
            "rate_limit_error",
            id="an answer with the cause of its failure",
        ),
        pytest.param(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', "api_error", id="cut"),
        pytest.param(
            b'data: {"error":{"code":429,"message":"Rate limit"}}\n\n',
            "rate_limit_error",
            id="an error in a stream",
        ),
    ],
)
def test_errors(body, kind):
    with pytest.raises(Problem) as caught:
        to_message(body, context())
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: {}\n\n", True),
        (b": comment\n\n", True),
        (b"\n\nevent: x\n", True),
        (b"\xef\xbb\xbfdata:1", True),
        (b'{"data:":1}', False),
        (b"  {}", False),
        (b"", False),
    ],
)
def test_streams_are_recognized(body, expected):
    assert is_stream(body) is expected


ANSWERS = [
    pytest.param([say("Hel"), say("lo"), end(usage=USAGE)], whole("Hello"), id="text"),
    pytest.param(
        [say(reasoning_content="a"), say(reasoning_content="b"), say("c"), end(usage=USAGE)],
        whole("c", reasoning_content="ab"),
        id="thinking",
    ),
    pytest.param(
        [
            say("x"),
            call("", index=0, id="c1", name="Read"),
            call('{"a"', index=0),
            call(":1}", index=0),
            call("{}", index=1, id="a:1", name="Grep"),
            end("tool_calls", usage=USAGE),
        ],
        whole(
            "x",
            finish="tool_calls",
            tool_calls=[function('{"a":1}', id="c1"), function("{}", "Grep", id="a:1")],
        ),
        id="calls",
    ),
    pytest.param(
        [
            call(
                "{}",
                index=0,
                id="c",
                name="R",
                extra_content={"google": {"thought_signature": "S"}},
            ),
            end(usage=USAGE),
        ],
        whole(
            None,
            tool_calls=[
                function("{}", "R", id="c", extra_content={"google": {"thought_signature": "S"}})
            ],
        ),
        id="a thought signature",
    ),
    pytest.param(
        [say("<thi"), say("nk>a</think>b"), end("length", usage=USAGE)],
        whole("<think>a</think>b", finish="length"),
        id="tags",
    ),
    pytest.param([say("a EN"), say("D b"), end(usage=USAGE)], whole("a END b"), id="stops"),
]


@pytest.mark.parametrize(("chunks", "completion"), ANSWERS)
def test_whole_and_folded_stream_are_one_message(chunks, completion):
    settings: dict[str, Any] = {"stop_sequences": ("END",)}
    from_stream = to_message(sse(chunks), context(**settings))
    from_whole = message_of(completion, **settings)
    if from_whole["stop_reason"] == "stop_sequence":
        from_stream["usage"] = from_whole["usage"]  # the stream was cut before the finish_reason
    assert from_stream == from_whole
    machine = ChatToMessageStream(context(**settings))
    events = [event for chunk in chunks for event in machine.feed(parsed(chunk))]
    events += machine.close()
    assert check(events) == []
    assert assemble(events)["content"] == fold(events)["content"] == from_whole["content"]


@pytest.mark.parametrize("rest", [{"error": {"message": "boom"}}, "oops"])
def test_an_error_after_the_end_is_ignored(rest):
    assert to_message(sse([say("a"), end("length"), rest]), context())["content"][0]["text"] == "a"
    with pytest.raises(Problem):
        to_message(sse([say("a"), rest]), context())


def test_fold_stream_reads_a_larger_body_than_an_event_may_be():
    body = sse([say("x" * 1000)] * 20 + [end()])
    assert len(fold_stream(body, context())["content"][0]["text"]) == 20_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["content", "text", "thinking", "type", "tool_calls", "function", "name"]
            )
            | st.sampled_from(
                ["id", "index", "arguments", "reasoning", "reasoning_details", "google"]
            )
            | st.sampled_from(
                ["extra_content", "finish_reason", "usage", "prompt_tokens", "error"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON, JSON)
def test_arbitrary_answers_are_messages_or_problems(message, usage):
    choice = {"message": message, "finish_reason": "stop"}
    try:
        result = message_of({"choices": [choice], "usage": usage})
    except Problem:
        return
    assert result["type"] == "message"
    json.dumps(result)


def test_whole_blocks_are_kept_by_the_fold():
    block = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    events = [
        {"type": "message_start", "message": {"usage": {}}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_stop", "index": 0},
    ]
    assert fold(events)["content"] == [block]
