"""The relay converts the bytes of a Responses stream to bytes of a Messages stream."""

from __future__ import annotations

import json

import pytest

from ccproxy.convert.responses.answer import find_first_output, to_message
from ccproxy.convert.responses.relay import ResponsesRelay
from ccproxy.convert.responses.stream import ResponsesToMessageStream
from ccproxy.errors import Problem
from ccproxy.protocol.sse import Decoder
from tests.chat_answers import context
from tests.grammar import assemble, check, read
from tests.responses_answers import (
    call,
    event,
    events_of,
    failed,
    incomplete,
    message,
    reasoning,
    response,
    sse,
)

ANSWER = response(
    reasoning("Naïve 🙂 thoughts", encrypted="gAAA"),
    message("A line\u2028 and ☃ another\n\n", "second part"),
    call("Read", {"path": "ä.py"}),
)
STREAM = sse(events_of(ANSWER))
SIZES = [1, 2, 3, 7, 64, 1000, len(STREAM)]


def cut(data, size):
    return [data[start : start + size] for start in range(0, len(data), size)]


def relayed(reads, **settings):
    relay = ResponsesRelay(context(**settings))
    written = b"".join([*map(relay.feed, reads), relay.close()])
    assert check(written) == []
    return written


@pytest.mark.parametrize("size", SIZES)
def test_boundaries_of_reads_do_not_matter(size):
    assert read(relayed(cut(STREAM, size))) == read(relayed([STREAM]))


@pytest.mark.parametrize("size", SIZES)
def test_line_ends_do_not_matter(size):
    assert read(relayed(cut(STREAM.replace(b"\n", b"\r\n"), size))) == read(relayed([STREAM]))


ODD_TEXT = 'Say "}}\\n\\n" \\ "delta": "x"} \n\n event: \u2028 🙂 \x01 / end'


@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("padding", [{}, {"obfuscation": "a1b2"}])
@pytest.mark.parametrize("size", [1, 64, 1000, 100_000])
def test_the_fast_path_writes_the_same_as_the_state_machine(
    escaped, separators, named, padding, size
):
    """A stop sequence that never occurs disables the fast path."""
    stream = b""
    for answer in events_of(response(message(ODD_TEXT * 3), message(ODD_TEXT))):
        each = answer | (padding if answer["type"].endswith("text.delta") else {})
        data = json.dumps(each, ensure_ascii=escaped, separators=separators).encode()
        name = b"event: %b\n" % each["type"].encode() if named else b""
        stream += b"%bdata: %b\n\n" % (name, data)
    fast = relayed(cut(stream, size))
    assert read(fast) == read(relayed(cut(stream, size), stop_sequences=("\0never",)))
    assert assemble(fast)["content"][0]["text"] == ODD_TEXT * 3


def test_most_deltas_take_the_fast_path(monkeypatch):
    fed = []
    feed = ResponsesToMessageStream.feed

    def count(machine, event):
        fed.append(event.type)
        return feed(machine, event)

    monkeypatch.setattr(ResponsesToMessageStream, "feed", count)
    stream = sse(events_of(response(message("A long answer. " * 40), call("f", "[1]" * 200))))
    relayed(cut(stream, 700))
    for kind in ("response.output_text.delta", "response.function_call_arguments.delta"):
        assert fed.count(kind) <= 2 < stream.count(b"event: " + kind.encode())


def test_comments_names_ids_and_a_done_mark_do_not_matter():
    bare = b"".join(
        b": ping\nid: 7\ndata:%b\n\n" % json.dumps(each).encode() for each in events_of(ANSWER)
    )
    assert read(relayed([bare + b"data: [DONE]\n\n"])) == read(relayed([STREAM]))


def test_events_without_a_type_have_the_type_of_their_name():
    nameless = b""
    for each in events_of(ANSWER):
        kind = each.pop("type")
        nameless += b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps(each).encode())
    assert read(relayed([nameless])) == read(relayed([STREAM]))


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_json_body_is_accepted_instead_of_a_stream(size):
    body = json.dumps(ANSWER).encode()
    assert assemble(relayed(cut(body, size))) == assemble(relayed([STREAM]))


