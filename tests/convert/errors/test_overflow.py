"""Tests of overflow messages: worded for compaction, with reported numbers only."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy.convert.errors.body import ErrorBody
from ccproxy.convert.errors.overflow import overflow_message

KNOWN = re.compile(
    r"prompt is too long|input length and `max_tokens` exceed context limit", re.IGNORECASE
)


def explanation_of(text, max_tokens=None, **numbers):
    """Return the explanation, without the provider's text."""
    message = overflow_message(ErrorBody(text=text, **numbers), max_tokens)
    ours, _, theirs = message.partition(". The provider's message: ")
    assert theirs == (text or "(empty)")
    return ours


def test_a_prompt_without_numbers_is_too_long_for_the_model():
    assert explanation_of("") == "prompt is too long for this model"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "This model's maximum context length is 131072 tokens. However, you requested 137000 "
            "tokens (128808 in the messages, 8192 in the completion).",
            "input length and `max_tokens` exceed context limit: 128808 + 8192 > 131072, decrease "
            "input length or `max_tokens` and try again",
            id="it would fit with a shorter answer",
        ),
        pytest.param(
            "This model's maximum context length is 131072 tokens. However, you requested 140384 "
            "tokens (132192 in the messages, 8192 in the completion).",
            "prompt is too long: 132192 tokens > 131072 maximum",
            id="it would not fit",
        ),
        pytest.param(
            "This endpoint's maximum context length is 65536 tokens. However, you requested about "
            "70000 tokens (37000 of text input, 1000 of tool input, 32000 in the output).",
            "input length and `max_tokens` exceed context limit: 38000 + 32000 > 65536, decrease "
            "input length or `max_tokens` and try again",
            id="OpenRouter counts the tools apart",
        ),
        pytest.param(
            "You passed 28673 input tokens and requested 4096 output tokens. However, the model's "
            "context length is only 32768 tokens",
            "prompt is too long: at least 28673 tokens and 4096 of output > 32768",
            id="vLLM stops counting at the limit",
        ),
        pytest.param(
            "You passed 30000 input tokens and requested 4096 output tokens. However, the model's "
            "context length is only 32768 tokens",
            "input length and `max_tokens` exceed context limit: 30000 + 4096 > 32768, decrease "
            "input length or `max_tokens` and try again",
            id="vLLM, counted to its end",
        ),
        pytest.param(
            "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum "
            "context length is 32768 tokens and your request has 1200 input tokens (32000 > 32768 "
            "- 1200).",
            "input length and `max_tokens` exceed context limit: 1200 + 32000 > 32768, decrease "
            "input length or `max_tokens` and try again",
            id="vLLM refuses max_tokens",
        ),
        pytest.param(
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease",
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease "
            "input length or `max_tokens` and try again",
            id="Anthropic",
        ),
    ],
)
def test_prompt_and_answer_together_are_too_long(text, expected):
    assert explanation_of(text) == expected


@pytest.mark.parametrize(
    ("max_tokens", "expected"),
    [
        pytest.param(
            8000,
            "input length and `max_tokens` exceed context limit: 120000 + 8000 > 125000, decrease "
            "input length or `max_tokens` and try again",
            id="the requested max_tokens do not fit",
        ),
        pytest.param(
            100, "prompt is too long: the provider's limit is 125000 tokens", id="it would fit"
        ),
        pytest.param(
            None, "prompt is too long: the provider's limit is 125000 tokens", id="not known"
        ),
    ],
)
def test_a_prompt_below_the_limit_is_not_called_too_long(max_tokens, expected):
    text = "maximum context length is 125000 tokens, your messages resulted in 120000 tokens"
    assert explanation_of(text, max_tokens) == expected


def test_numbers_in_fields_take_precedence_over_text():
    text = "the request exceeds the available context size 7, try increasing it"
    assert explanation_of(text, prompt=40000, limit=32768) == (
        "prompt is too long: 40000 tokens > 32768 maximum"
    )


@pytest.mark.parametrize("numbers", [{"prompt": 40000}, {"limit": 32768}])
def test_one_number_in_a_field_is_not_enough(numbers):
    assert explanation_of("too long", **numbers) == "prompt is too long for this model"


@given(st.text(max_size=200), st.none() | st.integers(0, 10**6))
def test_claude_code_recognises_every_wording(text, max_tokens):
    assert KNOWN.match(overflow_message(ErrorBody(text=text), max_tokens))
