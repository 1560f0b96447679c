"""Tests of signatures and reasoning; foreign signatures cannot be opened."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy.convert.common.thinking import (
    PREFIX,
    GrowingText,
    Origin,
    ReasoningReader,
    Signer,
    has_content,
    merge_detail,
    pack_details,
    plain_text,
    text_of_detail,
    unpack_details,
)
from ccproxy.errors import BadAnswer

SIGNER = Signer(b"one")
ORIGIN = Origin(
    provider="gemini", model="g-3", carried={"thought_signatures": {"c1": "U0lHLUE="}, "n": [1]}
)


def test_a_signature_opens_to_its_origin():
    assert SIGNER.open(SIGNER.mint(ORIGIN)) == ORIGIN


def test_the_same_origin_has_the_same_signature():
    assert SIGNER.mint(ORIGIN) == Signer(b"one").mint(ORIGIN)
    assert SIGNER.mint(ORIGIN) != SIGNER.mint(Origin(provider="gemini", model="g-3"))


def test_data_that_is_nested_too_deeply_is_a_bad_answer():
    """A decoder's limit depends on the calls around it, so it may accept what this one refuses."""
    data = []
    for _ in range(10_000):
        data = [data]
    with pytest.raises(BadAnswer, match="nested too deeply"):
        SIGNER.mint(Origin(provider="a", model="m", carried={"reasoning_details": data}))


def test_a_signature_has_plain_characters_only():
    signature = SIGNER.mint(Origin(provider="ü", model="\ud83d", carried={"x": "?>~" * 9}))
    assert signature.startswith(PREFIX)
    assert signature.isascii()
    assert set(signature) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
    )


@pytest.mark.parametrize(
    "signature",
    [
        pytest.param("", id="none"),
        pytest.param(None, id="null"),
        pytest.param(5, id="a number"),
        pytest.param("EqQBCkYIBxgCKkD...", id="one of Anthropic's"),
        pytest.param(PREFIX, id="nothing after the prefix"),
        pytest.param(PREFIX + "!!!!", id="no base64"),
        pytest.param(PREFIX + "é", id="not ASCII"),
        pytest.param(PREFIX + "AAAA", id="too short for a tag"),
        pytest.param(PREFIX + base64.urlsafe_b64encode(b"x" * 40).decode(), id="a forged one"),
        pytest.param(SIGNER.mint(ORIGIN)[:-8], id="a cut one"),
        pytest.param(SIGNER.mint(ORIGIN) + "A", id="one with text after it"),
        pytest.param(SIGNER.mint(ORIGIN).lower(), id="a changed one"),
        pytest.param(Signer(b"two").mint(ORIGIN), id="one of another fleet"),
    ],
)
def test_foreign_signatures_cannot_be_opened(signature):
    assert SIGNER.open(signature) is None


@settings(deadline=None)
@given(st.text())
def test_no_text_is_an_error(text):
    assert SIGNER.open(text) is None
    assert SIGNER.open(PREFIX + text) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=3))
def test_any_data_can_be_carried(carried):
    origin = Origin(provider="p", model="m", carried=carried)
    assert SIGNER.open(SIGNER.mint(origin)) == origin


# Reading.


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param([(("a", None), [])], ["a"], id="reasoning_content"),
        pytest.param([((None, "a"), [])], ["a"], id="reasoning"),
        pytest.param([(("a", "a"), [])], ["a"], id="both: one is read"),
        pytest.param([(("", "a"), [])], ["a"], id="an empty one is none"),
        pytest.param([((None, None), [{"text": "a"}])], ["a"], id="details"),
        pytest.param([((None, None), [{"text": "a"}, {"summary": "b"}])], ["ab"], id="two details"),
        pytest.param([((None, "a"), [{"text": "a"}])], ["a"], id="a field next to details"),
        pytest.param(
            [((None, "a"), []), ((None, None), [{"text": "a"}])],
            ["a", ""],
            id="details after a field are the same once more",
        ),
        pytest.param([((5, ["a"]), [{"text": 1}, {"data": "x"}])], [""], id="no text"),
    ],
)
def test_one_source_is_read(steps, expected):
    reader = ReasoningReader()
    assert [reader.read(plain, details) for plain, details in steps] == expected


