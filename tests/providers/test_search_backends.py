"""The table of search back ends."""

from __future__ import annotations

import pytest

from ccproxy.providers.presets import load_presets
from ccproxy.providers.search_backends import search_backends, searches_of


def test_every_back_end_has_an_address():
    for name, backend in search_backends().items():
        assert bool(backend.url) != bool(backend.api), name
        assert backend.needs_server or backend.api or backend.url.startswith("https://"), name
        assert set(backend.presets) <= load_presets().keys(), name


@pytest.mark.parametrize(
    ("preset", "base_url", "model", "key", "title"),
    [
        ("kimi", "https://api.moonshot.ai/v1", "kimi-k3", "sk-1", "Kimi's search"),
        ("kimi", "https://api.kimi.com/coding/v1", "kimi-k3", "sk-1", "Kimi Code's search"),
        ("zai", "https://api.z.ai/api/paas/v4", "glm-5", "k", "GLM's search"),
        ("zai", "https://api.z.ai/api/coding/paas/v4", "glm-5", "k", None),
        ("minimax", "https://api.minimax.io/v1", "MiniMax-M3", "sk-cp-1", "MiniMax's search"),
        ("minimax", "https://api.minimax.io/v1", "MiniMax-M3", "sk-1", None),
        ("groq", "https://api.groq.com/openai/v1", "openai/gpt-oss-120b", "k", "Groq's search"),
        ("groq", "https://api.groq.com/openai/v1", "llama", "k", None),
        ("cerebras", "https://api.cerebras.ai/v1", "m", "k", None),
    ],
)
def test_who_searches(preset, base_url, model, key, title):
    serving = (
        each for each in searches_of(preset) if each.serves(base_url=base_url, model=model, key=key)
    )
    assert getattr(next(serving, None), "title", None) == title


@pytest.mark.parametrize(
    ("name", "fields"),
    [("tavily", (True, True)), ("brave", (False, False))],
)
def test_domains_are_sent_to_engines_that_have_a_field_for_them(name, fields):
    assert search_backends()[name].takes_domains == fields
