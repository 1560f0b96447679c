"""The short way of a whole answer is the long way, or it is not taken."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy.convert.chat.plain_answer import plain_message
from ccproxy.convert.chat.stream import ChatToMessageStream
from ccproxy.convert.chat.whole_answer import fold, to_events
from ccproxy.protocol import chat
from tests.chat_answers import context, whole


def both_ways(completion, **settings):
    body, known = json.dumps(completion).encode(), context(**settings)
    short = plain_message(chat.decode(body), known)
    return short, fold(to_events(body, ChatToMessageStream(known), known))


def changed(completion, **choice):
    (first,) = completion["choices"]
    return {**completion, "choices": [{**first, **choice}]}


@given(
    text=st.one_of(
        st.text(min_size=1).filter(str.strip), st.sampled_from(["<", "<think", "a <think>b"])
    ),
    reason=st.sampled_from(["stop", "length"]),
    usage=st.one_of(
        st.none(),
        st.just({}),
        st.fixed_dictionaries(
            {"prompt_tokens": st.integers(0, 9), "completion_tokens": st.integers(0, 9)},
            optional={"prompt_tokens_details": st.just({"cached_tokens": 3})},
        ),
    ),
)
def test_one_text_takes_the_short_way_and_is_the_same(text, reason, usage):
    completion = {**changed(whole(text), finish_reason=reason), "usage": usage}
    short, long = both_ways(completion)
    assert short == long
    assert short is not None


@pytest.mark.parametrize(
    ("completion", "settings"),
    [
        pytest.param(whole(None), {}, id="nothing said"),
        pytest.param(whole(" \n"), {}, id="white space"),
        pytest.param(whole([{"type": "text", "text": "x"}]), {}, id="parts"),
        pytest.param(whole("x", reasoning_content="hm"), {}, id="reasoning"),
        pytest.param(whole("x", reasoning="hm"), {}, id="reasoning by its other name"),
        pytest.param(whole("x", refusal="no"), {}, id="a refusal"),
        pytest.param(
            whole("x", tool_calls=[{"id": "c", "function": {"name": "f", "arguments": "{}"}}]),
            {},
            id="a tool call",
        ),
        pytest.param(
            whole("x", function_call={"name": "f", "arguments": "{}"}), {}, id="a function"
        ),
        pytest.param(changed(whole("x"), finish_reason="tool_calls"), {}, id="an unusual end"),
        pytest.param(changed(whole("x"), finish_reason=None), {}, id="no end"),
        pytest.param(changed(whole("x"), finish_reason=["stop"]), {}, id="an end that is no word"),
        pytest.param(
            changed(whole("x"), usage={"prompt_tokens": 1, "completion_tokens": 2}),
            {},
            id="usage in the choice",
        ),
        pytest.param({**whole("x"), "x_groq": {"usage": {}}}, {}, id="usage of Groq's"),
        pytest.param({**whole("x"), "choices": whole("x")["choices"] * 2}, {}, id="two choices"),
        pytest.param(
            whole("x END y"), {"stop_sequences": ("END",)}, id="a stop sequence to cut at"
        ),
        pytest.param(whole("\n<think>x</think>y"), {}, id="reasoning in the text"),
    ],
)
def test_everything_else_takes_the_long_way(completion, settings):
    short, long = both_ways(completion, **settings)
    assert short is None
    assert long["type"] == "message"
