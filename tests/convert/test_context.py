"""Tests of the state that a worker's exchanges share: counts, limits and the window check."""

from __future__ import annotations

import json

import pytest

from ccproxy.convert.context import CONFIRMED_REFUSALS
from ccproxy.errors import Problem
from ccproxy.protocol.messages import (
    MAX_BLOCKS,
    MAX_MESSAGES,
    MAX_STOP_SEQUENCES,
    MAX_STOPS_SIZE,
    read_request,
)
from ccproxy.providers.quirks import Quirks
from tests.asking import assistant, image, request, result, text, thinking, tool, use, user
from tests.convert.contexts import rules

LONG = "I think about it. " * 500
PICTURE = "iVBORw0KGgo" + "A" * 200_000


def count(*messages, **quirks):
    body = json.dumps(request(*messages)).encode()
    return rules(quirks=Quirks(**quirks)).count(body)


def turns(thought):
    return [user("a"), assistant(thinking(thought), use("t1")), user(result("t1"))]


def test_dropped_thinking_is_not_counted():
    assert count(*turns(LONG), history="drop") == pytest.approx(count(*turns("")), rel=0.3)
    assert count(*turns(LONG), history="reasoning_content") > 1_500


def test_signatures_of_thinking_are_not_counted():
    signed = [user("a"), assistant(thinking("Hm", "E" * 20_000), use("t1")), user(result("t1"))]
    assert count(*signed, history="reasoning_content") < 100


def test_thinking_outside_of_tool_turns_is_not_counted_if_it_is_not_sent():
    plain = [user("a"), assistant(thinking(LONG), text("b")), user("c")]
    quirks = {"history": "reasoning_content", "history_scope": "tool_turns"}
    assert count(*plain, **quirks) < 100
    assert count(*turns(LONG), **quirks) > 1_500


@pytest.mark.parametrize(
    "message",
    [user("Look", image(PICTURE)), user(result("t1", [text("seen"), image(PICTURE)]))],
    ids=["a message", "a tool result"],
)
def test_images_for_a_model_without_vision_are_not_counted(message):
    assert count(message, images=False) < 100
    assert count(message, images=True) > 400


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "assistant", "content": '"thinking"'}],
        [{"role": "assistant", "content": [{"type": "thinking"}]}],
        [{"role": "assistant", "content": [5, {"thinking": 1}]}],
        [{"role": "user", "content": [{"type": "image"}, {"type": "tool_result", "content": 3}]}],
    ],
)
def test_invalid_blocks_do_not_break_the_count(messages):
    body = json.dumps({"model": "m", "messages": messages, "x": "base64"}).encode()
    assert rules(quirks=Quirks(images=False)).count(body) > 0


# The window.


def over(context, estimated):
    small = read_request(json.dumps(request(user("a"))).encode())
    try:
        context.check_window(small, "up-big", estimated=estimated)
    except Problem as problem:
        return problem.message
    return ""


def test_a_factor_of_other_sessions_refuses_nothing_that_fits():
    context = rules(window=10_000)
    for _ in range(20):
        context.learn("up-big", 1_000, {"input_tokens": 2_400})
    assert over(context, 9_000) == ""
    assert "prompt is too long" in over(context, 13_000)


def test_some_requests_that_seem_too_long_are_sent():
    context = rules(window=1_000)
    refusals = [bool(over(context, 5_000)) for _ in range(CONFIRMED_REFUSALS * 2)]
    assert refusals.count(False) == 2


# Limits.


def body_of(**fields):
    return json.dumps({**request(user("a")), **fields}).encode()


@pytest.mark.parametrize(
    ("body", "kind", "match"),
    [
        pytest.param(
            body_of(messages=[user("a")] * (MAX_MESSAGES + 1)),
            "invalid_request_error",
            "messages: at most 100,000",
            id="messages",
        ),
        pytest.param(
            body_of(stop_sequences=["x"] * (MAX_STOP_SEQUENCES + 1)),
            "invalid_request_error",
            "stop_sequences: at most 1,000",
            id="stop sequences",
        ),
        pytest.param(
            body_of(stop_sequences=["x" * MAX_STOPS_SIZE, "y"]),
            "invalid_request_error",
            "stop_sequences: at most 65,536 characters",
            id="characters of stop sequences",
        ),
        pytest.param(
            body_of(tools=[tool("x" * 60, {"type": "object", "description": "y" * 5_000_000})]),
            "request_too_large",
            "tools: at most",
            id="tools",
        ),
        pytest.param(
            body_of(messages=[user(*[text("some words")] * (MAX_BLOCKS + 1))]),
            "request_too_large",
            "content blocks",
            id="content blocks",
        ),
    ],
)
def test_too_many_parts_are_refused(body, kind, match):
    with pytest.raises(Problem, match=match) as refused:
        read_request(body)
    assert refused.value.kind == kind


def test_long_texts_about_blocks_are_not_blocks():
    quoted = json.dumps({"type": "text"}) * 250_000
    assert read_request(body_of(messages=[user(quoted)]))
