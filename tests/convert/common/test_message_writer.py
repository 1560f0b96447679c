"""Tests of the message writer: the order of events, and the data in signatures."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy.convert.chat.tool_calls import ToolCall
from ccproxy.convert.common.message_writer import MessageWriter
from tests.chat_answers import SIGNER, context, screenplay
from tests.grammar import assemble

USAGE = {"input_tokens": 3, "output_tokens": 2}
SEALED = {"type": "reasoning.encrypted", "data": "gAAA", "index": 0}
LABEL = {"type": "reasoning.text", "index": 0, "format": "unknown"}


def writer(**settings: Any) -> MessageWriter:
    return MessageWriter(context(**settings))


def called(arguments: str = "{}", *, name: str = "Read", signature: str | None = None) -> ToolCall:
    call = ToolCall()
    call.name = name
    call.thought_signature = signature
    call.add(arguments)
    return call


def played(write, **settings: Any) -> dict[str, Any]:
    """Return the message that *write* produces with a writer."""
    made = writer(**settings)
    made.start()
    write(made)
    made.flush_pending()
    made.end("end_turn", None, USAGE)
    return assemble(made.take())


def lines_of(write, **settings: Any) -> list[str]:
    """Return the events that *write* produces, as short lines."""
    made = writer(**settings)
    write(made)
    made.end_block()
    return screenplay(made.take())


def carried(block: dict[str, Any]) -> Any:
    return SIGNER.open(block["signature"]).carried


# The message...


def test_message_start():
    made = writer(message_id="msg_7", model="claude-opus-5-5", input_estimate=321)
    made.start()
    (event,) = made.take()
    assert event["type"] == "message_start"
    assert event["message"] == {
        "id": "msg_7",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-5-5",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 321,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 0,
        },
    }


def test_message_delta_and_stop():
    made = writer()
    made.end("stop_sequence", "END", USAGE)
    delta, stop = made.take()
    assert delta == {
        "type": "message_delta",
        "delta": {"stop_reason": "stop_sequence", "stop_sequence": "END"},
        "usage": USAGE,
    }
    assert stop == {"type": "message_stop"}


def test_events_are_returned_once():
    made = writer()
    made.start()
    assert len(made.take()) == 1
    assert made.take() == []


# ...its blocks...


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        pytest.param([("text", "a")], ["0 text", "0 + a", "0 ."], id="a text"),
        pytest.param(
            [("text", "a"), ("text", "b")],
            ["0 text", "0 + a", "0 + b", "0 ."],
            id="a text in two parts",
        ),
        pytest.param(
            [("thinking", "t"), ("text", "a")],
            ["0 thinking", "0 + t", "0 !", "0 .", "1 text", "1 + a", "1 ."],
            id="a block is closed before the next opens",
        ),
        pytest.param(
            [("text", "a"), ("thinking", "t"), ("text", "b")],
            [
                *("0 text", "0 + a", "0 ."),
                *("1 thinking", "1 + t", "1 !", "1 ."),
                *("2 text", "2 + b", "2 ."),
            ],
            id="in any order",
        ),
        pytest.param([("text", "")], [], id="no text, no block"),
        pytest.param([("text", " \n")], [], id="white space alone"),
        pytest.param([("thinking", "\n")], [], id="white space alone in thinking"),
        pytest.param(
            [("text", "\n"), ("text", "a")],
            ["0 text", "0 + \na", "0 ."],
            id="white space waits for a letter",
        ),
        pytest.param(
            [("text", "a"), ("text", "\n"), ("text", "b")],
            ["0 text", "0 + a", "0 + \n", "0 + b", "0 ."],
            id="in an open block it does not wait",
        ),
        pytest.param(
            [("text", " "), ("thinking", "t"), ("text", "a")],
            ["0 thinking", "0 + t", "0 !", "0 .", "1 text", "1 +  a", "1 ."],
            id="and it outlives a block of another kind",
        ),
        pytest.param(
            [("thinking", " "), ("text", "a")],
            ["0 text", "0 + a", "0 ."],
            id="blank thinking does not open a block before the text",
        ),
    ],
)
def test_blocks(output, expected):
    def write(made):
        for kind, text in output:
            made.write(kind, text)

    assert lines_of(write) == expected


def test_hidden_thinking_is_counted_but_not_written():
    made = writer(hide_thinking=True)
    made.write("thinking", "secret")
    made.queue_details([SEALED])
    made.write("text", "yes")
    made.end_block()
    assert screenplay(made.take()) == ["0 text", "0 + yes", "0 ."]
    assert made.chars == len("secretyes")


def test_ending_a_block_that_is_not_open():
    made = writer()
    made.end_block()
    assert made.take() == []
    assert (made.block, made.index) == (None, -1)


# ...its calls...


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param(['{"a":1}'], ["0 tool_use c1 Read", '0 + {"a":1}', "0 ."], id="at once"),
        pytest.param(
            ['{"a"', ":1}"],
            ["0 tool_use c1 Read", '0 + {"a"', "0 + :1}", "0 ."],
            id="piece by piece",
        ),
        pytest.param([""], ["0 tool_use c1 Read", "0 ."], id="without arguments"),
        pytest.param(
            ["[1]"], ["0 tool_use c1 Read", '0 + {"arguments":[1]}', "0 ."], id="made an object"
        ),
    ],
)
def test_a_call(pieces, expected):
    def write(made):
        call = called(pieces[0])
        made.open_call(call, "c1")
        for piece in pieces[1:]:
            call.add(piece)
            made.continue_call()

    assert lines_of(write) == expected


def test_a_call_has_the_clients_name():
    def write(made):
        made.open_call(called(name="short_1a2b"), "c1")

    assert lines_of(write, tool_names={"short_1a2b": "mcp__long"})[0] == "0 tool_use c1 mcp__long"


def test_a_closed_call_is_no_longer_the_open_one():
    made = writer()
    call = called('{"a":')
    made.open_call(call, "c1")
    made.end_block()
    made.take()
    call.add(" ")
    made.continue_call()
    assert made.take() == []
    assert (made.call, call.is_closed, made.has_tools) == (None, True, True)


# ...and data to return with them.


def test_a_signature_names_its_origin():
    block = played(lambda made: made.write("thinking", "t"))["content"][0]
    origin = SIGNER.open(block["signature"])
    assert (origin.provider, origin.model, origin.carried) == ("acme", "up-1", {})


@pytest.mark.parametrize(
    ("write", "kinds", "goods"),
    [
        pytest.param(
            lambda made: made.open_call(called(signature="S"), "c1"),
            ["thinking", "tool_use"],
            {"thought_signatures": {"c1": "S"}},
            id="a thought signature has a block before its call",
        ),
        pytest.param(
            lambda made: (
                made.write("thinking", "t"),
                made.open_call(called(signature="S"), "c1"),
            ),
            ["thinking", "tool_use"],
            {"thought_signatures": {"c1": "S"}},
            id="or is part of open thinking",
        ),
        pytest.param(
            lambda made: (made.queue_details([SEALED]), made.open_call(called(), "c1")),
            ["thinking", "tool_use"],
            {"reasoning_details": [SEALED]},
            id="so does a sealed detail",
        ),
        pytest.param(
            lambda made: (
                made.write("text", "a"),
                made.queue_details([SEALED]),
                made.open_call(called(), "c1"),
            ),
            ["text", "thinking", "tool_use"],
            {"reasoning_details": [SEALED]},
            id="between text and call",
        ),
        pytest.param(
            lambda made: (made.open_call(called(), "c1"), made.queue_details([SEALED])),
            ["tool_use", "thinking"],
            {"reasoning_details": [SEALED]},
            id="a late one follows the call",
        ),
    ],
)
def test_data_that_must_be_returned_with_a_call(write, kinds, goods):
    content = played(write)["content"]
    assert [block["type"] for block in content] == kinds
    assert carried(content[kinds.index("thinking")]) == goods


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda made: made.queue_details([SEALED]), id="an answer of nothing"),
        pytest.param(
            lambda made: (made.queue_details([SEALED]), made.write("text", "a")), id="of text alone"
        ),
        pytest.param(
            lambda made: (made.queue_details([LABEL]), made.open_call(called(), "c1")),
            id="labels before a call",
        ),
        pytest.param(
            lambda made: (made.open_call(called(), "c1"), made.queue_details([LABEL])),
            id="labels after a call",
        ),
    ],
)
def test_data_that_needs_no_block(write):
    assert "thinking" not in [block["type"] for block in played(write)["content"]]


def test_each_call_is_signed_once():
    made = writer()
    call = called(signature="S")
    made.open_call(call, "c1")
    made.queue_signature(call)
    made.flush_pending()
    blocks = [line for line in screenplay(made.take()) if line.endswith("thinking")]
    assert blocks == ["0 thinking"]


def test_signatures_of_several_calls_have_separate_blocks():
    def write(made):
        made.open_call(called(signature="S1"), "c1")
        made.open_call(called(), "c2")
        made.open_call(called(signature="S3"), "c3")

    content = played(write)["content"]
    assert [block["type"] for block in content] == [
        *("thinking", "tool_use", "tool_use", "thinking", "tool_use")
    ]
    result = [carried(block) for block in content if block["type"] == "thinking"]
    assert result == [
        {"thought_signatures": {"c1": "S1"}},
        {"thought_signatures": {"c3": "S3"}},
    ]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("text"), st.text(max_size=4)),
        st.tuples(st.just("thinking"), st.text(max_size=4)),
        st.tuples(st.just("call"), st.sampled_from(["", "{}", '{"a":1}', "[", "x"])),
        st.tuples(st.just("sealed"), st.just("")),
    ),
    max_size=12,
)


@given(STEPS)
def test_any_steps_keep_the_grammar(steps):
    output = {"text": "", "thinking": ""}

    def write(made):
        for number, (kind, text) in enumerate(steps):
            if kind == "call":
                made.open_call(called(text, signature="S" if number % 2 else None), f"c{number}")
            elif kind == "sealed":
                made.queue_details([SEALED])
            else:
                output[kind] += text
                made.write(kind, text)

    content = played(write)["content"]
    calls = [block["id"] for block in content if block["type"] == "tool_use"]
    assert calls == [f"c{number}" for number, (kind, _) in enumerate(steps) if kind == "call"]
    for kind, whole in output.items():
        shown_text = "".join(block[kind] for block in content if block["type"] == kind)
        assert whole.startswith(shown_text)
        assert whole[len(shown_text) :].strip() == ""


def test_omitted_thinking_returns_in_the_signature_only():
    message = played(lambda made: made.write("thinking", "Hm"), omit_thinking=True)
    (block,) = message["content"]
    assert block["thinking"] == ""
    assert "Hm" in carried(block).values()


def test_hidden_thinking_carries_nothing():
    def write(made):
        made.carry("name", "value")
        made.queue_details([SEALED])
        made.write("text", "Hi")

    assert [block["type"] for block in played(write, hide_thinking=True)["content"]] == ["text"]
