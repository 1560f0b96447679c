"""Tests of server-sent events, with every chunking."""

from __future__ import annotations

import itertools
import time
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy.errors import Problem
from ccproxy.protocol.sse import PING, Decoder, ServerEvent, encode
from tests.traced import kept_by


def cut(raw: bytes, size: int) -> list[bytes]:
    return [raw[at : at + size] for at in range(0, len(raw), size)]


def decode(pieces: list[bytes]) -> list[tuple[bytes, bytes]]:
    decoder = Decoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return [tuple(event) for event in [*events, *decoder.close()]]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(b"data: a\n\n", [(b"", b"a")], id="one event"),
        pytest.param(b"data:a\n\n", [(b"", b"a")], id="no space after the colon"),
        pytest.param(b"data:  a \n\n", [(b"", b" a ")], id="only one space belongs to the colon"),
        pytest.param(b"data: a\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")], id="two events"),
        pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [(b"", b"a"), (b"", b"b")], id="CRLF"),
        pytest.param(b"data: a\r\rdata: b\r\r", [(b"", b"a"), (b"", b"b")], id="CR"),
        pytest.param(b"data: a\r\n\ndata: b\n\r\n", [(b"", b"a"), (b"", b"b")], id="mixed ends"),
        pytest.param(b"event: error\ndata: a\n\n", [(b"error", b"a")], id="a named event"),
        pytest.param(b"data: a\nevent: x\n\n", [(b"x", b"a")], id="the name may be last"),
        pytest.param(
            b"event: x\n\ndata: a\n\n", [(b"", b"a")], id="a name without data is dropped"
        ),
        pytest.param(b"data: a\ndata: b\n\n", [(b"", b"a\nb")], id="data lines are joined"),
        pytest.param(b": OPENROUTER PROCESSING\n\ndata: a\n\n", [(b"", b"a")], id="a comment"),
        pytest.param(b"id: 1\nretry: 5\ndata: a\n\n", [(b"", b"a")], id="id and retry"),
        pytest.param(b"what: 1\n\ndata: a\n\n", [(b"", b"a")], id="an unknown field"),
        pytest.param(b"data\n\ndata:\n\ndata: a\n\n", [(b"", b"a")], id="events without data"),
        pytest.param(b"\n\n\n\ndata: a\n\n\n\n", [(b"", b"a")], id="more blank lines"),
        pytest.param(b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")], id="a byte order mark"),
        pytest.param(b"data: a\n\ndata: b", [(b"", b"a"), (b"", b"b")], id="an end without a line"),
        pytest.param(b"data: a\n", [(b"", b"a")], id="an end without the blank line"),
        pytest.param(b"", [], id="nothing"),
        pytest.param(
            "data: a\u2028b\u0085c\x0bd\x0ce\n\n".encode(),
            [(b"", "a\u2028b\u0085c\x0bd\x0ce".encode())],
            id="U+2028, U+0085, VT and FF are text",
        ),
        pytest.param("data: é中😀\n\n".encode(), [(b"", "é中😀".encode())], id="split characters"),
    ],
)
def test_events_are_decoded(raw, expected, size):
    assert decode(cut(raw, size)) == expected


def test_events_are_returned_as_soon_as_they_are_complete():
    decoder = Decoder()
    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\ndata") == [ServerEvent(b"", b"a")]
    assert decoder.feed(b": b\r\n\r") == [ServerEvent(b"", b"b")]


def test_idle_between_events_only():
    decoder = Decoder()
    story = []
    for piece in (b"data: a\n\n", b"data", b": b\n", b"\n", b"event: x\n", b"\n", b"\r", b"\n"):
        decoder.feed(piece)
        story.append(decoder.idle)
    assert story == [True, False, False, True, False, True, False, True]


def test_the_cost_of_a_long_line_does_not_depend_on_reads():
    raw = b"data: " + b"x" * (4 << 20) + b"\n\n"
    begin = time.process_time()
    (event,) = decode(cut(raw, 1024))
    assert len(event[1]) == 4 << 20
    assert time.process_time() - begin < 1.0  # seconds; quadratic would be about a minute


def test_the_memory_of_a_line_does_not_depend_on_reads():
    decoder = Decoder()
    pieces = cut(b"x" * 20_000, 2)
    assert kept_by(lambda: deque(map(decoder.feed, pieces), maxlen=0)) < 1.5 * 20_000


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b"data: " + b"x" * 101 + b"\n\n"], id="in one read"),
        pytest.param([b"data: ", *[b"x" * 10] * 12], id="a line that never ends"),
        pytest.param([b"data: 12345678\n"] * 12, id="lines without an end"),
        pytest.param([b"data:\n"] * 101, id="empty lines without an end"),
        pytest.param([b"event: x\n", *[b": still here\n"] * 12], id="a name, then comments"),
        pytest.param([b": still here\n"] * 12, id="comments without a blank line"),
        pytest.param([b"id: 123456789\n"] * 12, id="ids without an end"),
    ],
)
def test_an_event_is_bounded(pieces):
    decoder = Decoder(limit=100)
    with pytest.raises(Problem, match="more than 100 bytes") as caught:
        deque(map(decoder.feed, pieces))
    assert caught.value.kind == "api_error"


def test_the_limit_is_per_event_and_counts_each_byte_once():
    decoder = Decoder(limit=100)
    for _ in range(10):
        for piece in (b"data: ", b"x" * 45, b"y" * 45, b"\n", b"\n"):
            decoder.feed(piece)
    assert decoder.idle


def test_comments_between_events_do_not_add_up():
    decoder = Decoder(limit=100)
    assert [decoder.feed(b": still here\n\n") for _ in range(12)] == [[]] * 12
    for _ in range(12):
        assert decoder.feed(b": still here\n") == []
        assert decoder.feed(b"data: a\n\n") == [ServerEvent(b"", b"a")]


def test_a_byte_order_mark_after_skipped_bytes_is_text():
    decoder = Decoder()
    decoder.begun = True
    assert decoder.feed(b"\xef\xbb\xbfdata: a\n\ndata: b\n\n") == [ServerEvent(b"", b"b")]


def test_encoding():
    assert encode(b"ping", b"{}") == b"event: ping\ndata: {}\n\n"
    assert decode([encode(b"a", b"1"), PING]) == [(b"a", b"1"), (b"ping", b'{"type": "ping"}')]


LINES = st.sampled_from(
    [b"data: a", b"data:b", b"", b":c", b"event: e", b"data", b"\xe2\x80\xa8", b"data: \xc3\xa9"]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@settings(deadline=None)
@given(
    st.lists(st.tuples(LINES, ENDS), max_size=12),
    st.lists(st.integers(0, 80), max_size=6),
)
def test_any_chunking_gives_the_same_events(lines, cuts):
    raw = b"".join(line + end for line, end in lines)
    places = [0, *sorted(cuts), len(raw)]
    pieces = [raw[begin:end] for begin, end in itertools.pairwise(places)]
    assert decode(pieces) == decode(cut(raw, 1))
