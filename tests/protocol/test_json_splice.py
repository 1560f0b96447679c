"""Tests of replacement and removal of fields: all other bytes are preserved."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy.protocol import json_splice
from ccproxy.protocol.json_splice import fields_of, object_of, replace_value, without_fields


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
        (b'{"x":{"model":1},"mod\\u0065l":"\\u0000ccproxy 5"}',) * 2,
        (b"{}", b"{}"),
        (b"no json", b"no json"),
        (b"", b""),
    ],
)
def test_only_the_top_level_field_is_replaced(body, expected):
    assert replace_value(body, ("model",), b'"N"') == expected


def test_the_object_is_decoded_once_however_often_the_key_occurs(monkeypatch):
    decoded = []
    monkeypatch.setattr(json_splice, "fields_of", lambda body: decoded.append(1) or fields_of(body))
    nested = b",".join([b'{"model":"a"}'] * 1000)
    body = b'{"x":[' + nested + b'],"model":"a"}'
    expected = b'{"x":[' + nested + b'],"model":"N"}'
    assert replace_value(body, ("model",), b'"N"') == expected
    assert len(decoded) == 1


def test_a_nested_field_is_replaced():
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
def test_every_other_field_of_any_object_is_preserved(fields, old, new, indent, ascii_only):
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
def test_fields_are_removed(body, names, expected):
    assert without_fields(body, names) == expected


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b'{"a":\xff}', b"[" * 100_000])
def test_a_body_that_is_not_an_object_has_no_fields(body):
    assert fields_of(body) is None


def test_a_long_string_takes_little_memory():
    body = b'{"x":{"model":"%b"},"model":"a"}' % (b"a" * 1_000_000)
    tracemalloc.start()
    replace_value(body, ("model",), b'"N"')
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * len(body)


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b'{"a":1}', {"a": 1}), ('{"a":1}', {"a": 1}), (b"[]", None), (b"\xff", None),
     ("\ud800", None), ("[" * 100_000, None)],
    ids=["bytes", "text", "a list", "no UTF-8", "half a pair", "deep"],
)  # fmt: skip
def test_an_object_or_nothing(data, expected):
    assert object_of(data) == expected
