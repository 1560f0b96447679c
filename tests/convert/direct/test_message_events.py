"""A whole message as a stream, from which the client assembles the same message."""

from __future__ import annotations

import json

import pytest

from ccproxy.convert.direct.message_events import message_events, problem_of
from ccproxy.errors import BadAnswer
from tests.grammar import assemble, check

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "text", "text": "Yes"},
        {"type": "tool_use", "id": "t1", "name": "Read", "input": {"a": [1]}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 2},
}


def test_the_events_make_the_same_message():
    stream = message_events(json.dumps(MESSAGE).encode())
    assert check(stream) == []
    assert assemble(stream)["content"] == MESSAGE["content"]
    assert assemble(stream)["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"content": 1}', b'{"content": ["text"]}', b"[" * 100_000]
)
def test_anything_else_is_a_bad_answer(body):
    with pytest.raises(BadAnswer, match="not a message"):
        message_events(body)


@pytest.mark.parametrize("value", [None, 529, 1.5, True, ["x"], {"x": 1}, "", "made_up"])
def test_an_error_without_a_known_type(value):
    problem = problem_of({"type": value, "message": "busy"})
    assert (problem.kind, problem.message) == ("api_error", "busy")


@pytest.mark.parametrize("value", [None, 529, ["x"], {"x": 1}, ""])
def test_an_error_without_text(value):
    problem = problem_of({"type": "overloaded_error", "message": value})
    assert problem.kind == "overloaded_error"
    assert problem.message == "the provider failed without giving a reason"
