"""Tests of chunk templates: their output equals that of the state machine."""

from __future__ import annotations

import json

import pytest

from ccproxy.convert.chat.chunk_template import learn, sole_text
from ccproxy.protocol.chat import decode
from tests.chat_answers import call, end, parsed, say

EVENT = {
    "type": "content_block_delta",
    "index": 3,
    "delta": {"type": "text_delta", "text": "abc"},
}


def framed(chunk):
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def template_of(chunk, event=EVENT, read=None):
    data = json.dumps(chunk).encode()
    return learn(parsed(chunk), data, framed(chunk) if read is None else read, event)


def spliced(chunk, others, **more):
    texts = []
    events, at = template_of(chunk, **more).splice(others, 0, texts)
    return events, at, texts


def ours(text):
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":3,'
        b'"delta":{"type":"text_delta","text":%b}}\n\n' % json.dumps(text).encode()
    )


def test_chunks_of_the_same_form_are_copied():
    read = framed(say("x")) + framed(say('"y"')) + framed(say("é\\"))
    events, at, texts = spliced(say("abc"), read)
    assert events == ours("x") + ours('"y"') + ours("é\\")
    assert (at, texts) == (len(read), ["x", '"y"', "é\\"])


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(framed(end()), id="another chunk"),
        pytest.param(framed(say("b", role="assistant")), id="one more field"),
        pytest.param(framed(say("")), id="an empty text"),
        pytest.param(framed(say("b")).replace(b'"b"', b"null"), id="null"),
        pytest.param(framed(say("b"))[:-1], id="half an event"),
        pytest.param(framed(say("b"))[:40], id="half a line"),
        pytest.param(framed(say("b")).replace(b'"b"', b'"b" "c"'), id="two strings"),
        pytest.param(framed(say("b")).replace(b'"b"', b'"b\x01"'), id="a control character"),
        pytest.param(framed(say("b")).replace(b'"b"', b'"b\n"'), id="a line end"),
        pytest.param(framed(say("b")).replace(b'"b"', b'"b\xff"'), id="no UTF-8"),
        pytest.param(framed(say("b")).replace(b'"b"', rb'"b\x"'), id="a wrong escape"),
        pytest.param(framed(say("b")).replace(b'"b"', rb'"\ud83d"'), id="half a pair"),
        pytest.param(framed(say("b")).replace(b'"b"', rb'"b\"'), id="a string that does not end"),
        pytest.param(framed(say("b")).replace(b'"b"', b"5"), id="a number"),
        pytest.param(framed(say("b")).replace(b'"b"', b'\n"b"'), id="a line end before the string"),
        pytest.param(framed(say("b")).replace(b'"b"', b'\r"b"'), id="a CR before the string"),
        pytest.param(framed(say("b")).replace(b'"b"', b'"b"\n'), id="a line end after the string"),
        pytest.param(b": comment\n\n", id="a comment"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_it_stops_at_the_first_event_that_does_not_match(rest):
    first = framed(say("a"))
    assert spliced(say("abc"), first + rest) == (ours("a"), len(first), ["a"])
    assert spliced(say("abc"), rest) == (b"", 0, [])


@pytest.mark.parametrize(
    ("field", "kind"),
    [("content", "text"), ("reasoning_content", "thinking"), ("reasoning", "thinking")],
)
def test_text_fields(field, kind):
    event = EVENT | {"delta": {"type": f"{kind}_delta", kind: "abc"}}
    chunk = say(**{field: "abc"})
    events, _, texts = spliced(chunk, framed(say(**{field: "x"})), event=event)
    assert json.loads(events.split(b"data: ")[1])["delta"] == {"type": f"{kind}_delta", kind: "x"}
    assert texts == ["x"]


def test_arguments():
    event = EVENT | {"delta": {"type": "input_json_delta", "partial_json": "abc"}}
    events, _, _ = spliced(call("abc", index=0), framed(call('"x', index=0)), event=event)
    assert json.loads(events.split(b"data: ")[1])["delta"]["partial_json"] == '"x'


@pytest.mark.parametrize(
    ("opening", "closing"), [(b"data: ", b"\n\n"), (b"data:", b"\n\n"), (b"data: ", b"\r\n\r\n")]
)
def test_frames(opening, closing):
    def wrap(text):
        return opening + json.dumps(say(text)).encode() + closing

    events, at, _ = spliced(say("abc"), wrap("x") * 2, read=wrap("abc"))
    assert (events, at) == (ours("x") * 2, 2 * len(wrap("x")))
    template = template_of(say("abc"), read=wrap("abc"))
    assert template.framed(json.dumps(say("y")).encode()) == wrap("y")


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param(say("abcd"), id="another text than that of the event"),
        pytest.param(say("abc", reasoning="r"), id="text and reasoning"),
        pytest.param(say("abc", reasoning_details=[{}]), id="details"),
        pytest.param(say("abc", refusal="r"), id="a refusal"),
        pytest.param(say("abc", function_call={}), id="a call"),
        pytest.param(say([{"text": "abc"}]), id="parts"),
        pytest.param({**say("abc"), "choices": say("abc")["choices"] * 2}, id="two choices"),
        pytest.param({"choices": [{"delta": None}]}, id="no delta"),
        pytest.param(end("stop", delta={"content": "abc"}), id="the end"),
        pytest.param(say("abc") | {"x": {"content": "abc"}}, id="the same text elsewhere"),
        pytest.param(say("abc", other={"content": "abc"}), id="the same text in the delta"),
        pytest.param(say("abc") | {"x": "y" * 5000}, id="a large chunk"),
    ],
)
def test_nothing_is_learned_from_other_chunks(chunk):
    assert template_of(chunk) is None


