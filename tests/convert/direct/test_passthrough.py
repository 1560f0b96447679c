"""Tests of the exchange in direct mode: changed and unchanged bytes, and the end of an answer."""

from __future__ import annotations

import json
from collections import deque

import pytest

from ccproxy.convert.direct.passthrough import Passthrough, WholeEvents
from ccproxy.errors import Problem
from tests.convert.contexts import rules
from tests.messages import prompt
from tests.traced import kept_by

START = b'event: message_start\ndata: {"type":"message_start","message":{"model":"up-big","x":1}}'
TEXT = b'event: content_block_delta\ndata: {"type":"content_block_delta","text":"\xc3\xa9 \\n"}'
DELTA = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":7,"input_tokens":0}}'
)
STOP = b'event: message_stop\ndata: {"type":"message_stop"}'
EVENTS = [START, b": ping", TEXT, DELTA, STOP]


def passthrough(body=None, **limits):
    data = body if isinstance(body, bytes) else json.dumps(body or prompt()).encode()
    return Passthrough(data, rules=rules(**limits), request_id="req_1")


def stream_of(events, ending=b"\n"):
    return b"".join(event.replace(b"\n", ending) + ending + ending for event in events)


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 11, 64, 10_000])
def test_a_stream_keeps_its_bytes_with_every_chunking(ending, size):
    data = stream_of(EVENTS, ending)
    request = passthrough()
    pieces = [request.feed(data[at : at + size]) for at in range(0, len(data), size)]
    assert b"".join([*pieces, request.close()]) == data.replace(b"up-big", b"claude-opus-4-1")
    assert request.stop_reason == "end_turn"
    assert request.usage == {"output_tokens": 7}


@pytest.mark.parametrize("size", [1, 7, 64])
def test_only_whole_events_are_passed_on(size):
    data = stream_of(EVENTS)
    request = passthrough()
    for at in range(0, len(data), size):
        written = request.feed(data[at : at + size])
        assert written == b"" or written.endswith(b"\n\n")


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(b": still here\n", id="comments without a blank line"),
        pytest.param(b"data: a\n\r", id="ends that only the decoder knows"),
        pytest.param(b"x", id="a line that never ends"),
    ],
)
def test_the_withheld_data_is_bounded(piece):
    events = WholeEvents(limit=100)
    with pytest.raises(Problem, match="more than 100 bytes"):
        deque(map(events.feed, [piece] * 101))


def test_the_memory_of_withheld_data_does_not_depend_on_reads():
    events = WholeEvents()
    pieces = [b"%d" % (10 + number % 90) for number in range(10_000)]
    assert kept_by(lambda: deque(map(events.feed, pieces), maxlen=0)) < 1.5 * 20_000
    assert events.rest() == b"".join(pieces)
    assert events.is_between


def test_the_limit_is_on_one_event():
    events = WholeEvents(limit=100)
    for _ in range(10):
        assert events.feed(b"data: " + b"x" * 40) == b""
        assert events.feed(b"x" * 40 + b"\n\nid") == b"data: " + b"x" * 80 + b"\n\n"
        assert events.feed(b": 1\n\n") == b"id: 1\n\n"


def test_a_byte_order_mark_in_the_middle_is_text():
    """A BOM changes the name of the data line, so the event does not end the answer."""
    for before in (TEXT, STOP.replace(b"message_stop", b"message_x")):
        request = passthrough()
        request.feed(before + b"\n\n")
        request.feed(b"\xef\xbb\xbf" + STOP.splitlines()[1] + b"\n\n")
        with pytest.raises(Problem, match="was cut off"):
            request.close()


def test_a_last_event_without_its_blank_line_is_passed_on():
    request = passthrough()
    written = request.feed(stream_of(EVENTS)[:-2])
    assert (written + request.close()).endswith(b'{"type":"message_stop"}')


@pytest.mark.parametrize("count", range(len(EVENTS) - 1))
def test_a_stream_without_a_stop_reason_has_not_ended(count):
    request = passthrough()
    request.feed(stream_of(EVENTS[:count]))
    with pytest.raises(Problem) as broken:
        request.close()
    event = request.fail(broken.value)
    assert event.startswith(b"event: error\ndata: {")
    assert json.loads(event.split(b"data: ")[1])["request_id"] == "req_1"


