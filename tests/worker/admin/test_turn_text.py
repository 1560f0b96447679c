"""Tests of the extraction of turns from requests and answers."""

from __future__ import annotations

import json

import pytest

from ccproxy.worker.admin.turn_text import MAX_TURN_CHARS, assistant_turn, user_turn
from tests.asking import (
    assistant,
    encode,
    image,
    request,
    result,
    system,
    text,
    thinking,
    use,
    user,
)

REMINDER = "<system-reminder>\nToday is Saturday\n</system-reminder>"


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([user("Hi")], "Hi", id="a string"),
        pytest.param([user("a", "b")], "a\n\nb", id="blocks"),
        pytest.param([user("old"), assistant("x"), user("new")], "new", id="only the last"),
        pytest.param([user(REMINDER, "Hi")], "Hi", id="a reminder is not the user's"),
        pytest.param([user(f"Hi{REMINDER} you")], "Hi you", id="a reminder inside"),
        pytest.param([user(REMINDER)], "", id="only a reminder"),
        pytest.param(
            [user("x"), assistant(use("t1")), user(result("t1", "secret file"))],
            "",
            id="a tool's result is no turn",
        ),
        pytest.param(
            [user("x"), assistant(use("t1")), user(result("t1", "file"), "and now?")],
            "and now?",
            id="text next to a result",
        ),
        pytest.param([user(image(), "what is it?")], "what is it?", id="an image"),
        pytest.param([user("go"), system("be quick")], "go", id="a system message after it"),
        pytest.param([user("go"), assistant("I will")], "go", id="a begun answer"),
        pytest.param([assistant("x")], "", id="no user message"),
    ],
)
def test_the_users_turn(messages, expected):
    assert user_turn(encode(request(*messages))) == expected


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"messages":5}', b'{"messages":[5]}', b"\xff", b"[" * 100_000]
    + [b'{"messages":[{"role":"user","content":%s}]}' % value for value in (b"5", b"null", b"[5]")],
)
def test_an_invalid_request_has_no_turn(body):
    assert user_turn(body) == ""


def test_the_length_of_a_turn_is_limited():
    assert len(user_turn(encode(request(user("x" * (MAX_TURN_CHARS + 5)))))) == MAX_TURN_CHARS


def message(*content):
    return json.dumps({"type": "message", "content": content}).encode()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (message(text("Hi")), "Hi"),
        (message(thinking("hm"), text("a"), use("t1"), text("b")), "a\n\nb"),
        (message(use("t1")), ""),
        (b'{"type":"error"}', ""),
        (b"nonsense", ""),
        (b"[]", ""),
    ],
)
def test_a_whole_answer(answer, expected):
    assert assistant_turn(answer, is_stream=False) == expected


def events(*items):
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (item["type"].encode(), json.dumps(item).encode())
        for item in items
    )


def start(index, kind="text"):
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind}}


def delta(index, words, kind="text"):
    part = {"type": f"{kind}_delta", kind: words}
    return {"type": "content_block_delta", "index": index, "delta": part}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([start(0), delta(0, "He"), {"type": "ping"}, delta(0, "llo")], "Hello"),
        ([start(0, "thinking"), delta(0, "hm", "thinking"), start(1), delta(1, "Hi")], "Hi"),
        ([start(0), delta(0, "a"), start(1, "tool_use"), start(2), delta(2, "b")], "a\n\nb"),
        ([start(0, "tool_use")], ""),
        ([start("x"), delta("x", "a"), start(None), delta({}, "b"), delta(2.5, "c")], "abc"),
        ([], ""),
    ],
)
def test_a_stream(items, expected):
    assert assistant_turn(events(*items), is_stream=True) == expected


def test_an_invalid_stream():
    assert assistant_turn(b"event: content_block_delta\ndata: {nonsense\n\n", is_stream=True) == ""


def test_a_stream_that_was_captured_in_part_has_the_text_up_to_there():
    whole = events(start(0), delta(0, "Hello"), delta(0, " world"), {"type": "message_stop"})
    at = whole.index(b" world")
    assert [assistant_turn(whole[:end], is_stream=True) for end in (at, at + 40, -5)] == [
        "Hello",
        "Hello world",
        "Hello world",
    ]
