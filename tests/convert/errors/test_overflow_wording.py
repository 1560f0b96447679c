"""Tests of overflow messages: they trigger compaction, and contain only reported numbers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy.convert.errors.body import ErrorBody
from ccproxy.convert.errors.overflow_wording import output_limit, overflow_message
from ccproxy.convert.errors.phrases import OUTPUT_LIMITS

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
def test_claude_code_recognizes_every_wording(text, max_tokens):
    assert KNOWN.match(overflow_message(ErrorBody(text=text), max_tokens))


# The limit for answers, from refusals of longer ones; every text is a provider's.

TEXTS = [
    pytest.param(
        "max_tokens is too large: 20000. This model supports at most 16384 completion tokens, "
        "whereas you provided 20000.",
        16384,
        id="OpenAI",
    ),
    pytest.param(
        "max_tokens: 64000 > 32768, which is the maximum allowed number of output tokens",
        32768,
        id="Anthropic",
    ),
    pytest.param(
        "Invalid max_tokens value, the valid range of max_tokens is [1, 393216]",
        393216,
        id="DeepSeek",
    ),
    pytest.param("Range of max_tokens should be [1, 8192]", 8192, id="DashScope"),
    pytest.param(
        "`max_tokens` must be less than or equal to `16384`, the maximum value for `max_tokens` is "
        "less than the `context_window` for this model",
        16384,
        id="Groq",
    ),
    pytest.param(
        "max_tokens for `llama-3.1-8b-instant` must be less than or equal to 8000",
        8000,
        id="Groq, with the model",
    ),
    pytest.param(
        "max_tokens (393216) exceeds model's maximum output tokens (131072) for model x",
        131072,
        id="Ollama's cloud",
    ),
    pytest.param(
        "Unable to submit request because it has a maxOutputTokens value of 655360 but the "
        "supported range is from 1 (inclusive) to 8193 (exclusive). Update the value.",
        8192,
        id="Vertex, the first that is refused",
    ),
]
OTHERS = [
    pytest.param("Unsupported parameter: 'max_tokens' is not supported", id="a parameter"),
    pytest.param("max_tokens must be at least 1, got 0", id="a least value"),
    pytest.param("temperature must be less than or equal to 2", id="another parameter"),
    pytest.param("This model's maximum context length is 4096 tokens", id="the window"),
    pytest.param("Range of max_tokens should be [0, 0]", id="no answer at all"),
    pytest.param("", id="no text"),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_the_limit_is_read(text, expected):
    assert output_limit(f"Error: {text} (request 12345)") == expected


@pytest.mark.parametrize("text", OTHERS)
def test_other_texts_name_no_limit(text):
    assert output_limit(text) is None


@pytest.mark.parametrize("pattern", OUTPUT_LIMITS, ids=lambda each: each.pattern)
def test_every_wording_has_a_source(pattern):
    assert any(pattern.search(str(param.values[0])) for param in TEXTS)
