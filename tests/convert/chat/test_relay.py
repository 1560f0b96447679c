"""Tests of the relay: the same bytes at every chunking, with and without templates."""

from __future__ import annotations

import itertools
import json
from codecs import BOM_UTF8

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy.convert.chat import chunk_template as template
from ccproxy.convert.chat.answer import fold
from ccproxy.convert.chat.relay import ChatRelay
from ccproxy.errors import Problem
from ccproxy.protocol import sse as server_events
from tests.chat_answers import USAGE, call, context, end, say, sse, whole
from tests.grammar import assemble, check, read

CALL = {"index": 0, "id": "call_a", "name": "Read"}
RECORDED = {
    "text": sse(
        [say("", role="assistant"), *map(say, ["Hel", "lo", " ", "wörld 😀", '"\\\n']), end()]
    ),
    "reasoning": sse(
        [say(None, reasoning_content=text) for text in ("", "Let ", "me ", "think")]
        + [say(text, reasoning_content=None) for text in ("a", "b", "c")]
        + [end(usage=USAGE)]
    ),
    "call": sse(
        [call("", **CALL)]
        + [call(text, index=0) for text in ('{"path"', ': "', "a/", "b/", 'c"', "}")]
        + [end("tool_calls"), {"choices": [], "usage": USAGE}]
    ),
    "interleaved calls": sse(
        [call('{"a":', **CALL), call('{"b":', index=1, id="b:1", name="Grep")]
        + [call(text, index=index) for text in ("[1,", "2]", "}") for index in (0, 1)]
        + [say("done"), end("tool_calls", usage=USAGE)]
    ),
    "calls without index": sse(
        [
            call('{"a":1}', id="a", name="R", extra_content={"google": {"thought_signature": "S"}}),
            call('{"a":2}', id="b", name="R"),
            end(),
        ]
    ),
    "tags": sse([say("<th"), say("ink>a"), say("</think>\n\n"), say("b"), say("c"), end()]),
    "details": sse(
        [
            *[say("", reasoning=t, reasoning_details=[{"type": "r", "text": t}]) for t in "abc"],
            say("T"),
            end(),
        ]
    ),
    "escapes": sse([say(text) for text in ("a\\", '"', "\u2028", "\x01", "\\n", "日本")] + [end()]),
    "comments": b": OPENROUTER PROCESSING\n\n" + sse([say("a"), say("b")], done=False)
    + b": again\n\nid: 1\nevent: x\n" + sse([say("c"), end()]),
    "CRLF": sse([say("a"), say("b"), say("c"), end()]).replace(b"\n", b"\r\n"),
    "no blanks": sse([say("a"), say("b"), say("c"), end()]).replace(b"data: ", b"data:"),
    "no [DONE]": sse([say("a"), say("b"), end()], done=False)[:-1],
    "no finish_reason": sse([say("a"), say("b")]),
    "each chunk is different": sse(
        [say("abc"[n % 3]) | {"obfuscation": "x" * n} for n in range(40)] + [end()]
    ),
    "usage in every chunk": sse(
        [say("a") | {"usage": {"prompt_tokens": 3, "completion_tokens": n}} for n in range(9)]
        + [end()]
    ),
    "a JSON body": json.dumps(whole("<think>a</think>b")).encode(),
}  # fmt: skip


def relay(pieces, **settings):
    """Relay the pieces like the worker."""
    answer, out = ChatRelay(context(**settings)), b""
    try:
        for piece in pieces:
            out += answer.feed(piece)
            if answer.ended:
                break
        return out + answer.close()
    except Problem as problem:
        return out + answer.fail(problem)


def cut(raw, size):
    return [raw[at : at + size] for at in range(0, len(raw), size)]


def by_event(raw):
    return [event + b"\n\n" for event in raw.split(b"\n\n")]


