"""Tests of decoding Messages requests, and of error bodies."""

from __future__ import annotations

import json

import msgspec
import pytest
from msgspec import Raw

from ccproxy.errors import STATUS_OF_KIND, Problem
from ccproxy.protocol.literals import ABSENT
from ccproxy.protocol.messages import (
    ANTHROPIC_ONLY,
    Block,
    MessagesRequest,
    Source,
    blocks_of,
    count_characters,
    error_body,
    read_request,
    source_of,
    tools_of,
)

HI = [{"role": "user", "content": "Hi"}]


def body(**fields):
    return json.dumps({"model": "m", "max_tokens": 9, "messages": HI, **fields}).encode()


def complaint(raw, **kind):
    with pytest.raises(Problem) as caught:
        read_request(raw, **kind)
    assert caught.value.kind == "invalid_request_error"
    assert caught.value.status == 400
    return caught.value.message


# A request...


def test_known_fields_are_decoded_and_the_rest_stays_raw():
    request = read_request(
        b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[ 1 ]}],"system":"s"}'
    )
    assert request.model == "m"
    assert request.max_tokens == 9
    assert request.messages[0].role == "user"
    assert request.messages[0].content == Raw(b"[ 1 ]")
    assert request.system == Raw(b'"s"')
    assert request.tools is ABSENT


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"next_years_field": [1]}, id="unknown fields"),
        pytest.param({"messages": [{**HI[0], "id": "x", "more": {}}]}, id="fields of a message"),
        pytest.param({"messages": [{"role": "narrator", "content": "x"}]}, id="roles"),
        pytest.param({"thinking": {"type": "of_2030", "x": 1}}, id="ways to think"),
        pytest.param({"output_config": {"effort": "gigantic", "budget": {}}}, id="efforts"),
        pytest.param({"tool_choice": {"type": "of_2030"}}, id="ways to choose"),
        pytest.param({"stream": None, "temperature": None, "system": None}, id="nulls"),
        pytest.param({"max_tokens": 0}, id="a cache warm-up"),
        pytest.param({"temperature": 1}, id="a whole number for a float"),
        pytest.param(dict.fromkeys(ANTHROPIC_ONLY, 7), id="betas in any form"),
    ],
)
def test_unknown_fields_blocks_and_types_are_accepted(fields):
    assert isinstance(read_request(body(**fields)), MessagesRequest)


def test_every_anthropic_only_field_is_decoded():
    assert set(ANTHROPIC_ONLY) <= set(MessagesRequest.__struct_fields__)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(b"", "The request body is not valid JSON: ", id="nothing"),
        pytest.param(b"nope", "The request body is not valid JSON: ", id="no JSON"),
        pytest.param(body()[:-1], "The request body is not valid JSON: ", id="cut"),
        pytest.param(body() + b"x", "The request body is not valid JSON: ", id="too much"),
        pytest.param(b'{"a":"\xff"}', "The request body is not valid UTF-8", id="no UTF-8"),
        pytest.param(b"[]", "Input should be a valid dictionary", id="a list"),
        pytest.param(b"{}", "model: Field required", id="no model"),
        pytest.param(body(model=7), "model: Input should be a valid string", id="model"),
        pytest.param(
            body(model="m" * 257),
            "model: String should have at most 256 characters",
            id="a model's name without end",
        ),
        pytest.param(b'{"model":"m","max_tokens":9}', "messages: Field required", id="no messages"),
        pytest.param(
            body(messages=[]), "messages: at least one message is required", id="empty messages"
        ),
        pytest.param(
            body(messages={}), "messages: Input should be a valid list", id="messages no list"
        ),
        pytest.param(
            body(messages=[*HI, "x"]),
            "messages.1: Input should be a valid dictionary",
            id="message no object",
        ),
        pytest.param(
            body(messages=[{"content": "x"}]), "messages.0.role: Field required", id="no role"
        ),
        pytest.param(
            body(messages=[{"role": "user"}]), "messages.0.content: Field required", id="no content"
        ),
        pytest.param(body(max_tokens=None), "max_tokens: Field required", id="no max_tokens"),
        pytest.param(
            body(max_tokens="9"), "max_tokens: Input should be a valid integer", id="a text"
        ),
        pytest.param(
            body(max_tokens=1.5), "max_tokens: Input should be a valid integer", id="a half"
        ),
        pytest.param(
            body(max_tokens=-1),
            "max_tokens: Input should be greater than or equal to 0",
            id="negative",
        ),
        pytest.param(
            body(temperature="hot"), "temperature: Input should be a valid number", id="temperature"
        ),
        pytest.param(body(stream=1), "stream: Input should be a valid boolean", id="stream"),
        pytest.param(
            body(stop_sequences=["a", 1]),
            "stop_sequences.1: Input should be a valid string",
            id="stop_sequences",
        ),
        pytest.param(
            body(thinking={"type": "enabled", "budget_tokens": "x"}),
            "thinking.budget_tokens: Input should be a valid integer",
            id="inside an object",
        ),
        pytest.param(b'{"model":' + b"[" * 99_999, "model: Input should be", id="deep"),
        pytest.param(
            b'{"system":' + b"[" * 99_999, "The JSON is nested too deeply", id="deep, unread"
        ),
        pytest.param(
            b'{"temperature":1e999,"model":"m","messages":[]}',
            "temperature: Number out of range",
            id="beyond all numbers",
        ),
    ],
)
def test_errors_use_the_words_of_the_api(raw, message):
    assert complaint(raw).startswith(message)


