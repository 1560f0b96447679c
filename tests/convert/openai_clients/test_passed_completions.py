"""Chat Completions requests for providers of that API."""

from __future__ import annotations

import json

import pytest

from ccproxy.convert.openai_clients.completions_passthrough import CompletionsPassthrough
from ccproxy.errors import BadAnswer, Problem
from tests.convert.contexts import rules
from tests.replies import chunk, data_line

CHUNK = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'
END = b'data: {"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"


def exchange(**fields):
    body = json.dumps({"model": "up-big", **fields}).encode()
    return CompletionsPassthrough(body, rules=rules(), request_id="req_1")


def test_a_request_is_unchanged_except_for_the_model():
    assert exchange().body == b'{"model": "up-big"}'
    made = exchange(model="claude-opus-4-1", stream=True)
    assert (made.body, made.streams) == (b'{"model": "up-big", "stream": true}', True)
    assert (made.requested, made.known_dropped) == ("claude-opus-4-1", ())


def test_half_an_emoji_does_not_end_a_session():
    assert b"half \\ufffd" in exchange(messages=[{"role": "user", "content": "half \ud83d"}]).body


@pytest.mark.parametrize("body", [b"[]", b"{", b"{}", b'{"model": 1}'])
def test_other_bodies_are_refused(body):
    with pytest.raises(Problem, match="not a Chat Completions request"):
        CompletionsPassthrough(body, rules=rules(), request_id="req_1")


@pytest.mark.parametrize("end", [END, END + DONE, DONE])
def test_a_stream_gets_its_end(end):
    made = exchange()
    data = CHUNK + end
    out = b"".join(made.feed(data[at : at + 5]) for at in range(0, len(data), 5)) + made.close()
    assert out == CHUNK + end.removesuffix(DONE) + DONE


def test_a_stream_without_an_end():
    made = exchange()
    made.feed(CHUNK)
    with pytest.raises(BadAnswer):
        made.close()
    failed = made.fail(Problem("overloaded_error", "busy"))
    assert json.loads(failed.removeprefix(b"data: "))["error"]["message"] == "busy"


def test_usage():
    made = exchange()
    assert made.usage == {}
    made.feed(data_line(chunk(content='"usage":{')) + b'data: {"usage":{\n\n' + END)
    assert made.usage["input_tokens"] == 3
    assert made.whole(b'{"usage": {"prompt_tokens": 4}}') == b'{"usage": {"prompt_tokens": 4}}'
    assert made.usage["input_tokens"] == 4


def test_received_output_is_estimated_if_the_provider_reports_no_usage():
    made = exchange()
    called = {"tool_calls": [{"function": {"arguments": "a" * 10}}, {}]}
    for delta in ({"content": "a" * 10}, {"reasoning": "a" * 10}, called, None):
        made.feed(data_line({"choices": [{"delta": delta}]}))
    made.feed(data_line({"choices": "a" * 20}))
    assert made.usage["output_tokens"] == (30 + len('{"choices": ""}' + "a" * 20) // 4 + 3) // 4


def test_the_conversation_can_be_identified():
    assert exchange(messages=[{"role": "user", "content": "Hi"}]).conversation() is not None


def test_nothing_is_revised():
    assert not exchange().revise(Problem("invalid_request_error", "no"))
