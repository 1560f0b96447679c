"""
The costs of 30 requests, compared with figures that were calculated by hand.

The rates are the vendors' published rates of 2026-11-28, in dollars per million tokens; each row
repeats the rates that it uses. The vendors' pages: openai.com/api/pricing (one threshold of
272,000 tokens, on the whole request), platform.claude.com/docs/en/about-claude/pricing,
ai.google.dev/gemini-api/docs/pricing, api-docs.deepseek.com/quick_start/pricing (peak hours are
01-04 and 06-10 UTC from Monday to Friday), platform.moonshot.ai/docs/pricing, docs.x.ai/docs/models,
platform.minimax.io/docs/pricing, alibabacloud.com/help/en/model-studio/models,
docs.z.ai/guides/overview/pricing, mistral.ai/pricing, groq.com/pricing.
"""

# ruff: noqa: E501 - one request per line

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ccproxy.config.fleet import Entry
from ccproxy.config.worker_config import load_worker
from ccproxy.providers.pricing import Rates

M = 1_000_000
PEAK = datetime(2026, 11, 27, 7, 30, tzinfo=UTC).timestamp()
"""A Friday."""
NOON = datetime(2026, 11, 27, 12, 0, tzinfo=UTC).timestamp()
SATURDAY = datetime(2026, 11, 28, 7, 30, tzinfo=UTC).timestamp()
FIRST_OF_PEAK = datetime(2026, 11, 27, 1, 0, tzinfo=UTC).timestamp()
LAST_BEFORE_PEAK = datetime(2026, 11, 27, 0, 59, 59, tzinfo=UTC).timestamp()


def used(
    fresh: int, output: int, read: int = 0, written: int = 0, *, hour: int = 0, searches: int = 0
) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "input_tokens": fresh,
        "output_tokens": output,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
    }
    if hour:
        usage["cache_creation"] = {"ephemeral_1h_input_tokens": hour}
    if searches:
        usage["server_tool_use"] = {"web_search_requests": searches}
    return usage