@pytest.mark.parametrize("raw", RECORDED.values(), ids=RECORDED)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_every_size_gives_the_same_message(raw, size):
    message = assemble(relay([raw]))
    assert assemble(relay(cut(raw, size))) == message
    assert assemble(relay(by_event(raw))) == message
    assert message["stop_reason"] in ("end_turn", "tool_use")


@pytest.mark.parametrize("name", ["text", "reasoning", "call", "tags", "escapes"])
def test_copied_and_converted_chunks_agree(name, monkeypatch):
    short = relay(by_event(RECORDED[name]))
    monkeypatch.setattr(template, "learn", lambda *_: None)
    long = relay(by_event(RECORDED[name]))
    assert read(short) == read(long)


@settings(deadline=None)
@given(
    st.sampled_from(sorted(RECORDED)),
    st.lists(st.integers(0, 3000), max_size=8),
    st.sampled_from([(), ("lo ",), ("b",)]),
)
def test_any_chunking_gives_the_same_message(name, cuts, stops):
    raw = RECORDED[name]
    places = [0, *sorted(cuts), len(raw)]
    pieces = [raw[begin:end] for begin, end in itertools.pairwise(places)]
    message = assemble(relay([raw], stop_sequences=stops))
    assert assemble(relay(pieces, stop_sequences=stops)) == message


@settings(deadline=None)
@given(
    st.lists(st.text(max_size=6), max_size=12),
    st.sampled_from(["content", "reasoning_content", "reasoning"]),
    st.booleans(),
)
def test_any_text_arrives_unchanged(texts, field, is_ascii):
    chunks = [say(**{field: text}) for text in texts]
    lines = [json.dumps(chunk, ensure_ascii=is_ascii) for chunk in [*chunks, end()]]
    raw = sse(lines)
    for pieces in ([raw], by_event(raw)):
        message = assemble(relay(pieces, quirks={"think_tags": False}))
        output = "".join(block.get("text", block.get("thinking")) for block in message["content"])
        assert output == ("".join(texts) if "".join(texts).strip() else "")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20) | JSON.map(lambda value: json.dumps(value).encode())))
def test_arbitrary_bytes_are_a_stream_or_an_error(lines):
    raw = b"".join(b"data: %b\n\n" % line for line in lines)
    assert check(relay([raw])) == []


def test_the_sdk_reads_the_same_message():
    for raw in RECORDED.values():
        snapshot, buffers = None, {}
        events = [event for _, event in read(relay([raw])) if event["type"] != "ping"]
        for event in events:
            snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
        ours = fold(events)
        theirs = snapshot.to_dict()
        assert [block["type"] for block in theirs["content"]] == [
            block["type"] for block in ours["content"]
        ]
        for mine, other in zip(ours["content"], theirs["content"], strict=True):
            assert mine.items() <= other.items()
        assert theirs["stop_reason"] == ours["stop_reason"]
        assert theirs["usage"]["input_tokens"] == ours["usage"]["input_tokens"]


# Events are written as soon as they arrive.