def test_counting_needs_no_max_tokens():
    raw = json.dumps({"model": "m", "messages": HI}).encode()
    assert complaint(raw) == "max_tokens: Field required"
    assert read_request(raw, counting=True).max_tokens is None


@pytest.mark.parametrize(
    ("expected", "read"),
    [
        pytest.param(r"cut \ud83d end", "cut \ufffd end", id="a high one"),
        pytest.param(r"cut \uDE00", "cut \ufffd", id="a low one"),
        pytest.param(r"\ud83d\ud83d\ude00", "\ufffd😀", id="before a pair"),
        pytest.param(r"\ud83d\ude00", "😀", id="a pair stays"),
        pytest.param(r"\\ud83d", r"\ud83d", id="an escaped backslash is no escape"),
        pytest.param(r"\\\ud83d", "\\\ufffd", id="an escape after one is"),
        pytest.param(r"\"\ud83d\"", '"\ufffd"', id="between quotes"),
        pytest.param(r"\u00e9 \ue000", "é \ue000", id="others stay"),
    ],
)
def test_lone_surrogates(expected, read):
    raw = b'{"model":"%b","max_tokens":9,"messages":[{"role":"user","content":"%b"}]}'
    request = read_request(raw % (expected.encode(), expected.encode()))
    assert request.model == read
    assert json.loads(bytes(request.messages[0].content)) == read


# ...its parts...


@pytest.mark.parametrize(
    ("content", "types"),
    [
        pytest.param(b'"text"', ["text"], id="a string is a text block"),
        pytest.param(b"[]", [], id="no blocks"),
        pytest.param(b'[{"type":"a"},{"type":"b","x":1}]', ["a", "b"], id="blocks of any type"),
    ],
)
def test_blocks(content, types):
    assert [block.type for block in blocks_of(Raw(content))] == types


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"7", "content: Input should be a valid string or list", id="a number"),
        pytest.param(b"null", "content: Input should be a valid string or list", id="null"),
        pytest.param(b"[7]", "content.0: Input should be a valid dictionary", id="no block"),
        pytest.param(b"[{}]", "content.0.type: Field required", id="no type"),
    ],
)
def test_invalid_blocks(content, message):
    with pytest.raises(Problem) as caught:
        blocks_of(Raw(content))
    assert caught.value.message.startswith(message)


def test_tools():
    first, second = tools_of(Raw(b'[{"name":"a","defer_loading":true},{"type":"x_1","y":2}]'))
    assert (first.name, first.defer_loading, first.input_schema) == ("a", True, ABSENT)
    assert (second.name, second.type) == ("", "x_1")


def test_a_source_is_required():
    (block,) = blocks_of(Raw(b'[{"type":"image"}]'))
    with pytest.raises(Problem, match="source: Field required"):
        source_of(block)


# ...and an error's body.


@pytest.mark.parametrize("kind", STATUS_OF_KIND)
def test_error_body(kind):
    output = json.loads(error_body(Problem(kind, 'it said "no"\n')))
    assert output == {"type": "error", "error": {"type": kind, "message": 'it said "no"\n'}}


def test_error_body_with_a_request_id():
    output = json.loads(error_body(Problem("api_error", "x"), "req_1"))
    assert output["request_id"] == "req_1"


@pytest.mark.parametrize(
    "written",
    [
        '{"type":"base64","media_type":"image/png","data":"aGk="}',
        '{ "type" : "base64",\n"media_type": "image/svg+xml" , "data": ""}',
        # Other notations of the same content.
        '{"type":"base64","media_type":"image/png","data":"aGk=" }',
        '{"type":"base64","media_type":"image/png","data":"a","x":"b"}',
        r'{"type":"base64","media_type":"image/png","data":"a\\"}',
        r'{"type":"base64","media_type":"image/png","data":"\""}',
        '{"type":"base64","data":"aGk=","media_type":"image/png"}',
        '{"type":"base64","media_type":null,"data":null}',
        '{"type":"url","url":"https://e.x/a.png"}',
        "{}",
    ],
)
def test_a_base64_source_decodes_like_any_other(written):
    source = source_of(Block("image", source=Raw(written.encode())))
    decoded = msgspec.json.decode(written, type=Source)
    assert (source.type, bytes(source.media_type), bytes(source.data)) == (
        decoded.type,
        bytes(decoded.media_type),
        bytes(decoded.data),
    )


@pytest.mark.parametrize("text", ["1" * 300, " " * 300, "a1 " * 100, "12  é3中 b" * 40, "1 " * 150])
def test_characters_are_counted_the_same_in_slices(text, monkeypatch):
    body = text.encode()
    expected = count_characters(body)
    for size in (1, 2, 3, 7, 64):
        monkeypatch.setattr("ccproxy.protocol.messages._SLICE", size)
        assert count_characters(body) == expected
