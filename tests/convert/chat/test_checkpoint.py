"""A memory of conversations changes what a conversion costs, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy.convert.chat.checkpoint import Memory
from ccproxy.convert.chat.request import to_chat
from ccproxy.convert.common.thinking import Signer
from ccproxy.errors import Problem
from ccproxy.protocol.messages import read_request
from tests.asking import (
    SIGNER,
    assistant,
    encode,
    image,
    request,
    result,
    target,
    text,
    thinking,
    use,
    user,
)
from tests.convert.test_request_properties import MESSAGES, QUICK, QUIRKS, WRONG_MESSAGES

TURNS = [
    user(text("begin")),
    assistant(text("reading"), use("t1", "mcp__" + "x" * 80), use("t2")),
    user(result("t2", [text("two"), image()]), result("t1", "one"), text("and then?")),
    assistant(use("t3", "Bash")),
    user(result("t3")),
    assistant(text("done"), use("t4", "Bash")),
    user(result("t4", "four")),
]


def converted(messages, memory, *, to=None, signer=SIGNER, **fields):
    """All that a conversion yields, or why there is none."""
    try:
        read = read_request(encode(request(*messages, **fields)))
        return to_chat(read, to or target(), signer=signer, memory=memory)
    except Problem as problem:
        return str(problem), problem.kind


def marked(message):
    """The message as a client sends it while it is the last one."""
    if not isinstance(message["content"], list) or not message["content"]:
        return message
    last = {**message["content"][-1], "cache_control": {"type": "ephemeral"}}
    return {**message, "content": [*message["content"][:-1], last]}


# The same with and without.


@QUICK
@given(messages=MESSAGES, more=MESSAGES, quirks=QUIRKS, wrong=WRONG_MESSAGES)
def test_every_turn_is_the_same_with_and_without(messages, more, quirks, wrong):
    memory, to = Memory(), target(**quirks)
    for turn in ([*messages, *more], messages, [*messages, *more, *wrong], [*messages, *more]):
        assert converted(turn, memory, to=to) == converted(turn, None, to=to)


@QUICK
@given(quirks=QUIRKS, end=MESSAGES, changed=st.integers(0, len(TURNS) - 1))
def test_a_growing_conversation_is_the_same_with_and_without(quirks, end, changed):
    """Its last message bears a mark, one in its middle is rewritten, and it ends somehow."""
    memory, to = Memory(), target(**quirks)
    turns = [[*TURNS[:length], marked(TURNS[length])] for length in range(len(TURNS))]
    rewritten = [*TURNS[:changed], *end, *TURNS[changed + 1 :]]
    for turn in [*turns, rewritten, [*TURNS, *end], TURNS]:
        assert converted(turn, memory, to=to) == converted(turn, None, to=to)


@pytest.mark.parametrize(
    "later",
    [
        pytest.param([*TURNS[:3], user("another"), *TURNS[4:]], id="rewritten in its middle"),
        pytest.param([*TURNS[:5], user(text("and this"))], id="a user who goes on"),
        pytest.param([*TURNS[:5], user(result("t3", "late"))], id="a result that comes late"),
        pytest.param([*TURNS[:4], user("interrupted")], id="another answer to the last call"),
        pytest.param(TURNS[:4], id="cut before its last answer"),
        pytest.param(
            [*TURNS[:4], assistant(use("t5")), user(result("t3"), result("t5"))],
            id="an assistant who goes on behind the last call",
        ),
    ],
)
def test_another_end_is_the_same_with_and_without(later):
    memory = Memory()
    for turn in (TURNS[:5], later, TURNS):
        assert converted(turn, memory) == converted(turn, None)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({"to": target("a")}, {"to": target("b")}, id="model"),
        pytest.param({"to": target(provider="q")}, {"to": target(provider="r")}, id="provider"),
        pytest.param({}, {"to": target(tool_ids="nine")}, id="quirks"),
        pytest.param({}, {"signer": Signer(b"another key")}, id="key"),
        pytest.param({}, {"system": "Be brief."}, id="system prompt"),
        pytest.param({}, {"thinking": {"type": "disabled"}}, id="thinking"),
    ],
)
def test_what_was_made_for_one_serves_no_other(first, second):
    memory = Memory()
    for options in (first, second, first):
        turn = [{"role": "system", "content": "Now."}, *TURNS]
        assert converted(turn, memory, **options) == converted(turn, None, **options)


# What is kept.


def test_the_beginning_is_not_converted_again():
    """What was signed in a known message is not opened again."""
    opened: list[str] = []

    class Watching(Signer):
        def open(self, signature):
            opened.append(signature)
            return super().open(signature)

    memory, signer, to = Memory(), Watching(b"k"), target(thought_signatures=True)
    turns = [TURNS[0], assistant(thinking("Hm", "EpA"), use("t1")), user(result("t1"))]
    for _ in range(2):
        converted(turns, memory, signer=signer, to=to)
    assert opened == ["EpA"]


def test_nothing_is_kept_of_what_has_no_calls():
    memory = Memory()
    converted([user("a"), assistant(text("b")), user("c" * 9999)], memory)
    assert memory.size == 0


def test_a_refused_conversation_is_not_kept():
    memory = Memory()
    kind = converted([*TURNS, {"role": "user", "content": 5}], memory)[1]
    assert (kind, memory.size) == ("invalid_request_error", 0)


def test_a_conversation_is_kept_once():
    memory = Memory()
    sizes = []
    for length in (3, 5, 7, 7, 5):
        converted(TURNS[:length], memory)
        sizes.append(memory.size)
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes[2:] == [sizes[2]] * 3


def test_there_is_room_for_so_much():
    one = Memory()
    converted(TURNS, one)
    memory = Memory(room=one.size * 3)
    for number in range(20):
        converted([user(text(f"{number:05}")), *TURNS[1:]], memory)
        assert memory.size <= one.size * 3
    assert memory.size == one.size * 3


def test_a_conversation_that_would_need_half_of_the_room_is_not_kept():
    one = Memory()
    converted(TURNS, one)
    memory = Memory(room=one.size * 2 - 2)
    converted(TURNS, memory)
    assert memory.size == 0