def test_each_read_is_answered():
    answer = ChatRelay(context())
    first = answer.feed(sse([say("a")], done=False))
    assert [name for name, _ in read(first)] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
    ]
    assert [name for name, _ in read(answer.feed(sse([say("b")], done=False)))] == [
        "content_block_delta"
    ]
    assert answer.feed(b": comment\n\n") == b""
    assert answer.feed(b"") == b""
    assert [name for name, _ in read(answer.feed(sse([end()])))] == [
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert answer.ended
    assert answer.close() == b""
    assert answer.feed(sse([say("late")])) == b""


def test_usage_is_known_at_the_end():
    answer = ChatRelay(context())
    answer.feed(sse([say("a"), end(usage=USAGE)]))
    assert answer.usage["output_tokens"] == 7


def test_a_stop_sequence_ends_the_answer():
    answer = ChatRelay(context(stop_sequences=("END",)))
    out = answer.feed(sse([say("a EN"), say("D b"), say("c")], done=False))
    assert answer.stopped
    assert answer.ended
    assert assemble(out + answer.close())["stop_sequence"] == "END"


# Errors.


@pytest.mark.parametrize(
    ("pieces", "kind", "words"),
    [
        pytest.param([], "api_error", "empty", id="an empty stream"),
        pytest.param([b"data: [DONE]\n\n"], "api_error", "empty", id="nothing but [DONE]"),
        pytest.param([b"data: oops\n\n"], "api_error", "oops", id="data that is not JSON"),
        pytest.param(
            [sse([{"error": {"message": "Provider disconnected", "code": 502}}])],
            "api_error",
            "Provider disconnected",
            id="an error as first event",
        ),
        pytest.param(
            [b'event: error\ndata: {"error":{"message":"Rate limit exceeded","code":429}}\n\n'],
            "rate_limit_error",
            "Rate limit exceeded",
            id="a named error event (LM Studio)",
        ),
        pytest.param(
            [b'event: error\ndata: {"what":"no idea"}\n\n'], "api_error", "no idea", id="unknown"
        ),
        pytest.param(
            [b'{"error":{"message":"Rate', b' limit exceeded","code":429}}'],
            "rate_limit_error",
            "Rate limit",
            id="a JSON body",
        ),
        pytest.param(
            [b'data: [{"error":{"code":429,"message":"Rate limit exceeded"}}]\n\n'],
            "rate_limit_error",
            "Rate limit",
            id="an error in a list (Gemini)",
        ),
        pytest.param([b"[1]"], "api_error", "is not valid", id="a JSON body that is not an answer"),
    ],
)  # fmt: skip
def test_errors_instead_of_an_answer(pieces, kind, words):
    answer = ChatRelay(context())
    with pytest.raises(Problem, match=words) as caught:
        list(map(answer.feed, pieces)).append(answer.close())
    assert caught.value.kind == kind
    assert read(answer.fail(caught.value))[0][1]["error"]["type"] == kind


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        pytest.param([say("partial")], "was cut off", id="a cut"),
        pytest.param([call('{"pa', **CALL)], "was cut off", id="a cut within a call"),
        pytest.param([say("a"), "oops"], "oops", id="data that is not JSON"),
        pytest.param([say("a"), end("error")], "aborted", id="a failure"),
        pytest.param(
            [say("a"), {"error": {"message": "Rate limit exceeded", "code": 429}}],
            "Rate limit",
            id="an error event",
        ),
    ],
)
def test_errors_after_the_beginning(chunks, words):
    for pieces in ([sse(chunks, done=False)], by_event(sse(chunks, done=False))):
        out = relay(pieces)
        assert check(out) == []
        names = [name for name, _ in read(out)]
        assert names[0] == "message_start"
        assert names[-1] == "error"
        assert words in read(out)[-1][1]["error"]["message"]


def test_output_before_an_error_is_preserved():
    answer = ChatRelay(context())
    out = answer.feed(sse([say("a"), "oops"], done=False))
    assert b'"text":"a"' in out
    assert answer.ended
    with pytest.raises(Problem):
        answer.feed(b"more")
    with pytest.raises(Problem) as caught:
        answer.close()
    assert check(out + answer.fail(caught.value)) == []


def test_failing_a_complete_answer_ends_it():
    answer = ChatRelay(context())
    out = answer.feed(sse([say("a"), end()], done=False))
    out += answer.fail(Problem("api_error", "cut"))
    assert assemble(out)["stop_reason"] == "end_turn"
    assert answer.fail(Problem("api_error", "cut")) == b""


def test_failing_a_complete_answer_that_cannot_end():
    answer = ChatRelay(context())
    answer.feed(sse([call('{"a":1}', index=0, id="c"), end()], done=False))
    assert read(answer.fail(Problem("api_error", "cut")))[0][0] == "error"