# fmt: off
REQUESTS = [
    # OpenAI: 2 / 10, cache 0.1, writes 2.5; above 272,000: 4 / 15, cache 0.2, writes 5.
    ("openai", "gpt-6.1-sol", used(10_000, 1_000), NOON, 0.03, None, "0.02 + 0.01"),
    ("openai", "gpt-6.1-sol", used(2_000, 500, 100_000), NOON, 0.019, None, "0.004 + 0.005 + 0.010"),
    ("openai", "gpt-6.1-sol", used(2_000, 500, 260_000, 10_000), NOON, 0.06, None, "272,000 exactly: 0.004 + 0.005 + 0.026 + 0.025"),
    ("openai", "gpt-6.1-sol", used(2_001, 500, 260_000, 10_000), NOON, 0.117504, 0.057502, "one token more: 0.008004 + 0.0075 + 0.052 + 0.05"),
    ("openai", "gpt-6.1-sol", used(300_000, 10_000), NOON, 1.35, 0.65, "1.2 + 0.15, instead of 0.6 + 0.1"),
    # 2.5 / 15, cache 0.25, writes not published; above 272,000: 5 / 22.5, cache 0.5.
    ("openai", "gpt-5.4", used(100_000, 2_000, 50_000), NOON, 0.2925, None, "0.25 + 0.03 + 0.0125"),
    ("openai", "gpt-5.4", used(100_000, 2_000, 200_000), NOON, 0.645, 0.315, "0.5 + 0.045 + 0.1, instead of 0.25 + 0.03 + 0.05"),
    ("openai", "gpt-5.4", used(100_000, 2_000, 0, 1), NOON, None, None, "a write without a price"),
    # 4 / 20, cache 0.4, writes 5.
    ("openai", "gpt-5.6-sol", used(50_000, 5_000, 20_000, 30_000), NOON, 0.458, None, "0.2 + 0.1 + 0.008 + 0.15"),
    # Anthropic: 4 / 20, cache 0.2, writes 5 (5 min) and 8 (1 h), searches 10 per 1,000.
    ("anthropic", "claude-opus-5-5", used(1_000, 2_000, 150_000, 4_000), NOON, 0.094, None, "0.004 + 0.04 + 0.03 + 0.02"),
    ("anthropic", "claude-opus-5-5", used(1_000, 2_000, 150_000, 4_000, hour=4_000), NOON, 0.106, None, "0.004 + 0.04 + 0.03 + 0.032"),
    ("anthropic", "claude-opus-5-5", used(1_000, 2_000, 0, 4_000, hour=1_000), NOON, 0.067, None, "0.004 + 0.04 + 3,000·5 + 1,000·8"),
    ("anthropic", "claude-opus-5-5", used(1_000, 2_000, searches=3), NOON, 0.074, None, "0.004 + 0.04 + 3·0.01"),
    # 2 / 10, cache 0.1, writes 2.5 and 4, without a threshold.
    ("anthropic", "claude-sonnet-5-5", used(300_000, 4_000, 500_000), NOON, 0.69, None, "0.6 + 0.04 + 0.05"),
    # 3 / 15, cache 0.3; above 200,000: 6 / 22.5, cache 0.6.
    ("anthropic", "claude-sonnet-4-5", used(10_000, 1_000, 195_000), NOON, 0.1995, 0.096, "0.06 + 0.0225 + 0.117, instead of 0.03 + 0.015 + 0.0585"),
    # 0.1 / 0.5, cache 0.01; above 100,000: five times as much.
    ("anthropic", "claude-haiku-5-5", used(100_000, 1_000), NOON, 0.0105, None, "0.01 + 0.0005"),
    ("anthropic", "claude-haiku-5-5", used(100_001, 1_000), NOON, 0.0525005, 0.0420004, "0.0500005 + 0.0025"),
    # DeepSeek at peak: 0.3 / 1.2, cache 0.006; otherwise half of it.
    ("deepseek", "deepseek-flash", used(20_000, 4_000, 500_000), PEAK, 0.0138, None, "0.006 + 0.0048 + 0.003"),
    ("deepseek", "deepseek-flash", used(20_000, 4_000, 500_000), NOON, 0.0069, None, "half"),
    ("deepseek", "deepseek-flash", used(20_000, 4_000, 500_000), SATURDAY, 0.0069, None, "half on Saturday"),
    ("deepseek", "deepseek-flash", used(M, 0), FIRST_OF_PEAK, 0.3, None, "01:00 is peak"),
    ("deepseek", "deepseek-flash", used(M, 0), LAST_BEFORE_PEAK, 0.15, None, "00:59:59 is not"),
    # 1.32 / 3.96, cache 0.044.
    ("deepseek", "deepseek-v4-pro", used(100_000, 10_000, 100_000), PEAK, 0.176, None, "0.132 + 0.0396 + 0.0044"),
    # Kimi: 3 / 15, cache 0.3, writes 3 and 6 (1 h).
    ("kimi", "kimi-k3", used(10_000, 3_000, 90_000, 5_000), NOON, 0.117, None, "0.03 + 0.045 + 0.027 + 0.015"),
    # Gemini: 2 / 12, cache 0.2; above 200,000: 4 / 18, cache 0.4.
    ("gemini", "gemini-3.1-pro-preview", used(150_000, 8_000, 60_000), NOON, 0.768, 0.36, "0.6 + 0.144 + 0.024, instead of 0.3 + 0.096 + 0.012"),
    # MiniMax: 0.3 / 1.2, cache 0.06; above 512,000: 0.6 / 2.4, cache 0.12.
    ("minimax", "MiniMax-M3", used(12_000, 2_000, 500_000), NOON, 0.036, None, "512,000 exactly: 0.0036 + 0.0024 + 0.03"),
    # Qwen: 1 / 5; above 32,000: 1.8 / 9; above 128,000: 3 / 15; above 256,000: 6 / 60.
    ("qwen", "qwen3-coder-plus", used(130_000, 1_000), NOON, 0.405, 0.27, "the last threshold counts: 0.39 + 0.015, instead of 0.13 + 0.005"),
    # xAI: 2 / 6, cache 0.5; above 200,000: 4 / 12, cache 1.
    ("xai", "grok-4.7", used(1_000, 1_000, 210_000), NOON, 0.226, 0.113, "0.004 + 0.012 + 0.21"),
    # Z.ai: 1.4 / 4.4, cache 0.26.
    ("zai", "glm-5.3", used(40_000, 2_000, 10_000), NOON, 0.0674, None, "0.056 + 0.0088 + 0.0026"),
    # Groq: 0.15 / 0.6, cache 0.075.
    ("groq", "openai/gpt-oss-120b", used(100_000, 10_000, 20_000), NOON, 0.0225, None, "0.015 + 0.006 + 0.0015"),
]
# fmt: on


def models_of(provider: str, tmp_path: Any, **settings: str) -> Any:
    entry = Entry(port=1, env_file=tmp_path / "x.env", label="x")
    key = {"PROVIDER": provider, "PROVIDER_API_KEY": "sk-a-key-of-a-test", **settings}
    return load_worker(None, entry=entry, environ=key).models


@pytest.mark.parametrize(
    ("provider", "model", "usage", "at", "cost", "extra"),
    [pytest.param(*row[:6], id=f"{row[1]}: {row[6]}") for row in REQUESTS],
)
def test_a_request_costs_what_the_vendor_charges(provider, model, usage, at, cost, extra, tmp_path):
    price = models_of(provider, tmp_path).price(model)
    assert price.cost(usage, at=at) == (None if cost is None else pytest.approx(cost, rel=1e-9))
    assert price.extra_cost(usage, at=at) == (None if extra is None else pytest.approx(extra))


def test_the_catalogue_has_the_rates_of_the_batch_api(tmp_path):
    """OpenAI: half of 1.25 / 10, cache 0.125. The rates are shown but never charged."""
    price = models_of("openai", tmp_path).price("gpt-5")
    assert price.batch == Rates(input=0.625, output=5.0, cache_read=0.0625)
    assert price.cost(used(M, 0), at=NOON) == pytest.approx(1.25)


def test_the_table_has_thirty_requests():
    assert len(REQUESTS) == 30


def test_the_users_own_price_replaces_all_rates(tmp_path):
    models = models_of("openai", tmp_path, PRICES="gpt-6.1-*=1/2/0.5/3/4")
    price = models.price("gpt-6.1-sol")
    usage = used(400_000, 1_000, 10_000, 2_000, hour=1_000)
    assert price.cost(usage, at=NOON) == pytest.approx(0.4 + 0.002 + 0.005 + 0.003 + 0.004)
    assert price.extra_cost(usage, at=NOON) is None
    assert models.price("a-model-without-a-price") is None