@pytest.mark.parametrize(
    "more",
    [{"id": "c"}, {"name": "Read"}, {"extra_content": {"a": 1}}],
    ids=["an id", "a name", "metadata"],
)
def test_nothing_is_learned_from_the_head_of_a_call(more):
    event = EVENT | {"delta": {"type": "input_json_delta", "partial_json": "abc"}}
    assert template_of(call("abc", index=0, **more), event) is None


def test_nothing_is_learned_from_a_signature():
    event = EVENT | {"delta": {"type": "signature_delta", "signature": "abc"}}
    assert template_of(say("abc"), event) is None


@pytest.mark.parametrize(
    ("literal", "repaired"),
    [
        pytest.param(rb'"x\ud83d"', "x\ufffd", id="half a surrogate pair"),
        pytest.param(b'"x\xff"', "x\ufffd", id="a byte that is not UTF-8"),
        pytest.param(b'"a\tb"', "a\tb", id="a raw control character"),
    ],
)
def test_nothing_is_learned_from_a_repaired_text(literal, repaired):
    data = json.dumps(say("abc")).encode().replace(b'"abc"', literal)
    event = EVENT | {"delta": {"type": "text_delta", "text": repaired}}
    assert sole_text(decode(data)) == ("content", repaired)
    assert learn(decode(data), data, framed(say("abc")), event) is None


def test_a_decoy_is_detected():
    # The real field is written with an escape, so that only the decoy is found.
    data = b'{"content":"abc","choices":[{"delta":{"cont\\u0065nt":"abc"}}]}'
    assert sole_text(decode(data)) == ("content", "abc")
    assert learn(decode(data), data, data, EVENT) is None


def test_a_decoy_is_not_used_as_the_text():
    # The event's text comes from a part; another field has the same value by chance.
    chunk = {"content": "abc", "choices": [{"delta": {"content": "abc"}}]}
    assert template_of(chunk) is None


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        pytest.param(say("a"), ("content", "a"), id="text"),
        pytest.param(say("", reasoning="a"), ("reasoning", "a"), id="next to an empty one"),
        pytest.param(call("a", index=0), ("arguments", "a"), id="arguments"),
        pytest.param(say(""), None, id="nothing"),
        pytest.param(call({"a": 1}, index=0), None, id="an object"),
        pytest.param({"choices": []}, None, id="no choice"),
        pytest.param(say(tool_calls=[{}]), None, id="an empty call"),
    ],
)
def test_sole_text(chunk, expected):
    assert sole_text(parsed(chunk)) == expected
