"""Tests of model families: their quirks apply on every server that does not override them."""

from __future__ import annotations

import pytest

from ccproxy.providers.presets import generic_preset, load_presets, with_family
from ccproxy.routing.tiers import ModelMap

SERVERS = ("vllm", "sglang", "nim", "modelscope", "doubao", "requesty", "lmstudio", "ollama")


def quirks(server, model):
    preset = load_presets()[server] if server else generic_preset()
    models = ModelMap(
        big=model, middle=model, small=model, cards=preset.cards(), unknown=preset.unknown()
    )
    return with_family(models.card(model), model).quirks


def test_reasoning_is_sent_back_wherever_the_model_is_served():
    models = ("deepseek-v4-pro", "deepseek-ai/DeepSeek-V4-Pro", "kimi-k2.6", "kimi-k3", "mimo-v2.5")
    refused = [
        (server, model)
        for server in ("", *SERVERS)
        for model in models
        if quirks(server, model).history == "drop" or not quirks(server, model).history_required
    ]
    assert refused == []


def test_mistral_models_follow_their_templates_wherever_they_are_served():
    models = ("mistralai/Mistral-Small-3.2-24B", "devstral-2", "mistralai/ministral-3")
    expected = ("nine", False, True, "drop")
    others = []
    for server in ("", *SERVERS):
        for model in models:
            result = quirks(server, model)
            fields = (result.tool_ids, result.user_after_tool, result.merge_user_messages)
            if (*fields, result.history) != expected or result.template_kwargs:
                others.append((server, model))
    assert others == []


@pytest.mark.parametrize(
    ("server", "model", "field", "value"),
    [
        pytest.param("groq", "moonshotai/kimi-k2.6", "history", "drop", id="the preset wins"),
        pytest.param("openrouter", "moonshotai/kimi-k3", "history", "reasoning_details", id="too"),
        pytest.param(
            "mistral", "magistral-medium", "history", "thinking_parts", id="the card wins"
        ),
        pytest.param("kimi", "kimi-k2-0905", "tool_ids", "any", id="the maker's own server"),
        pytest.param("groq", "moonshotai/kimi-k2-instruct", "tool_ids", "functions", id="Kimi K2"),
        pytest.param("vllm", "moonshotai/Kimi-K2.6", "tool_ids", "functions", id="without case"),
        pytest.param("vllm", "my-deepseek-v4", "history_required", False, id="another name"),
    ],
)
def test_precedence(server, model, field, value):
    assert getattr(quirks(server, model), field) == value