def test_a_stop_reason_is_an_end():
    """Claude Code does not need message_stop (measured), and some servers omit it."""
    request = passthrough()
    data = stream_of(EVENTS[:-1])
    assert request.feed(data) + request.close() == data.replace(b"up-big", b"claude-opus-4-1")


def test_an_error_event_is_an_end():
    request = passthrough()
    request.feed(b'event: error\ndata: {"type":"error","error":{"type":"api_error"}}\n\n')
    assert request.close() == b""


@pytest.mark.parametrize(
    ("expected", "durations"),
    [
        ('"input_tokens":7', {"input_tokens": 7}),
        ('"input_tokens":0', {}),
        ('"input_tokens":9007199254740992', {"input_tokens": 2**53}),
        ('"input_tokens":9007199254740993', {}),
        ('"input_tokens":9223372036854775808', {}),
        ('"input_tokens":-1', {}),
        ('"input_tokens":"12"', {}),
        ('"input_tokens":1.5', {}),
        ('"input_tokens":true', {}),
        ('"input_tokens":null', {}),
        ('"input_tokens":{"thinking_tokens":7}', {}),
        ('"output_tokens_details":7', {}),
        (
            '"output_tokens_details":{"thinking_tokens":7,"a_tokens":"7","b_tokens":1e99}',
            {"output_tokens_details": {"thinking_tokens": 7}},
        ),
        ('"output_tokens_details":{"thinking_tokens":{}}', {}),
        ('"service_tier":"standard"', {}),
    ],
)
def test_only_token_counts_are_usage(expected, durations):
    request = passthrough()
    usage = b'"usage":{%b}' % expected.encode()
    body = b'{"model":"up-big","stop_reason":"end_turn",%b}' % usage
    assert usage in request.whole(body)
    assert request.usage == durations


def test_received_output_is_estimated_until_the_provider_reports_usage():
    request = passthrough()
    request.feed(stream_of([START, TEXT.replace(b"\\n", b"a" * 4000)]))
    assert request.usage["output_tokens"] == pytest.approx(1000, rel=0.05)


def test_events_without_names_are_read():
    request = passthrough()
    data = b"".join(event.split(b"\n")[-1] + b"\n\n" for event in (START, TEXT, DELTA, STOP))
    assert request.feed(data) == data.replace(b"up-big", b"claude-opus-4-1")
    assert request.close() == b""


def test_text_that_looks_like_a_model_is_unchanged():
    talk = b'event: content_block_delta\ndata: {"type":"content_block_delta","model":"up-big"}'
    request = passthrough()
    written = request.feed(stream_of([START])) + request.feed(stream_of([talk]))
    assert written.endswith(talk + b"\n\n")


@pytest.mark.parametrize(
    ("limits", "goal", "outgoing"),
    [
        ({}, 50_000, 50_000),
        ({"most_tokens": 400}, 50_000, 400),
        ({"max_output": 8192}, 50_000, 8192),
        ({"max_output": 8192}, 0, 0),
        ({"least_tokens": 900}, 100, 900),
    ],
)
def test_max_tokens_is_lowered_to_the_possible_maximum(limits, goal, outgoing):
    body = json.dumps(prompt(max_tokens=goal)).encode()
    expected = body.replace(b"claude-opus-4-1", b"up-big").replace(
        b'"max_tokens": %d' % goal, b'"max_tokens": %d' % outgoing
    )
    assert passthrough(body, **limits).body == expected


def test_a_model_that_passes_is_unchanged_everywhere():
    body = json.dumps({**prompt(), "model": "up-small"}).encode()
    request = passthrough(body)
    assert request.body == body
    data = stream_of(EVENTS)
    assert request.feed(data) == data
    assert request.whole(b'{"model":"other"}') == b'{"model":"other"}'


