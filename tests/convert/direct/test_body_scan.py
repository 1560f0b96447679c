"""Tests of scanning both ends of a body: the result equals a decoder's, or is None."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy.convert.direct.body_scan import Head, head_at_ends, head_of

TALK = [{"role": "user", "content": "a" * 50_000}]
ODD = '{"stream": true, "max_tokens": 7} ,"stream":true}'
THINKING = {"type": "enabled", "budget_tokens": 31_999}


def body_of(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("body", "head"),
    [
        pytest.param(
            body_of(model="m", max_tokens=5, messages=TALK, stream=True),
            Head("m", stream=True, max_tokens=5),
            id="the switch last",
        ),
        pytest.param(
            body_of(model="m", messages=TALK, max_tokens=5, thinking=THINKING, stream=False),
            Head("m", stream=False, max_tokens=5),
            id="both last, an object between",
        ),
        pytest.param(
            body_of(model="m", stream=True, messages=TALK, max_tokens=5, metadata={"user_id": ODD}),
            Head("m", stream=True, max_tokens=5),
            id="a text that looks like an end",
        ),
        pytest.param(
            body_of(model="m", max_tokens=5, stream=None, messages=TALK),
            Head("m", max_tokens=5),
            id="all of it at the beginning",
        ),
        pytest.param(
            b' \n{ "model" : "a\\"b" ,\t"max_tokens":5,"messages":[],"stream":true } \n',
            Head('a"b', stream=True, max_tokens=5),
            id="white space and escapes",
        ),
        # Uncertain results.
        pytest.param(body_of(model="m", max_tokens=5, messages=TALK), None, id="no switch"),
        pytest.param(body_of(messages=TALK, model="m", max_tokens=5, stream=True), None, id="late"),
        pytest.param(
            body_of(model="m", max_tokens=5, tools=[{"stream": True}]), None, id="in a list"
        ),
        pytest.param(body_of(model="m", max_tokens=5, a={"stream": True}), None, id="in an object"),
        pytest.param(
            body_of(model="m", max_tokens=5, stream=True, messages=TALK)[:-1] + b',"x":ODD}',
            Head("m", stream=True, max_tokens=5),
            id="broken after the fields that are read",
        ),
        pytest.param(
            body_of(model="m", max_tokens=5, stream=1, messages=TALK), None, id="of a wrong type"
        ),
        pytest.param(
            body_of(model="m", max_tokens=5, stream=True, messages=[], system="s" * 20_000),
            Head("m", stream=True, max_tokens=5),
            id="a long end that is not needed",
        ),
        pytest.param(
            body_of(model="m", messages=[], max_tokens=5, stream=True, system="s" * 20_000),
            None,
            id="too far from the end",
        ),
        pytest.param(body_of(model="m" * 20_000, max_tokens=5, stream=True), None, id="long name"),
        pytest.param(b'{"model":"m"}', None, id="nothing else"),
        pytest.param(b'{"model":"m","max_tokens":5,"stream":true', None, id="cut off"),
        pytest.param(b'{"model":"m","max_tokens":5,"stream":true}}', None, id="one brace too many"),
        pytest.param(b'{"model":"\xff","max_tokens":5,"stream":true}', None, id="not UTF-8"),
        pytest.param(b'["model"]', None, id="a list"),
        pytest.param(b"", None, id="nothing"),
    ],
)
def test_the_ends_of_a_body_are_scanned(body, head):
    assert head_at_ends(body) == head


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**40) | st.text(max_size=9) | st.just(ODD),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["stream", "max_tokens", "x"]), inner, max_size=3)
    ),
    max_leaves=9,
)
NAMES = st.sampled_from(["model", "stream", "max_tokens", "messages", "system", "é"])


@given(
    fields=st.dictionaries(NAMES, VALUES, max_size=6),
    model=st.text(max_size=9),
    indent=st.sampled_from([None, 1]),
)
def test_the_ends_agree_with_a_decoder(fields, model, indent):
    body = json.dumps({"model": model, **fields}, indent=indent, ensure_ascii=False)
    result = head_at_ends(body.encode("utf-8", "replace"))
    if result is not None:
        assert result == head_of(body.encode("utf-8", "replace"))


@pytest.mark.parametrize("body", [b"{}", b"[]", b"x", b'{"model":1}', b"\xff"])
def test_a_body_that_is_not_a_request_gives_none(body):
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        head_of(body)
