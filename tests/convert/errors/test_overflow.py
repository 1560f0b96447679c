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


def told(text, max_tokens=None, **numbers):
    """Return the text before the provider's own."""
    message = overflow_message(ErrorBody(text=text, **numbers), max_tokens)
    ours, _, theirs = message.partition(". The provider's message: ")
    assert theirs == (text or "(empty)")
    return ours


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "This model's maximum context length is 128000 tokens. However, your messages "
            "resulted in 150210 tokens.",
            "prompt is too long: 150210 tokens > 128000 maximum",
            id="limit first",
        ),
        pytest.param(
            "The input token count (1200000) exceeds the maximum number of tokens allowed "
            "(1048576).",
            "prompt is too long: 1200000 tokens > 1048576 maximum",
            id="Gemini",
        ),
        pytest.param(
            "The input token count (1,200,000) exceeds the maximum number of tokens allowed "
            "(1_048_576).",
            "prompt is too long: 1200000 tokens > 1048576 maximum",
            id="thousands are set apart",
        ),
        pytest.param(
            "Your request exceeded model token limit: 262144 (requested: 269030)",
            "prompt is too long: 269030 tokens > 262144 maximum",
            id="Kimi",
        ),
        pytest.param(
            "Range of input length should be [1, 129024]",
            "prompt is too long: the provider's limit is 129024 tokens",
            id="Qwen names the limit only",
        ),
        pytest.param(
            "Prompt contains 40959 tokens and 0 draft tokens, too large for model with 32768 "
            "maximum context length",
            "prompt is too long: 40959 tokens > 32768 maximum",
            id="Mistral",
        ),
        pytest.param(
            "request (131168 tokens) exceeds the available context size (131072 tokens)",
            "prompt is too long: 131168 tokens > 131072 maximum",
            id="llama.cpp",
        ),
        pytest.param(
            "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
            "prompt is too long: 537812 tokens > 131072 maximum",
            id="xAI",
        ),
        pytest.param(
            "Current length is 69553 while limit is 65536",
            "prompt is too long: 69553 tokens > 65536 maximum",
            id="Cerebras",
        ),
        pytest.param(
            "invalid params, context window exceeds limit (2013)",
            "prompt is too long for this model",
            id="MiniMax's code is no number of tokens",
        ),
        pytest.param("", "prompt is too long for this model", id="no words at all"),
    ],
)
def test_the_prompt_alone_is_too_long(text, expected):
    assert told(text) == expected


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
            id="it would not",
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
    ],
)
def test_prompt_and_answer_together_are_too_long(text, expected):
    assert told(text) == expected


@pytest.mark.parametrize(
    ("max_tokens", "expected"),
    [
        pytest.param(
            8000,
            "input length and `max_tokens` exceed context limit: 120000 + 8000 > 125000, decrease "
            "input length or `max_tokens` and try again",
            id="what was asked for does not fit",
        ),
        pytest.param(
            100, "prompt is too long: the provider's limit is 125000 tokens", id="it would fit"
        ),
        pytest.param(
            None, "prompt is too long: the provider's limit is 125000 tokens", id="not known"
        ),
    ],
)
def test_a_prompt_below_the_limit_is_not_said_to_be_above_it(max_tokens, expected):
    text = "maximum context length is 125000 tokens, your messages resulted in 120000 tokens"
    assert told(text, max_tokens) == expected


def test_numbers_in_fields_go_before_numbers_in_words():
    text = "the request exceeds the available context size 7, try increasing it"
    assert told(text, prompt=40000, limit=32768) == (
        "prompt is too long: 40000 tokens > 32768 maximum"
    )


@pytest.mark.parametrize("numbers", [{"prompt": 40000}, {"limit": 32768}])
def test_one_number_in_a_field_is_not_enough(numbers):
    assert told("too long", **numbers) == "prompt is too long for this model"


@given(st.text(max_size=200), st.none() | st.integers(0, 10**6))
def test_claude_code_knows_every_wording(text, max_tokens):
    assert KNOWN.match(overflow_message(ErrorBody(text=text), max_tokens))