ODD = rb"""{ "x" : 1E400 ,"model"  : "claude-opus-4-1","max_tokens":100, "n":-0.0,"n":1.50,
 "messages" :[ {"content":"\u00e9 \/ \"model\":\"up-big\" \u2028","role":"user","model":"m"}],
 "metadata":{"model":"claude-opus-4-1","max_tokens":100} }
"""


@pytest.mark.parametrize("max_output", [None, 64])
def test_unusual_json_keeps_every_other_byte(max_output):
    """The body has spaces, escapes, large numbers, repeated keys, and the same text in values."""
    expected = ODD.replace(b'"claude-opus-4-1"', b'"up-big"', 1)
    if max_output:
        expected = expected.replace(b"100", b"64", 1)
    assert passthrough(ODD, max_output=max_output).body == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (rb'{"model":"claude-opus-4-1"', rb'{"model":"up-big"'),
        (rb' { "model" : "claude-opus-4-1" ', rb' { "model" : "up-big" '),
        (rb'{"model":"claude\u002dopus-4-1"', rb'{"model":"up-big"'),
        (rb'{"x":"y","model":"claude-opus-4-1"', rb'{"x":"y","model":"up-big"'),
        (rb'{"model":"first","model":"claude-opus-4-1"', rb'{"model":"first","model":"up-big"'),
    ],
)
@pytest.mark.parametrize("end", [b"}", b',"stream":true}'])
def test_the_models_name_is_replaced_in_any_position(settings, expected, end):
    rest = b',"max_tokens":9,"messages":[{"role":"user","content":"claude-opus-4-1"}]' + end
    exchange = passthrough(settings + rest)
    assert exchange.body == expected + rest
    assert exchange.streams is (end != b"}")


@pytest.mark.parametrize(
    ("text", "outgoing"),
    [
        pytest.param(rb"a\ud83d", rb"a\ufffd", id="the first half"),
        pytest.param(rb"\ude00b", rb"\ufffdb", id="the second half"),
        pytest.param(rb"\ud83d\ude00", rb"\ud83d\ude00", id="a whole one stays"),
        pytest.param(rb"\\ud83d", rb"\\ud83d", id="an escaped backslash"),
    ],
)
def test_half_an_emoji_does_not_end_a_session(text, outgoing):
    body = b'{"model":"claude-opus-4-1","max_tokens":9,"messages":[{"content":"%b"}]}'
    expected = body.replace(b"claude-opus-4-1", b"up-big")
    assert passthrough(body % text).body == expected % outgoing


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"model":3}', b"\xff", b"[" * 100_000])
def test_an_invalid_request_is_a_problem(body):
    with pytest.raises(Problem) as refused:
        passthrough(body)
    assert refused.value.status == 400


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"[" * 100_000, b'{"usage":3}'])
def test_a_whole_answer_that_is_not_a_message_is_unchanged(body):
    assert passthrough().whole(body) == body


def test_the_names_of_counts_are_bounded():
    request = passthrough()
    request.feed(stream_of([START.replace(b'"x":1', b'"usage":{"input_tokens":5}')]))
    for event in range(200):
        counts = {f"{event}_{number}_tokens": 1 for number in range(100)}
        details = {f"{event}_{number}": counts for number in range(100)}
        usage = {**counts, **details, "x" * 100 + "_tokens": 1, "input_tokens": event + 1}
        delta = json.dumps({"type": "message_delta", "delta": {}, "usage": usage}).encode()
        request.feed(stream_of([b"data: " + delta]))
    assert len(json.dumps(request.usage)) < 100_000
    assert request.usage["input_tokens"] == 200


def test_an_event_of_four_mebibytes_is_passed_on():
    big = b'data: {"type":"content_block_delta","text":"' + b"x" * 2**22 + b'"}\n\n'
    request = passthrough()
    written = b"".join(request.feed(big[at : at + 4096]) for at in range(0, len(big), 4096))
    assert written == big


def test_the_conversation_is_read_from_the_request():
    outline = passthrough(prompt("Hi")).conversation()
    assert outline is not None
    assert [turn.role for turn in outline.messages] == ["user"]
