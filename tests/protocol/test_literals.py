"""Tests of JSON literals that are copied without being decoded."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from ccproxy.errors import Problem
from ccproxy.protocol.literals import (
    ABSENT,
    invalid_request,
    is_object,
    is_present,
    is_string,
    join_literals,
    literal,
    read,
    required_string,
    text_of,
    to_arguments,
    with_path,
    wrap_literal,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def raw(value):
    return Raw(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("value", "string", "an_object", "given_"),
    [
        pytest.param(raw("a"), True, False, True, id="a string"),
        pytest.param(raw({}), False, True, True, id="an object"),
        pytest.param(raw([]), False, False, True, id="a list"),
        pytest.param(raw(0), False, False, True, id="a number"),
        pytest.param(raw(False), False, False, True, id="false"),
        pytest.param(raw(None), False, False, False, id="null"),
        pytest.param(ABSENT, False, False, False, id="absent"),
    ],
)
def test_kinds(value, string, an_object, given_):
    assert (is_string(value), is_object(value), is_present(value)) == (string, an_object, given_)


@given(TEXT)
def test_text_round_trips(text):
    assert text_of(literal(text)) == text
    assert text_of(raw(text)) == text


@pytest.mark.parametrize("value", [raw(1), raw(None), raw(["a"]), ABSENT])
def test_other_values_have_no_text(value):
    assert text_of(value) == ""


@given(st.lists(TEXT, min_size=1, max_size=4))
def test_join_literals(texts):
    assert text_of(join_literals("\\n\\n", [raw(text) for text in texts])) == "\n\n".join(texts)


def test_one_literal_is_not_copied():
    one = raw("a")
    assert join_literals("\\n", [one]) is one


@given(TEXT)
def test_wrap_literal(text):
    assert text_of(wrap_literal("<\\n", raw(text), ">")) == f"<\n{text}>"


@given(st.dictionaries(TEXT, st.integers() | TEXT | st.none()))
def test_arguments_are_the_json_of_an_object(value):
    given_ = raw(value)
    assert text_of(to_arguments(given_)) == str(given_, "utf-8")
    assert json.loads(text_of(to_arguments(given_))) == value


@pytest.mark.parametrize("value", [raw(None), raw([1]), raw("{}"), raw(7), ABSENT])
def test_arguments_are_always_an_object(value):
    assert text_of(to_arguments(value)) == "{}"


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        pytest.param(raw(7), "f: Input should be a valid string", id="a number"),
        pytest.param(raw(None), "f: Field required", id="null"),
        pytest.param(ABSENT, "f: Field required", id="absent"),
    ],
)
def test_required_string(value, complaint):
    with pytest.raises(Problem) as caught:
        required_string(value, "f")
    assert caught.value.message == complaint


def test_a_string_is_returned_unchanged():
    given_ = raw("a")
    assert required_string(given_, "f") is given_


class Pair(msgspec.Struct):
    left: int
    right: list[str] = []


PAIR = msgspec.json.Decoder(Pair)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param(b'{"left":"a"}', "x.0.left: Input should be a valid integer", id="a type"),
        pytest.param(b"{}", "x.0.left: Field required", id="a missing field"),
        pytest.param(
            b'{"left":1,"right":[2]}', "x.0.right.0: Input should be a valid string", id="in a list"
        ),
        pytest.param(b"[]", "x.0: Input should be a valid dictionary", id="the value itself"),
        pytest.param(b"{", "x.0: The request body is not valid JSON", id="no JSON"),
        pytest.param(b'{"z":' + b"[" * 99_999, "x.0: The JSON is nested too deeply", id="nested"),
    ],
)
def test_read_reports_problem_and_path(text, complaint):
    with pytest.raises(Problem) as caught:
        read(PAIR, text, "x", 0)
    assert caught.value.message.startswith(complaint)


def test_read():
    assert read(PAIR, b'{"left":1,"more":2}') == Pair(1)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param((), "wrong", id="the whole body"),
        pytest.param(("a", 0, "b"), "a.0.b: wrong", id="a path"),
        pytest.param(("a", ""), "a: wrong", id="an empty step"),
    ],
)
def test_invalid(path, message):
    assert invalid_request("wrong", *path).message == message


def test_with_path_prefixes_the_path():
    problem = with_path(invalid_request("wrong", "text"), "messages", 3, "content")
    assert problem.message == "messages.3.content.text: wrong"
    assert problem.kind == "invalid_request_error"