# Details are packed and unpacked.

FRAGMENTS = [
    {"type": "reasoning.text", "index": 0, "text": "Let ", "format": "f"},
    {"type": "reasoning.text", "index": 0, "text": "me", "format": None},
    {"type": "reasoning.text", "index": 0, "text": "", "signature": "sig"},
    {"type": "reasoning.encrypted", "index": 1, "data": "abc", "id": "rs_1"},
    {"type": "reasoning.encrypted", "index": 1, "data": "def", "id": "rs_2"},
    {"type": "reasoning.summary", "index": 2, "summary": "So"},
]


def merged(fragments):
    details = []
    for fragment in fragments:
        merge_detail(details, fragment)
    return details


def test_fragments_are_joined():
    assert merged(FRAGMENTS) == [
        {"type": "reasoning.text", "index": 0, "text": "Let me", "format": "f", "signature": "sig"},
        *FRAGMENTS[3:],
    ]


@pytest.mark.parametrize(
    "second",
    [
        pytest.param({"type": "reasoning.text", "index": 1, "text": "b"}, id="another index"),
        pytest.param({"type": "reasoning.summary", "index": 0, "summary": "b"}, id="another type"),
        pytest.param({"type": "reasoning.text", "index": 0, "id": "2", "text": "b"}, id="id"),
        pytest.param({"type": "reasoning.text", "index": 0, "data": "b"}, id="encrypted"),
    ],
)
def test_other_entries_are_not_joined(second):
    first = {"type": "reasoning.text", "index": 0, "id": "1", "text": "a"}
    assert merged([first, second]) == [first, second]


def test_joining_survives_wrong_types():
    first = {"type": "t", "text": 5}
    assert merged([first, {"type": "t", "text": "a"}]) == [{"type": "t", "text": "a"}]


def test_details_are_sent_without_their_text_and_restored():
    details = merged(FRAGMENTS)
    packed = pack_details(details)
    thinking = "".join(map(text_of_detail, details))
    assert thinking == "Let meSo"
    assert [detail.get("text", detail.get("summary")) for detail in packed] == [6, None, None, 2]
    assert unpack_details(packed, thinking) == details


def test_a_changed_text_goes_to_the_first_entry():
    packed = pack_details(merged(FRAGMENTS))
    first, *_, last = unpack_details(packed, "something else")
    assert (first["text"], last["summary"]) == ("something else", "")


def test_details_without_a_text_are_restored_too():
    details = [{"type": "reasoning.encrypted", "data": "x"}]
    assert unpack_details(pack_details(details), "") == details
    assert unpack_details(pack_details(details), "foreign") == details


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        pytest.param({"type": "reasoning.encrypted", "data": "x", "index": 0}, True, id="data"),
        pytest.param({"type": "reasoning.text", "signature": "x"}, True, id="a signature"),
        pytest.param({"type": "reasoning.text", "text": "", "index": 1}, False, id="labels only"),
        pytest.param({}, False, id="nothing"),
    ],
)
def test_has_content(detail, expected):
    assert has_content(detail) is expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param({"text": "a"}, "a", id="an object"),
        pytest.param([{"text": "a"}, 1, {"thinking": "b"}], "ab", id="a list of objects"),
        pytest.param(7, "", id="anything else"),
    ],
)
def test_reasoning_that_is_not_a_string(value, text):
    assert plain_text(value) == text


@pytest.mark.parametrize(
    ("pieces", "parts"),
    [
        pytest.param(["a", "ab", "abc"], ["a", "b", "c"], id="snapshots"),
        pytest.param(["a", "b", "ab"], ["a", "b", "ab"], id="deltas"),
        pytest.param(["", "a", "", "ab"], ["", "a", "", "b"], id="empty pieces decide nothing"),
    ],
)
def test_growing_snapshots_are_distinguished_from_deltas(pieces, parts):
    growing = GrowingText()
    assert [growing.new_part(piece) for piece in pieces] == parts
