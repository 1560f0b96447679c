"""The checker of the stream grammar finds every fault and reports nothing else."""

from __future__ import annotations

import json

import pytest

from tests.grammar import assemble, check

USAGE = {"input_tokens": 1, "output_tokens": 2}
START = {
    "type": "message_start",
    "message": {"content": [], "stop_reason": None, "usage": {**USAGE}},
}
END = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn", "stop_sequence": None},
    "usage": USAGE,
}
STOP = {"type": "message_stop"}
ERROR = {"type": "error", "error": {"type": "api_error", "message": "no"}}


def opened(index, kind, **more):
    block = {"type": kind, **more}
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index, kind, value):
    field = "partial_json" if kind == "input_json" else kind
    what = {"type": f"{kind}_delta", field: value}
    return {"type": "content_block_delta", "index": index, "delta": what}


def closed(index):
    return {"type": "content_block_stop", "index": index}


TEXT = [opened(0, "text", text=""), delta(0, "text", "a"), closed(0)]
CALL = opened(0, "tool_use", id="c1", name="Read", input={})


def test_a_valid_stream_has_no_faults_and_assembles_to_a_message():
    events = [
        {"type": "ping"},
        START,
        opened(0, "thinking", thinking="", signature=""),
        delta(0, "thinking", "hm"),
        delta(0, "signature", "s"),
        closed(0),
        opened(1, "text", text=""),
        delta(1, "text", "a"),
        delta(1, "text", "b"),
        closed(1),
        {"type": "ping"},
        opened(2, "tool_use", id="c1", name="Read", input={}),
        delta(2, "input_json", '{"a"'),
        delta(2, "input_json", ":1}"),
        closed(2),
        END,
        STOP,
    ]
    assert check(events) == []
    assert assemble(events)["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "ab"},
        {"type": "tool_use", "id": "c1", "name": "Read", "input": {"a": 1}},
    ]


def test_bytes_are_read_with_their_names():
    raw = b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode())
        for event in (START, *TEXT, END, STOP)
    )
    assert assemble(raw)["content"] == [{"type": "text", "text": "a"}]
    assert check(raw.replace(b"event: message_stop", b"event: ping")) != []


def test_an_error_may_end_a_stream():
    assert check([START, opened(0, "text", text=""), ERROR]) == []


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        pytest.param([START, *TEXT, END], "ends in phase", id="no message_stop"),
        pytest.param([START, *TEXT, STOP], "without message_delta", id="no message_delta"),
        pytest.param([*TEXT, START, END, STOP], "phase start", id="a block before the start"),
        pytest.param([START, START, END, STOP], "second message_start", id="two starts"),
        pytest.param([START, END, END, STOP], "twice", id="two message_deltas"),
        pytest.param([START, END, STOP, STOP], "after the end", id="something after the end"),
        pytest.param([START, ERROR, END], "after the end", id="something after an error"),
        pytest.param([START, TEXT[0], TEXT[0]], "two blocks", id="two blocks open"),
        pytest.param([START, opened(1, "text", text="")], "instead of 0", id="an index left out"),
        pytest.param([START, *TEXT, TEXT[1]], "not open", id="a delta for a closed block"),
        pytest.param([START, TEXT[0], closed(1)], "not open", id="a stop for another block"),
        pytest.param([START, TEXT[0], closed(0)], "empty text", id="an empty text block"),
        pytest.param([START, CALL, delta(0, "text", "a")], "in a tool_use", id="a foreign delta"),
        pytest.param([START, TEXT[0], delta(0, "text", "")], "an empty", id="an empty delta"),
        pytest.param([START, TEXT[0], END, STOP], "too early", id="the end with a block open"),
        pytest.param([START, {"type": "what"}], "unknown event", id="an unknown event"),
        pytest.param(
            [START, opened(0, "thinking", thinking="", signature=""), closed(0)],
            "without a signature",
            id="thinking without a signature",
        ),
        pytest.param(
            [START, CALL, closed(0), {**CALL, "index": 1}], "known", id="an id used twice"
        ),
        pytest.param(
            [START, opened(0, "tool_use", id="a:1", name="R", input={})], "invalid", id="a bad id"
        ),
        pytest.param(
            [START, {**END, "delta": {"stop_reason": "stop_sequence", "stop_sequence": None}}],
            "do not agree",
            id="a stop sequence that is not named",
        ),
        pytest.param(
            [START, {**END, "delta": {"stop_reason": "stop", "stop_sequence": None}}],
            "unknown stop reason",
            id="a foreign stop reason",
        ),
        pytest.param(
            [START, {**END, "usage": {"input_tokens": None, "output_tokens": 1}}],
            "input_tokens is None",
            id="a count that is not a number",
        ),
    ],
)
def test_faults_are_found(events, fault):
    assert any(fault in result for result in check(events)), check(events)
