"""Tests of decoding answers of the Responses API."""

from __future__ import annotations

import pytest

from ccproxy.errors import BadAnswer
from ccproxy.protocol.responses import decode_event, decode_response


@pytest.mark.parametrize(
    ("data", "event_type"),
    [
        pytest.param(b'{"type":"response.created","response":{}}', "response.created", id="plain"),
        pytest.param(b'{"type":"response.new","item":3}', "response.new", id="an unknown event"),
        pytest.param(
            b'{"type":"response.output_text.delta","delta":"a\xff"}',
            "response.output_text.delta",
            id="a byte that is not UTF-8",
        ),
    ],
)
def test_events_are_decoded(data, event_type):
    assert decode_event(data).type == event_type


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"{", id="not JSON"),
        pytest.param(b"3", id="a number"),
        pytest.param(b'{"type":3}', id="a type that is a number"),
        pytest.param(b'{"type":"response.completed","response":3}', id="a wrong type that is read"),
    ],
)
def test_data_that_is_not_an_event(data):
    with pytest.raises(BadAnswer):
        decode_event(data)


def test_a_whole_answer_is_repaired():
    answer = decode_response(b'{"status":"completed","output":[{"type":"message","id":"a\xff"}]}')
    assert (answer.status, answer.output[0].id) == ("completed", "a\ufffd")
    with pytest.raises(BadAnswer):
        decode_response(b"[")
