"""Tests of the replacement of lone surrogates; the dialects' tests decode invalid answers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy.protocol import lenient_json
from ccproxy.protocol.lenient_json import replace_lone_surrogates

PIECES = st.sampled_from(
    [
        *(r"\ud83d", r"\uDE00", r"\uDBFF", r"\udc00", r"\u00e9", r"\ue000", r"\\", r"\"", r"\n"),
        *("text", "u", "ud83d", "é", "😀"),
    ]
)


@given(st.lists(PIECES, max_size=12))
def test_only_lone_surrogates_are_replaced(pieces):
    text = '"' + "".join(pieces) + '"'
    replaced = replace_lone_surrogates(text.encode())
    decoded = json.loads(text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert json.loads(replaced) == decoded


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"\\", id="a backslash at the end"),
        pytest.param(rb"\u", id="a cut escape"),
        pytest.param(rb"\ud8", id="a cut surrogate"),
        pytest.param(rb"\ud8zz\ud83d\ude00", id="a surrogate without digits"),
    ],
)
def test_text_that_is_no_json_is_unchanged(text):
    assert replace_lone_surrogates(text) == text


def test_a_long_run_before_a_lone_surrogate():
    text = rb"\n\u00e9\ud83d\ude00" * 1000
    assert replace_lone_surrogates(text + rb"\ud83d") == text + rb"\ufffd"


def test_no_group_is_possessive():
    # With one, Python 3.11.0 to 3.11.4 left lone surrogates that follow other text (gh-106052).
    assert b")++" not in lenient_json._LONE_SURROGATE.pattern
