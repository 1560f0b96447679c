"""A look that spares what was seen says what a look at everything says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy.errors import Problem
from ccproxy.protocol.block_cache import SeenTexts
from ccproxy.protocol.messages import scan_body

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


def said_by(look, body):
    try:
        return look(body)
    except Problem as problem:
        return str(problem)


@settings(max_examples=500, deadline=None)
@given(
    head=PIECES,
    middles=st.lists(PIECES, min_size=1, max_size=4),
    tail=PIECES,
    step=st.integers(1, 5),
)
def test_it_says_the_same(head, middles, tail, step):
    texts = SeenTexts(step=step)
    for middle in [*middles, middles[0]]:
        body = head + middle + tail
        assert said_by(texts.look, body) == said_by(scan_body, body)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("aaaa数bbbb", "aaaa敱bbbb", id="a character that begins the same"),
        pytest.param("aaaa数bbbb", "aaaa異bbbb", id="a character that ends the same"),
        pytest.param("aaaa\\nbbbb", "aaaa\\u00e9bbbb", id="an escape across the boundary"),
        pytest.param("aaaabbbb", "aaaabbbb" * 3, id="repetition"),
        pytest.param('aa"base6bbb', 'aa"base64"bbb', id="base64 across the boundary"),
        pytest.param('aa"base64"bbb', 'aa"base6"bbb', id="base64 that goes"),
        pytest.param('aaaa"base64"', 'aaa"base64"', id="base64 that stays"),
        pytest.param("aaaaaaaa", "aaaa", id="a beginning"),
    ],
)
@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_what_is_cut_badly(first, second, step):
    texts = SeenTexts(step=step)
    for body in (first.encode(), second.encode(), first.encode()):
        assert texts.look(body) == scan_body(body)


def counting(**options):
    """Texts, and how many bytes they looked at."""
    sizes = []

    def look(body):
        sizes.append(len(body))
        return scan_body(body)

    return SeenTexts(look=look, **options), sizes


def test_only_the_difference_is_looked_at():
    texts, sizes = counting(step=10)
    texts.look(b"a" * 100 + b"b" * 100)
    texts.look(b"a" * 100 + "é".encode() + b"b" * 100)
    assert sizes[0] == 200
    assert sum(sizes[1:]) <= 50


def test_the_last_bodies_are_kept():
    texts, sizes = counting(step=10, room=1000)
    bodies = [b"%010d" % number + b"a" * 190 for number in range(6)]
    for number in (*range(6), 5, 0):
        texts.look(bodies[number])
    assert sizes[6:] == [0, 0, 200]
