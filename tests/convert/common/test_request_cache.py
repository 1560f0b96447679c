"""Differential tests: results are the same with and without the caches."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy.convert.chat.request import to_chat
from ccproxy.convert.common.request_cache import ConversationCache, ScanCache
from ccproxy.convert.common.thinking import Signer
from ccproxy.errors import Problem
from ccproxy.protocol.messages import read_request, scan_body
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


def outcome_of(messages, cache, *, to=None, signer=SIGNER, **fields):
    """Return the result of a conversion, or its error."""
    try:
        read = read_request(encode(request(*messages, **fields)))
        return to_chat(read, to or target(), signer=signer, cache=cache)
    except Problem as problem:
        return str(problem), problem.kind


def with_cache_mark(message):
    """Return the message in the form in which clients send the last message."""
    if not isinstance(message["content"], list) or not message["content"]:
        return message
    last = {**message["content"][-1], "cache_control": {"type": "ephemeral"}}
    return {**message, "content": [*message["content"][:-1], last]}


@QUICK
@given(messages=MESSAGES, more=MESSAGES, quirks=QUIRKS, wrong=WRONG_MESSAGES)
def test_every_turn_converts_the_same_with_and_without_a_cache(messages, more, quirks, wrong):
    cache, to = ConversationCache(), target(**quirks)
    for turn in ([*messages, *more], messages, [*messages, *more, *wrong], [*messages, *more]):
        assert outcome_of(turn, cache, to=to) == outcome_of(turn, None, to=to)


@QUICK
@given(quirks=QUIRKS, end=MESSAGES, changed=st.integers(0, len(TURNS) - 1))
def test_a_growing_conversation_converts_the_same_with_and_without_a_cache(quirks, end, changed):
    """The last message has a cache mark, a message in the middle is rewritten, the end varies."""
    cache, to = ConversationCache(), target(**quirks)
    turns = [[*TURNS[:length], with_cache_mark(TURNS[length])] for length in range(len(TURNS))]
    rewritten = [*TURNS[:changed], *end, *TURNS[changed + 1 :]]
    for turn in [*turns, rewritten, [*TURNS, *end], TURNS]:
        assert outcome_of(turn, cache, to=to) == outcome_of(turn, None, to=to)


@pytest.mark.parametrize(
    "later",
    [
        pytest.param([*TURNS[:3], user("another"), *TURNS[4:]], id="rewritten in its middle"),
        pytest.param([*TURNS[:5], user(text("and this"))], id="a user who continues"),
        pytest.param([*TURNS[:5], user(result("t3", "late"))], id="a late result"),
        pytest.param([*TURNS[:4], user("interrupted")], id="another answer to the last call"),
        pytest.param(TURNS[:4], id="truncated before its last answer"),
        pytest.param(
            [*TURNS[:4], assistant(use("t5")), user(result("t3"), result("t5"))],
            id="an assistant that continues after the last call",
        ),
    ],
)
def test_a_changed_end_converts_the_same_with_and_without_a_cache(later):
    cache = ConversationCache()
    for turn in (TURNS[:5], later, TURNS):
        assert outcome_of(turn, cache) == outcome_of(turn, None)


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
def test_a_conversion_for_another_target_key_or_prompt_is_not_reused(first, second):
    cache = ConversationCache()
    for options in (first, second, first):
        turn = [{"role": "system", "content": "Now."}, *TURNS]
        assert outcome_of(turn, cache, **options) == outcome_of(turn, None, **options)


# Cached content.


def test_a_cached_beginning_is_not_converted_again():
    """Signatures in cached messages are not decrypted again."""
    opened: list[str] = []

    class Watching(Signer):
        def open(self, signature):
            opened.append(signature)
            return super().open(signature)

    cache, signer, to = ConversationCache(), Watching(b"k"), target(thought_signatures=True)
    turns = [TURNS[0], assistant(thinking("Hm", "EpA"), use("t1")), user(result("t1"))]
    outcome_of(turns, cache, signer=signer, to=to)
    assert set(opened) == {"EpA"}
    opened.clear()
    outcome_of(turns, cache, signer=signer, to=to)
    assert opened == []


def test_a_conversation_without_calls_is_not_cached():
    cache = ConversationCache()
    outcome_of([user("a"), assistant(text("b")), user("c" * 9999)], cache)
    assert cache.size == 0


def test_a_refused_conversation_is_not_cached():
    cache = ConversationCache()
    kind = outcome_of([*TURNS, {"role": "user", "content": 5}], cache)[1]
    assert (kind, cache.size) == ("invalid_request_error", 0)


def test_a_conversation_is_cached_once():
    cache = ConversationCache()
    sizes = []
    for length in (3, 5, 7, 7, 5):
        outcome_of(TURNS[:length], cache)
        sizes.append(cache.size)
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes[2:] == [sizes[2]] * 3


def test_the_cache_is_bounded():
    one = ConversationCache()
    outcome_of(TURNS, one)
    cache = ConversationCache(room=one.size * 3)
    for number in range(20):
        outcome_of([user(text(f"{number:05}")), *TURNS[1:]], cache)
        assert cache.size <= one.size * 3
    assert cache.size == one.size * 3


def test_a_conversation_larger_than_half_the_cache_is_not_cached():
    one = ConversationCache()
    outcome_of(TURNS, one)
    cache = ConversationCache(room=one.size * 2 - 2)
    outcome_of(TURNS, cache)
    assert cache.size == 0


# Scans.

PIECES = st.lists(
    st.sampled_from(
        [
            *(
                b"a",
                b"word ",
                b"\\",
                b"u",
                b"00e9",
                b"\\u00e9",
                b"\\ud83d",
                b"\\n",
                b'"',
                b'"base64"',
            ),
            *("é".encode(), "数".encode(), "😀".encode(), "😀".encode()[:2], b"\x80", b"\xff"),
        ]
    ),
    max_size=12,
).map(b"".join)


def outcome(scan, body):
    try:
        return scan(body)
    except Problem as problem:
        return str(problem)


@settings(max_examples=200, deadline=None)
@given(
    head=PIECES,
    middles=st.lists(PIECES, min_size=1, max_size=4),
    tail=PIECES,
    block=st.integers(1, 5),
)
def test_scans_are_the_same_with_and_without_a_cache(head, middles, tail, block):
    scans = ScanCache(block=block)
    for middle in [*middles, middles[0]]:
        body = head + middle + tail
        assert outcome(scans.scan, body) == outcome(scan_body, body)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("aaaa数bbbb", "aaaa敱bbbb", id="a character that begins the same"),
        pytest.param("aaaa数bbbb", "aaaa異bbbb", id="a character that ends the same"),
        pytest.param("aaaa\\nbbbb", "aaaa\\u00e9bbbb", id="an escape across the boundary"),
        pytest.param("aaaa\\nabbbb", "aaaa\\nacbbbb", id="an escape before the difference"),
        pytest.param("aaaabbbb", "aaaabbbb" * 3, id="repetition"),
        pytest.param('aa"base6bbb', 'aa"base64"bbb', id="base64 across the boundary"),
        pytest.param('aa"base64"bbb', 'aa"base6"bbb', id="base64 that disappears"),
        pytest.param('aaaa"base64"', 'aaa"base64"', id="base64 that stays"),
        pytest.param("aaaaaaaa", "aaaa", id="a beginning"),
    ],
)
@pytest.mark.parametrize("block", [1, 2, 3, 4])
def test_differences_that_split_characters_and_escapes(first, second, block):
    scans = ScanCache(block=block)
    for body in (first.encode(), second.encode(), first.encode()):
        assert scans.scan(body) == scan_body(body)


def counting(**options):
    """Return a cache and the sizes of its scans."""
    sizes = []

    def scan(body):
        sizes.append(len(body))
        return scan_body(body)

    return ScanCache(scan=scan, **options), sizes


def test_only_the_difference_is_scanned():
    scans, sizes = counting(block=10)
    scans.scan(b"a" * 100 + b"b" * 100)
    scans.scan(b"a" * 100 + "é".encode() + b"b" * 100)
    assert sizes[0] == 200
    assert sum(sizes[1:]) <= 50


def test_the_last_bodies_are_cached():
    scans, sizes = counting(block=10, room=1000)
    bodies = [b"%010d" % number + b"a" * 190 for number in range(6)]
    for number in (*range(6), 5, 0):
        scans.scan(bodies[number])
    assert sizes[6:] == [200], "the last body is cached, and the first one no longer"


def test_a_cleared_cache_converts_everything_again():
    cache = ConversationCache()
    before = outcome_of(TURNS, cache)
    cache.clear()
    assert outcome_of(TURNS, cache) == before
