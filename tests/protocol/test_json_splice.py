"""One value exchanged, every other byte kept."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy.protocol.json_splice import fields_of, replace_value, without_fields


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a"}', b'{"model":"N"}'),
        (b' { "model" :\n "a" , "x": 1.50 } ', b' { "model" :\n "N" , "x": 1.50 } '),
        (b'{"x":{"model":"a"},"model":"a"}', b'{"x":{"model":"a"},"model":"N"}'),
        (b'{"x":"\\"model\\":\\"a\\"","model":"a"}', b'{"x":"\\"model\\":\\"a\\"","model":"N"}'),
        (b'{"x":["model",":"],"model":"a"}', b'{"x":["model",":"],"model":"N"}'),
        (b'{"model":"a\\"b\\\\"}', b'{"model":"N"}'),
        (b'{"model":null}', b'{"model":"N"}'),
        (b'{"model":-1.5e3,"y":2}', b'{"model":"N","y":2}'),
        (b'{"x":{"model":"a"}}', b'{"x":{"model":"a"}}'),
        (b'{"model":{"a":1}}', b'{"model":{"a":1}}'),
        (b"{}", b"{}"),
        (b"no json", b"no json"),
        (b"", b""),
    ],
)
def test_only_the_objects_own_field_is_exchanged(body, expected):
    assert replace_value(body, ("model",), b'"N"') == expected


def test_a_deeper_field():
    body = b'{"model":"top","message":{"usage":{"model":"x"},"model":"a"}}'
    expected = b'{"model":"top","message":{"usage":{"model":"x"},"model":"N"}}'
    assert replace_value(body, ("message", "model"), b'"N"') == expected
    assert replace_value(body, ("nothing", "model"), b'"N"') == body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("model"), inner),
    max_leaves=15,
)


@given(
    st.dictionaries(st.text(), JSON),
    st.text(),
    st.text(),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_any_object_keeps_all_but_the_field(fields, old, new, indent, ascii_only):
    body = json.dumps({**fields, "model": old}, indent=indent, ensure_ascii=ascii_only)
    changed = replace_value(body.encode(), ("model",), json.dumps(new).encode())
    assert json.loads(changed) == {**fields, "model": new}
    assert len(changed) == len(body.encode()) + len(json.dumps(new).encode()) - len(
        json.dumps(old, ensure_ascii=ascii_only).encode()
    )


@pytest.mark.parametrize(
    ("body", "names", "expected"),
    [
        (b'{"a": 1.50,"b":{"c": 2}}', {"a"}, b'{"b":{"c": 2}}'),
        (b'{"a": 1.50, "b": [ ]}', {"b", "z"}, b'{"a":1.50}'),
        (b'{"a" : 1}', {"z"}, b'{"a" : 1}'),
        (b"[1]", {"a"}, b"[1]"),
        (b"x", {"a"}, b"x"),
    ],
)
def test_fields_are_left_out(body, names, expected):
    assert without_fields(body, names) == expected


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b'{"a":\xff}', b"[" * 100_000])
def test_what_is_no_object_has_no_fields(body):
    assert fields_of(body) is None