def test_a_stream_is_accepted_instead_of_a_body():
    assert to_message(STREAM, context()) == to_message(json.dumps(ANSWER).encode(), context())


def test_nothing_is_read_after_the_final_event():
    relay = ResponsesRelay(context())
    written = relay.feed(STREAM + b"data: {broken")
    assert relay.ended
    assert check(written + relay.close()) == []


@pytest.mark.parametrize("end", range(len(STREAM) - 40, 40, -311))
def test_a_cut_stream_is_an_error_and_never_an_end(end):
    relay = ResponsesRelay(context())
    written = relay.feed(STREAM[:end])
    with pytest.raises(Problem) as raised:
        relay.close()
    assert raised.value.kind == "api_error"
    assert b"stop_reason" not in written.replace(b'"stop_reason":null', b"")
    assert relay.fail(raised.value).startswith(b"event: error\n")


# Errors.

OVERLOADED = {"type": "service_unavailable_error", "code": "server_is_overloaded"}


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(
            event("error", error={**OVERLOADED, "message": "Servers are overloaded."}), id="nested"
        ),
        pytest.param(
            event("error", code="server_is_overloaded", message="Servers are overloaded."),
            id="flat",
        ),
        pytest.param(
            event(
                "response.failed",
                response=failed("server_is_overloaded", "Servers are overloaded."),
            ),
            id="a failed response",
        ),
    ],
)
def test_an_error_event_is_the_error_that_it_means(error):
    relay = ResponsesRelay(context())
    started = relay.feed(sse(events_of(response(message("Half a")))[:5]) + sse([error]))
    assert b"text_delta" in started, "what came before the error is sent first"
    with pytest.raises(Problem) as raised:
        relay.feed(b"")
    assert raised.value.kind == "overloaded_error"
    assert "Servers are overloaded." in raised.value.message
    assert b"overloaded_error" in relay.fail(raised.value)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("rate_limit_exceeded", "rate_limit_error"),
        ("insufficient_quota", "billing_error"),
        ("credit_balance_exhausted", "billing_error"),
        ("project_spend_limit_exceeded", "billing_error"),
        ("usage_not_included", "billing_error"),
        ("slow_down", "overloaded_error"),
        ("server_is_overloaded", "overloaded_error"),
        ("invalid_prompt", "invalid_request_error"),
        ("cyber_policy", "invalid_request_error"),
        ("misalignment_policy_violation", "invalid_request_error"),
        ("image_content_policy_violation", "invalid_request_error"),
        ("invalid_encrypted_content", "invalid_request_error"),
        ("context_length_exceeded", "invalid_request_error"),
        ("server_error", "api_error"),
    ],
)
def test_a_failed_response_is_an_error_of_its_kind(code, kind):
    with pytest.raises(Problem) as raised:
        to_message(json.dumps(failed(code, "It failed.")).encode(), context())
    assert raised.value.kind == kind


def test_a_failed_response_without_a_reason_is_an_error():
    body = json.dumps({**failed("x", "y"), "error": None}).encode()
    with pytest.raises(Problem, match="without a reason"):
        to_message(body, context())


@pytest.mark.parametrize("body", [b"{}", b'{"hello": 1}', b'{"output": 3}', b"[1]"])
def test_an_invalid_response_is_an_error(body):
    with pytest.raises(Problem):
        to_message(body, context())


# The beginning of a stream.


def test_the_announcement_of_an_answer_is_not_output():
    """Errors may follow it, so the client's status line is delayed."""
    events = Decoder().feed(STREAM)
    assert find_first_output(events[:2]) == (False, None)
    assert find_first_output(events) == (True, None)


