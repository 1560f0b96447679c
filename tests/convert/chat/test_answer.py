"""One event or one body of a provider: an answer, an error in disguise, or neither."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy.convert.chat.answer import read_completion, read_event
from ccproxy.convert.errors.causes import Cause
from ccproxy.convert.errors.classify import ProviderError
from ccproxy.errors import Problem
from ccproxy.protocol.chat import Chunk
from ccproxy.protocol.sse import ServerEvent
from ccproxy.providers.quirks import PLAIN, Quirks
from tests.chat_answers import say, whole


def event(data, name=b""):
    return ServerEvent(name, data if isinstance(data, bytes) else json.dumps(data).encode())


BALANCE = {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "no balance"}}
FINE = {"base_resp": {"status_code": 0, "status_msg": ""}}
IN_CHOICE = {"choices": [{"index": 0, "delta": {}, "error": {"code": 429, "message": "slow down"}}]}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(say("a"), id="a chunk"),
        pytest.param({"choices": []}, id="no choices"),
        pytest.param({"id": "x", "usage": {"prompt_tokens": 1}}, id="usage alone"),
        pytest.param({**say("a"), "error": None}, id="error null"),
        pytest.param({**say("a"), "error": {}}, id="an empty error"),
        pytest.param({**say("a"), **FINE}, id="MiniMax says that all is well"),
        pytest.param(say('the word "error" in a text'), id="a text about errors"),
        pytest.param({}, id="nothing at all"),
    ],
)
def test_chunks(data):
    assert isinstance(read_event(event(data), PLAIN), Chunk)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        pytest.param({"error": {"code": 429, "message": "m"}}, Cause.RATE_LIMIT, id="an error"),
        pytest.param({"error": "overloaded"}, Cause.OVERLOAD, id="a string"),
        pytest.param(
            {**say("a"), "error": {"code": 502, "message": "m"}}, Cause.SERVER, id="beside choices"
        ),
        pytest.param(IN_CHOICE, Cause.RATE_LIMIT, id="in a choice"),
        pytest.param(BALANCE, Cause.OUT_OF_CREDIT, id="MiniMax"),
        pytest.param(
            [{"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}}],
            Cause.OVERLOAD,
            id="Gemini's list",
        ),
        pytest.param(
            {"object": "error", "message": "prompt is too long", "code": 400},
            Cause.OVERFLOW,
            id="vLLM",
        ),
        pytest.param(
            {"type": "error", "error": {"type": "overloaded_error", "message": "m"}},
            Cause.OVERLOAD,
            id="Anthropic's envelope",
        ),
    ],
)
def test_errors_in_a_stream(data, cause):
    found = read_event(event(data), PLAIN)
    if not isinstance(found, ProviderError):  # vLLM's has no "error" key: known by its event
        found = read_completion(json.dumps(data).encode(), PLAIN)
    assert isinstance(found, ProviderError)
    assert found.cause is cause


def test_an_error_event_without_an_error_is_one_all_the_same():
    with pytest.raises(Problem, match=r'broke off with an error: \{"message": "boom"\}') as broken:
        read_event(event({"message": "boom"}, b"error"), PLAIN)
    assert broken.value.kind == "api_error"


def test_an_error_event_with_an_error_says_what_it_is():
    found = read_event(event({"error": {"message": "Rate limit", "code": 429}}, b"error"), PLAIN)
    assert isinstance(found, ProviderError)
    assert found.cause is Cause.RATE_LIMIT


@pytest.mark.parametrize("name", [b"", b"message", b"completion.chunk"])
def test_other_names_of_events_mean_nothing(name):
    assert isinstance(read_event(event(say("a"), name), PLAIN), Chunk)


@pytest.mark.parametrize("data", [b"Internal error", b"", b"42", b'"text"', b"[]", b"[1]"])
def test_what_is_neither_is_a_problem(data):
    with pytest.raises(Problem, match="no answer"):
        read_event(event(data), PLAIN)


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        pytest.param(
            {"error": {"code": 402, "message": "m"}}, Cause.OUT_OF_CREDIT, id="OpenRouter"
        ),
        pytest.param(BALANCE, Cause.OUT_OF_CREDIT, id="MiniMax"),
        pytest.param({"detail": "Not Found"}, Cause.SERVER, id="FastAPI"),
        pytest.param({"errors": {"message": "Request limit exceeded."}}, Cause.RATE_LIMIT, id="ms"),
        pytest.param(
            {"choices": [{"message": {}, "error": {"code": 429, "message": "slow"}}]},
            Cause.RATE_LIMIT,
            id="in a choice",
        ),
    ],
)
def test_errors_under_a_200(body, cause):
    found = read_completion(json.dumps(body).encode(), PLAIN)
    assert isinstance(found, ProviderError)
    assert found.cause is cause


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(whole("a"), id="an answer"),
        pytest.param({**whole("a"), "error": None}, id="error null"),
        pytest.param({**whole("a"), **FINE}, id="MiniMax"),
        pytest.param({**whole("a"), "detail": "x", "message": "y"}, id="with strange fields"),
    ],
)
def test_answers_under_a_200(body):
    found = read_completion(json.dumps(body).encode(), PLAIN)
    assert isinstance(found, Chunk)
    assert found.choices[0].message.content == "a"


def test_a_quirk_decides_what_a_quota_is():
    data = {"error": {"message": "You exceeded your current quota", "code": 429}}
    quirks = Quirks(quota_means_rate=True)
    assert read_event(event(data), PLAIN).cause is Cause.OUT_OF_CREDIT
    assert read_event(event(data), quirks).cause is Cause.RATE_LIMIT
    assert read_completion(json.dumps(data).encode(), quirks).cause is Cause.RATE_LIMIT


@given(st.binary(max_size=80), st.sampled_from([b"", b"error"]))
def test_any_bytes_are_read_or_refused(data, name):
    for read in (
        lambda: read_event(ServerEvent(name, data), PLAIN),
        lambda: read_completion(data, PLAIN),
    ):
        with contextlib.suppress(Problem):  # and nothing else
            assert isinstance(read(), Chunk | ProviderError)
