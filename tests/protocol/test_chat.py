"""Tests of decoding Chat Completions answers."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy.errors import Problem
from ccproxy.protocol.chat import Chunk, decode, is_answer
from ccproxy.protocol.lenient_json import MAX_OBJECTS
from ccproxy.protocol.responses import decode_event, decode_response


def delta_of(data: bytes):
    return decode(data).choices[0].delta


def test_a_chunk():
    chunk = decode(
        b'{"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
        b'"delta":{"role":"assistant","content":"Hi","tool_calls":[{"index":0,"id":"c","type":'
        b'"function","function":{"name":"Read","arguments":"{"}}]},"logprobs":null,'
        b'"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}'
    )
    (choice,) = chunk.choices
    assert (choice.index, choice.finish_reason) == (0, "stop")
    assert choice.delta.content == "Hi"
    (call,) = choice.delta.tool_calls
    assert (call.index, call.id, call.function.name, call.function.arguments) == (
        0,
        "c",
        "Read",
        "{",
    )
    assert chunk.usage == {"prompt_tokens": 1}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"{}", id="nothing"),
        pytest.param(b'{"choices":null}', id="null choices"),
        pytest.param(b'{"choices":[]}', id="no choices"),
        pytest.param(b'{"choices":[{}]}', id="a choice without a delta (Azure)"),
        pytest.param(b'{"choices":[{"delta":null}]}', id="a null delta (Azure)"),
        pytest.param(b'{"choices":[{"delta":{"tool_calls":null}}]}', id="null tool calls"),
        pytest.param(b'{"choices":[{"delta":{"tool_calls":[{}]}}]}', id="an empty tool call"),
        pytest.param(
            b'{"choices":[{"delta":{"tool_calls":[{"function":null}]}}]}', id="a null function"
        ),
        pytest.param(b'{"choices":[{"delta":{"content":[{"type":"text"}]}}]}', id="content parts"),
        pytest.param(b'{"choices":[{"delta":{"content":5}}]}', id="content that is a number"),
        pytest.param(
            b'{"choices":[{"delta":{"function_call":{"arguments":{"a":1}}}}]}',
            id="arguments that are an object",
        ),
    ],
)
def test_unusual_chunks_are_decoded(data):
    assert isinstance(decode(data), Chunk)


@pytest.mark.parametrize(
    ("literal", "text"),
    [
        pytest.param(rb'"a\ud83d"', "a\ufffd", id="the first half of a pair"),
        pytest.param(rb'"\ude00b"', "\ufffdb", id="the second half of a pair"),
        pytest.param(rb'"\ud83d\ude00\ud83d"', "😀\ufffd", id="a whole pair next to a half"),
        pytest.param(rb'"\\ud83d \ud83d"', "\\ud83d \ufffd", id="an escaped backslash is none"),
        pytest.param(b'"a\xff"', "a\ufffd", id="a byte that is not UTF-8"),
        pytest.param(b'"a\tb\nc"', "a\tb\nc", id="control characters that are not escaped"),
    ],
)
def test_slightly_invalid_json_is_repaired(literal, text):
    assert delta_of(b'{"choices":[{"delta":{"content":%b}}]}' % literal).content == text


def test_nan_does_not_invalidate_an_answer():
    data = b'{"choices":[{"delta":{"content":"a"},"logprobs":NaN}],"usage":{"cost":Infinity}}'
    assert delta_of(data).content == "a"


def test_a_byte_order_mark_is_skipped():
    assert delta_of(b'\xef\xbb\xbf{"choices":[{"delta":{"content":"a"}}]}').content == "a"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"oops", id="no JSON"),
        pytest.param(b'{"choices":[{"delta":{"content":"a', id="cut JSON"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'"text"', id="a string"),
        pytest.param(b'{"choices":5}', id="choices that are no list"),
        pytest.param(b'{"choices":[{"delta":"a"}]}', id="a delta that is a string"),
        pytest.param(b"[" * 100_000, id="endless nesting"),
    ],
)
def test_data_that_is_not_an_answer_is_an_api_error(data):
    with pytest.raises(Problem, match="is not valid") as caught:
        decode(data)
    assert caught.value.kind == "api_error"


@pytest.mark.parametrize("read", [decode, decode_event, decode_response])
@pytest.mark.parametrize("item", [b"{}", b"[]"])
def test_the_number_of_objects_is_limited(read, item):
    data = b'{"error":[%b1]}' % ((item + b",") * (MAX_OBJECTS + 1))
    with pytest.raises(Problem, match="more than 100,000 objects"):
        read(data)


def test_the_error_quotes_only_the_beginning():
    with pytest.raises(Problem) as caught:
        decode(b"<html>" + b"x" * 10_000)
    assert "<html>" in caught.value.message
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b'{"choices":[{"delta":{}}]}', False, id="an answer"),
        pytest.param(b'{"choices":[]}', False, id="a usage chunk"),
        pytest.param(b'{"usage":{}}', True, id="no choices"),
        pytest.param(b'{"choices":[],"error":{"code":1}}', True, id="an error next to choices"),
        pytest.param(b'{"choices":[{"error":{"code":1}}]}', True, id="an error in a choice"),
        pytest.param(b'{"choices":[],"base_resp":{"status_code":0}}', True, id="MiniMax"),
    ],
)
def test_chunks_that_may_be_errors(data, expected):
    assert decode(data).may_be_error is expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@settings(deadline=None)
@given(JSON | st.fixed_dictionaries({"choices": JSON}))
def test_any_json_is_decoded_or_refused(value):
    with contextlib.suppress(Problem):  # and nothing else
        assert isinstance(decode(json.dumps(value).encode()), Chunk)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b'{"choices": []}', True, id="an answer"),
        pytest.param(b'\n {"type": "message"}\n', True, id="of any API"),
        pytest.param(b'\xef\xbb\xbf{"text": "\\ud83d"}', True, id="slightly wrong"),
        pytest.param(b'{"text": "half \xff"}', True, id="with bad UTF-8"),
        pytest.param(b'{"choices": 5}', False, id="choices that are no list"),
        pytest.param(b"{{{{", False, id="braces"),
        pytest.param(b"{{{{}}}}", False, id="braces in pairs"),
        pytest.param(b'{"choices": [', False, id="half of an object"),
        pytest.param(b"null", False, id="null"),
        pytest.param(b"[{}]", False, id="a list"),
        pytest.param(b" ", False, id="nothing"),
        pytest.param(b'{"a":' + b"[" * 100_000, False, id="nested beyond reason"),
    ],
)
def test_answers_of_any_api_are_recognized(data, expected):
    assert is_answer(data) is expected


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param(b'{"ok":true,"data":{"choices":[{"delta":{"content":"a"}}]}}', "a", id="read"),
        pytest.param(b'{"data":{"choices":[{"delta":3}]}}', None, id="of wrong types"),
    ],
)
def test_an_answer_in_an_envelope(data, text):
    choices = decode(data).choices
    assert (choices[0].delta.content if choices else None) == text


def test_calls_with_fields_of_wrong_types_keep_their_rest():
    calls = b'[{"index":0,"function":[{"name":"R"}]},{"index":1,"id":"b"}]'
    delta = delta_of(b'{"choices":[{"delta":{"content":"x","tool_calls":%b}}]}' % calls)
    assert [(one.index, one.function and one.function.name) for one in delta.tool_calls] == [
        (0, "R"),
        (1, None),
    ]