def test_an_error_after_the_announcement_is_found():
    error = event("error", error={**OVERLOADED, "message": "m"})
    begun, body = find_first_output(Decoder().feed(sse([*events_of(ANSWER)[:2], error])))
    assert begun
    assert body
    assert json.loads(body)["error"]["code"] == "server_is_overloaded"


def test_a_cut_call_is_never_shown():
    whole = incomplete(message("Go"), call("Bash", '{"command": "rm -', status="incomplete"))
    written = relayed(cut(sse(events_of(whole)), 13))
    assert b"tool_use" not in written
    assert b"rm -" not in written


def test_a_done_mark_without_a_final_event_is_not_an_end():
    relay = ResponsesRelay(context())
    relay.feed(sse(events_of(ANSWER)[:-1]) + b"data: [DONE]\n\n")
    with pytest.raises(Problem):
        relay.close()


def test_events_after_the_end_are_not_read():
    assert read(relayed([STREAM + STREAM])) == read(relayed([STREAM]))
    other_line_ends = (STREAM + STREAM).replace(b"\n", b"\r\n")
    assert read(relayed([other_line_ends])) == read(relayed([STREAM]))


def test_deltas_that_never_match_are_converted_one_by_one():
    def events():
        yield event("response.output_item.added", output_index=0, item=message())
        for number in range(40):
            position = {"output_index": 0, "content_index": 0, f"extra{number}": number}
            yield event("response.output_text.delta", delta=f"{number} ", **position)
        yield event("response.completed", response=response())

    content = assemble(relayed([sse(events())]))["content"]
    assert content[0]["text"] == "".join(f"{number} " for number in range(40))


def test_a_long_delta_creates_no_pattern():
    """The events after it are still read."""
    assert assemble(relayed([sse(long_deltas())]))["content"][0]["text"] == "x" * 3000 + "yz"


def long_deltas():
    position = {"output_index": 0, "content_index": 0}
    yield event("response.output_item.added", output_index=0, item=message())
    for delta in ("x" * 3000, "y", "z"):
        yield event("response.output_text.delta", delta=delta, **position)
    yield event("response.completed", response=response())


def test_removed_reasoning_is_reported_by_the_relay():
    relay = ResponsesRelay(context())
    removed = [{"type": "reasoning_removed"}]
    relay.feed(sse(events_of({**ANSWER, "input_transformations": removed})))
    assert relay.removed_reasoning == removed


def test_a_stream_in_place_of_a_body_may_end_with_a_done_mark_or_an_error():
    body = STREAM + b"data: [DONE]\n\ndata: {broken\n\n"
    assert to_message(body, context()) == to_message(STREAM, context())
    error = b'event: error\ndata: {"type":"error","code":"server_error","message":"no"}\n\n'
    with pytest.raises(Problem):
        to_message(error, context())


def test_a_done_mark_is_not_output():
    assert find_first_output(Decoder().feed(b"data: [DONE]\n\n")) == (False, None)


@pytest.mark.parametrize(
    "delta",
    [
        pytest.param('"\\ud83d"', id="half a character"),
        pytest.param('""', id="an empty text"),
        pytest.param('"\\q"', id="no JSON string"),
        pytest.param('"a","delta":"b"', id="two deltas"),
        pytest.param('"' + "x" * 3000 + '"', id="a long one"),
    ],
)
def test_deltas_that_the_fast_path_does_not_handle(delta):
    """The state machine handles them, with and without a pattern."""
    usual = event("response.output_text.delta", output_index=0, content_index=0, delta="@")
    odd = json.dumps(usual).replace('"@"', delta).encode()
    begin = sse([event("response.output_item.added", output_index=0, item=message())])
    plain = [sse([usual]), sse([usual]), b"data: " + odd + b"\n\n", sse([usual])]
    end = sse([event("response.completed", response=response())])
    assert outcome([begin, *plain, end]) == outcome([begin, *plain, end], stop_sequences=("\0",))


def outcome(reads, **settings):
    try:
        return read(relayed(reads, **settings))
    except Problem as problem:
        return str(problem)