@pytest.mark.parametrize(
    ("literal", "repaired"),
    [
        pytest.param(rb'"x\ud83d"', "x\ufffd", id="half a surrogate pair"),
        pytest.param(b'"x\xff"', "x\ufffd", id="a byte that is not UTF-8"),
        pytest.param(b'"a\tb"', "a\tb", id="a raw control character"),
    ],
)
@pytest.mark.parametrize("first", [0, 1, 3])
def test_invalid_text_is_repaired(literal, repaired, first):
    chunks = [say("a")] * first + [say("BROKEN"), say("BROKEN"), say("z"), end()]
    raw = sse(chunks).replace(b'"BROKEN"', literal)
    for pieces in ([raw], by_event(raw)):
        (block,) = assemble(relay(pieces))["content"]
        assert block["text"] == "a" * first + repaired * 2 + "z"


@pytest.mark.parametrize("end_of_line", [b"\n", b"\r", b"\r\n"])
def test_a_line_end_within_a_chunk_is_not_copied(end_of_line):
    broken = json.dumps(say("BROKEN")).encode().replace(b'"BROKEN"', end_of_line + b'data:"c"')
    raw = sse([say("a"), say("b")], done=False) + b"data: %b\n\n" % broken + sse([say("d"), end()])
    for pieces in ([raw], by_event(raw)):
        assert assemble(relay(pieces))["content"] == [{"type": "text", "text": "abcd"}]


def test_half_a_chunk_is_not_copied():
    broken = json.dumps(say("BROKEN")).encode().replace(b'"BROKEN"', b'\n"c"')
    raw = sse([say("a"), say("b")], done=False) + b"data: %b\n\n" % broken
    out = relay([raw])
    assert check(out) == []
    assert read(out)[-1][0] == "error"


def test_nothing_after_done_is_read():
    raw = sse([say("a"), end()]) + sse([say("b")])
    for piece in (raw, raw.replace(b"\n", b"\r\n")):
        assert assemble(relay([piece]))["content"] == [{"type": "text", "text": "a"}]


def test_a_named_event_is_never_copied():
    pieces = by_event(sse([say("a"), say("b")], done=False))
    pieces.append(b"event: error\n" + pieces[1])
    assert read(relay(pieces))[-1][0] == "error"


def test_incomplete_data_after_the_end_is_ignored():
    raw = sse([say("a"), end()], done=False) + b'data: {"choi'
    assert assemble(relay([raw]))["stop_reason"] == "end_turn"
    raw = sse([say("a")], done=False) + b'data: {"choi'
    assert read(relay([raw]))[-1][0] == "error"


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param({"error": {"message": "boom", "code": 500}}, id="an error"),
        pytest.param("oops", id="not JSON"),
    ],
)
def test_an_error_after_the_end_is_ignored(rest):
    raw = sse([say("a"), end("length"), rest])
    for pieces in ([raw], by_event(raw)):
        assert assemble(relay(pieces))["stop_reason"] == "max_tokens"


def test_a_body_is_bounded(monkeypatch):
    monkeypatch.setattr("ccproxy.convert.dialects.answer_relay._BODY_LIMIT", 100)
    answer = ChatRelay(context())
    answer.feed(b"{" + b" " * 98)
    with pytest.raises(Problem, match="more than 100 bytes"):
        answer.feed(b"  ")


def test_blank_lines_before_a_body():
    # DeepSeek sends these to keep the connection alive.
    body = json.dumps(whole("a")).encode()
    assert assemble(relay([b"\n", b"\n\n", body]))["content"] == [{"type": "text", "text": "a"}]


def test_a_byte_order_mark_before_a_body():
    body = BOM_UTF8 + json.dumps(whole("a")).encode()
    assert assemble(relay([body]))["content"] == [{"type": "text", "text": "a"}]


def test_a_very_large_chunk():
    raw = sse([say("ab" * (1 << 20)), end()])
    message = assemble(relay(cut(raw, 65536)))
    assert len(message["content"][0]["text"]) == 2 << 20


def test_pings_are_events():
    assert server_events.PING in relay([RECORDED["text"]])
