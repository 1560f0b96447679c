"""The longest answer, read from refusals of a longer one; every text is a provider's own."""

from __future__ import annotations

import pytest

from ccproxy.convert.errors.output_limit import output_limit
from ccproxy.convert.errors.phrases import OUTPUT_LIMITS

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
def test_every_wording_was_seen(pattern):
    assert any(pattern.search(str(param.values[0])) for param in TEXTS)
