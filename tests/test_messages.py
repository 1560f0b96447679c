"""The checker of the stream grammar accepts valid streams and rejects invalid ones."""

from __future__ import annotations

import json

import pytest

from tests.messages import read_answer, read_stream

USAGE = {"input_tokens": 1, "output_tokens": 1}
START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "usage": USAGE,
    },
}
PING = {"type": "ping"}
END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE}
STOP = {"type": "message_stop"}
ERROR = {"type": "error", "error": {"type": "api_error", "message": "broken"}}
TEXT = {"type": "text", "text": ""}
THINKING = {"type": "thinking", "thinking": "", "signature": ""}
HI = {"type": "text_delta", "text": "hi"}


def tool(identity="call_1"):
    return {"type": "tool_use", "id": identity, "name": "Bash", "input": {}}


def opened(block, index=0):
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(content, index=0):
    return {"type": "content_block_delta", "index": index, "delta": content}


def arguments(text, index=0):
    return delta({"type": "input_json_delta", "partial_json": text}, index)


def closed(index=0):
    return {"type": "content_block_stop", "index": index}


def wire(*events):
    lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
    return "".join(lines).encode()


def test_a_valid_stream_is_assembled():
    stream = read_stream(
        wire(
            PING,
            START,
            opened(THINKING),
            delta({"type": "thinking_delta", "thinking": "hm"}),
            delta({"type": "signature_delta", "signature": "c2ln"}),
            closed(),
            opened(TEXT, 1),
            delta(HI, 1),
            PING,
            closed(1),
            opened(tool(), 2),
            arguments('{"command":', 2),
            arguments('"ls"}', 2),
            closed(2),
            END,
            STOP,
        )
    )
    assert stream.message is not None
    assert stream.message["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "text", "text": "hi"},
        {"type": "tool_use", "id": "call_1", "name": "Bash", "input": {"command": "ls"}},
    ]


@pytest.mark.parametrize("before", [[], [START], [START, opened(TEXT), delta(HI)]])
def test_an_error_may_end_a_stream_anywhere(before):
    assert read_stream(wire(*before, ERROR)).error == ERROR["error"]


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([], id="nothing at all"),
        pytest.param([START, END], id="no message_stop"),
        pytest.param([START, STOP], id="no message_delta"),
        pytest.param([END, STOP], id="no message_start"),
        pytest.param([START, START, END, STOP], id="two starts"),
        pytest.param([START, END, END, STOP], id="two message_deltas"),
        pytest.param([START, END, STOP, STOP], id="something after the end"),
        pytest.param([START, ERROR, STOP], id="something after an error"),
        pytest.param([START, opened(TEXT), END, STOP], id="a block left open"),
        pytest.param([START, opened(TEXT), opened(tool(), 1)], id="two blocks open"),
        pytest.param([START, opened(TEXT, 1), closed(1), END, STOP], id="index not from 0"),
        pytest.param([START, opened(TEXT), delta(HI, 1)], id="delta for another block"),
        pytest.param([START, delta(HI)], id="delta without a block"),
        pytest.param([START, opened(TEXT), arguments("{}")], id="delta of the wrong kind"),
        pytest.param([START, opened(tool()), arguments("{"), closed()], id="arguments cut short"),
        pytest.param([START, opened(tool()), arguments("[]"), closed()], id="arguments no object"),
        pytest.param([START, opened(tool("a b")), closed(), END, STOP], id="a blank in an id"),
        pytest.param(
            [START, opened(tool()), closed(), opened(tool(), 1), closed(1), END, STOP],
            id="two tools with one id",
        ),
        pytest.param(
            [START, {**END, "delta": {"stop_reason": "length"}}, STOP], id="unknown stop reason"
        ),
        pytest.param(
            [{**START, "message": {**START["message"], "usage": {}}}, END, STOP], id="no usage"
        ),
        pytest.param([{**ERROR, "error": {"type": "made_up", "message": "x"}}], id="unknown error"),
        pytest.param([START, {"type": "made_up"}], id="unknown event"),
    ],
)
def test_an_invalid_stream_fails(events):
    with pytest.raises((AssertionError, LookupError, ValueError)):
        read_stream(wire(*events))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(wire(START, END, STOP)[:-1], id="the last event is not closed"),
        pytest.param(wire(START, END, STOP).replace(b"event: m", b"event: M"), id="wrong name"),
        pytest.param(wire(START, END, STOP) + b"data: [DONE]\n\n", id="chat's end"),
    ],
)
def test_invalid_bytes_fail(data):
    with pytest.raises((AssertionError, ValueError)):
        read_stream(data)


def test_a_whole_message_is_validated():
    message = {**START["message"], "content": [{"type": "text", "text": "x"}]}
    right = {**message, "stop_reason": "end_turn"}
    assert read_answer(200, {}, json.dumps(right).encode()).text == "x"
    with pytest.raises(AssertionError):
        read_answer(200, {}, json.dumps(message).encode())
