"""Requests of Responses clients: accepted and rejected input."""

from __future__ import annotations

import json

import pytest

from ccproxy.errors import Problem
from ccproxy.protocol import responses_request as protocol
from ccproxy.protocol.responses_request import (
    items_of,
    parts_of,
    read_responses_outline,
    read_responses_request,
)

LAST = "previous_response_id"


def body(**fields):
    return json.dumps({"model": "m", "input": "Hi", **fields}).encode()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param(b"[]", "Input should be a valid dictionary", id="not an object"),
        pytest.param(b'{"input": "Hi"}', "model: Field required", id="without a model"),
        pytest.param(body(model="m" * 257), "at most 256 characters", id="a long model name"),
        pytest.param(body(previous_response_id="resp_1"), "'resp_1' not found", id=LAST),
        pytest.param(body(store=True), "set store to false", id="store"),
        pytest.param(body(background=True), "leave out background", id="background"),
        pytest.param(body(conversation={"id": "c"}), "leave out background", id="conversation"),
        pytest.param(body(prompt={"id": "p"}), "prompt: this proxy", id="a stored prompt"),
    ],
)
def test_refused_outlines(data, text):
    with pytest.raises(Problem) as caught:
        read_responses_outline(data)
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param(b'{"model": "m"}', "input: Field required", id="no input"),
        pytest.param(body(input=[]), "at least one item", id="an empty input"),
        pytest.param(body(input=[1]), "input.0", id="an item that is no object"),
        pytest.param(body(input=5), "input", id="an input that is no list"),
    ],
)
def test_refused_inputs(data, text):
    with pytest.raises(Problem) as caught:
        items_of(read_responses_request(data))
    assert text in caught.value.message


def test_the_number_of_items_is_limited(monkeypatch):
    monkeypatch.setattr(protocol, "MAX_MESSAGES", 2)
    request = read_responses_request(body(input=[{"role": "user", "content": "Hi"}] * 3))
    with pytest.raises(Problem, match="at most 2 items"):
        items_of(request)


def test_the_number_of_parts_of_a_large_request_is_limited(monkeypatch):
    monkeypatch.setattr(protocol, "MAX_BLOCKS", 2)
    monkeypatch.setattr(protocol, "_LARGE", 10)
    with pytest.raises(Problem, match="at most 2 items"):
        read_responses_request(body(input=[{"type": "reasoning"}] * 3))


def test_a_string_is_one_message():
    (item,) = items_of(read_responses_request(body()))
    assert (item.type, item.role, bytes(item.content)) == ("message", "user", b'"Hi"')


def test_half_of_a_surrogate_pair_is_replaced():
    request = read_responses_request(b'{"model": "m", "input": "a\\ud83d"}')
    assert bytes(request.input) == b'"a\\ufffd"'


def test_content_of_other_types():
    (item,) = items_of(read_responses_request(body(input=[{"role": "user", "content": 5}])))
    with pytest.raises(Problem, match=r"input\.0\.content: Input should be"):
        parts_of(item.content, "input", 0, "content")
    (item,) = items_of(read_responses_request(body(input=[{"role": "user", "content": None}])))
    assert parts_of(item.content) == []
