"""Tests of the provider presets and of every quirk that they set."""

from __future__ import annotations

import re
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from ccproxy.config.fleet_check import load_all
from ccproxy.config.parsers import is_loopback
from ccproxy.config.worker_config import load_worker
from ccproxy.protocol.headers import is_framing_header, is_header_name
from ccproxy.providers.cards import ModelCard
from ccproxy.providers.presets import (
    Preset,
    bypass_url,
    generic_preset,
    load_presets,
    preset_for_auth,
    preset_for_host,
    with_auto_cache,
    with_extra_body,
)
from ccproxy.providers.quirks import PLAIN, Quirks

NAMES = list(load_presets())
LOCAL = ("ollama", "lmstudio", "vllm", "sglang", "llamacpp")
KEY = "sk-provider-000000001"


def configure(name, **settings):
    preset = load_presets()[name]
    environ = {"PROVIDER": name, **settings}
    if preset.needs_key:
        environ.setdefault("PROVIDER_API_KEY", KEY)
    if preset.example_url:
        environ.setdefault("PROVIDER_BASE_URL", preset.example_url)
    return load_worker(None, environ=environ)


def quirks(name, model):
    return configure(name).target(model, "chat").quirks


def test_documented_presets_exist():
    promised = (
        "openai azure kimi zai bigmodel minimax gemini deepseek qwen modelscope doubao openrouter "
        "groq cerebras mistral xai nim copilot ollama lmstudio vllm sglang llamacpp anthropic demo "
        "kimi-code mimo meta stepfun tencent longcat opencode opencode-go vercel fireworks "
        "together siliconflow novita deepinfra baseten nebius chutes huggingface ollama-cloud"
    )
    assert set(NAMES) == {*promised.split(), "requesty"}


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_needs_only_a_key(name):
    config = configure(name)
    assert config.provider == name
    assert config.provider_name == load_presets()[name].title
    for model in config.models.tiers():
        assert config.models.pick(model) == model
        assert config.target(model).provider == name


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_consistent(name):
    preset = load_presets()[name]
    assert preset.needs_key == bool(preset.key_page)
    assert preset.base_url or preset.example_url
    for url in filter(None, (preset.base_url, preset.native_url)):
        assert not url.endswith("/")
    assert all(
        is_header_name(header) and not is_framing_header(header) for header in preset.headers
    )
    for card in (*preset.cards(), preset.unknown()):
        assert isinstance(card.quirks, Quirks)


@pytest.mark.parametrize("name", NAMES)
def test_no_card_is_hidden_by_an_earlier_one(name):
    """The first match applies, so a name after a matching pattern would have no effect."""
    models = replace(configure(name).models, rows={})
    for card in models.cards:
        assert card.pattern
        example = card.pattern.replace("*", "").replace("?", "1")
        if "[" not in example:
            result = models.card(example)
            assert result.pattern == card.pattern or result.quirks == card.quirks, card.pattern


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_selected_by_its_host(name):
    host = urlsplit(load_presets()[name].base_url).hostname or ""
    if host and not is_loopback(host) and load_presets()[name].hosts:
        assert preset_for_host(host) == name


def test_a_quirk_that_does_not_exist_is_refused():
    preset = Preset(title="x", quirks={"no_such_quirk": True})
    with pytest.raises(msgspec.ValidationError, match="no_such_quirk"):
        preset.unknown()


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("kimi", "https://api.moonshot.ai/anthropic/v1/messages"),
        ("zai", "https://api.z.ai/api/anthropic/v1/messages"),
        ("bigmodel", "https://open.bigmodel.cn/api/anthropic/v1/messages"),
        ("minimax", "https://api.minimax.io/anthropic/v1/messages"),
        ("deepseek", "https://api.deepseek.com/anthropic/v1/messages"),
        ("qwen", "https://dashscope-intl.aliyuncs.com/apps/anthropic/v1/messages"),
        ("doubao", "https://ark.cn-beijing.volces.com/api/compatible/v1/messages"),
        ("modelscope", "https://api-inference.modelscope.cn/v1/messages"),
        ("openrouter", "https://openrouter.ai/api/v1/messages"),
        ("copilot", "https://api.githubcopilot.com/v1/messages"),
        ("vllm", "http://127.0.0.1:8000/v1/messages"),
        ("llamacpp", "http://127.0.0.1:8080/v1/messages"),
        ("ollama", "http://127.0.0.1:11434/v1/messages"),
        ("lmstudio", "http://127.0.0.1:1234/v1/messages"),
        ("sglang", "http://127.0.0.1:30000/v1/messages"),
        ("anthropic", "https://api.anthropic.com/v1/messages"),
    ],
)
def test_native_endpoints(name, url):
    config = configure(name, PROVIDER_API="messages")
    assert config.messages_url() == url


# Expected quirks of models, by preset.

SAID: list[tuple[str, str, dict[str, Any]]] = [
    # OpenAI
    ("openai", "gpt-4.1", {"max_tokens_field": "max_completion_tokens", "pdf": "file"}),
    ("openai", "gpt-4.1", {"sampling": True, "reasoning": "none", "top_k": False, "stop": True}),
    ("openai", "gpt-4.1", {"history": "drop", "tool_ids": "forty", "cache_control": False}),
    ("openai", "o3", {"stop": False, "sampling": False, "always_reasons": True}),
    ("openai", "o4-mini", {"stop": False, "max_tokens_field": "max_completion_tokens"}),
    ("openai", "gpt-5", {"sampling": False, "always_reasons": True, "effort_with_tools": True}),
    ("openai", "gpt-5-mini", {"efforts": ("minimal", "low", "medium", "high")}),
    ("openai", "gpt-5-chat-latest", {"sampling": True, "reasoning": "none"}),
    ("openai", "gpt-5.1", {"efforts": ("none", "low", "medium", "high")}),
    ("openai", "gpt-5.2", {"reasoning": "effort", "sampling": False, "effort_with_tools": True}),
    ("openai", "gpt-5.2-chat-latest", {"always_reasons": True, "sampling": False}),
    ("openai", "gpt-5.2-codex", {"reasoning": "effort", "effort_with_tools": True}),
    ("openai", "gpt-5.4", {"effort_with_tools": False, "reasoning": "effort"}),
    ("openai", "gpt-5.4-mini", {"effort_with_tools": False}),
    ("openai", "gpt-5.5-2026-04-23", {"effort_with_tools": False}),
    ("openai", "gpt-5.6-terra", {"effort_with_tools": False}),
    ("openai", "gpt-5.4-pro", {"efforts": ("high",), "always_reasons": True}),
    # Azure: the same models, but no file parts
    ("azure", "gpt-4.1", {"pdf": "text", "tool_ids": "forty"}),
    ("azure", "gpt-5.4", {"effort_with_tools": False, "pdf": "text"}),
    ("azure", "o3", {"stop": False, "pdf": "text"}),
    # DeepSeek
    ("deepseek", "deepseek-v4-pro", {"history": "reasoning_content", "history_required": True}),
    ("deepseek", "deepseek-v4-pro", {"max_tokens_field": "max_tokens", "images": False}),
    ("deepseek", "deepseek-v4-pro", {"reasoning": "thinking_type", "flat_text": True}),
    ("deepseek", "deepseek-v4-flash", {"response_format": "json_object"}),
    ("deepseek", "deepseek-reasoner", {"history": "drop", "history_required": False}),
    # Kimi
    ("kimi", "kimi-k2.6", {"sampling": False, "history_required": True, "prefill": "partial"}),
    ("kimi", "kimi-k2.6", {"thinking_keep": "keep_all", "schema": "kimi"}),
    ("kimi", "kimi-k2.5", {"reasoning": "thinking_type", "history": "reasoning_content"}),
    ("kimi", "kimi-k2.6", {"tool_choices": ("auto", "function", "none")}),
    ("kimi", "kimi-k3", {"reasoning": "effort", "efforts": ("low", "high", "max")}),
    ("kimi", "kimi-k2-thinking", {"always_reasons": True, "history": "reasoning_content"}),
    ("kimi", "kimi-k2.7-code", {"always_reasons": True, "reasoning": "none"}),
    ("kimi", "kimi-k2-0905-preview", {"sampling": True, "history": "drop"}),
    # GLM
    ("zai", "glm-5", {"reasoning": "thinking_type", "efforts": (), "tool_choices": ("auto",)}),
    ("zai", "glm-4.7", {"tool_stream": True, "thinking_keep": "clear_thinking"}),
    ("zai", "glm-4.7", {"temperature_range": (0.0, 1.0), "images": False}),
    ("zai", "glm-5.2", {"efforts": ("high", "max"), "always_reasons": False}),
    ("zai", "glm-5.3", {"efforts": ("low", "high", "max"), "always_reasons": True}),
    ("zai", "glm-4.6v", {"images": True, "flat_text": False}),
    ("bigmodel", "glm-5.3", {"always_reasons": True, "tool_stream": True}),
    ("bigmodel", "glm-9", {"tool_stream": True, "tool_choices": ("auto",)}),
    # MiniMax
    ("minimax", "MiniMax-M2.7", {"reasoning_split": True, "history": "reasoning_details"}),
    ("minimax", "MiniMax-M2.7", {"always_reasons": True, "temperature_range": (0.01, 1.0)}),
    ("minimax", "MiniMax-M3", {"reasoning": "minimax", "always_reasons": False}),
    ("minimax", "MiniMax-M3", {"max_tokens_field": "max_completion_tokens"}),
    ("minimax", "MiniMax-M3.1-Flash", {"history": "reasoning_content"}),
    # Gemini
    ("gemini", "gemini-3.1-pro-preview", {"schema": "gemini", "thought_signatures": True}),
    ("gemini", "gemini-3.8-flash", {"efforts": ("low", "medium", "high")}),
    ("gemini", "gemini-3.6-flash", {"efforts": ("minimal", "low", "medium", "high")}),
    ("gemini", "gemini-4-argon", {"efforts": ("low", "medium", "high"), "always_reasons": True}),
    ("gemini", "gemini-4-hydrogen", {"efforts": ("low", "medium", "high", "xhigh")}),
    ("gemini", "gemini-2.5-flash", {"thought_signatures": False, "schema": "gemini"}),
    # Qwen
    ("qwen", "qwen3-max", {"reasoning": "enable_thinking", "thinking_needs_stream": True}),
    ("qwen", "qwen3-235b-a22b", {"thinking_needs_stream": True, "quota_means_rate": True}),
    ("qwen", "qwen3-max", {"top_k": True, "cache_control": True}),
    ("qwen", "qwen3-coder-plus", {"reasoning": "none", "thinking_needs_stream": False}),
    ("modelscope", "Qwen/Qwen3-235B-A22B", {"thinking_needs_stream": True}),
    # Doubao, OpenRouter
    ("doubao", "ep-20251101", {"reasoning": "thinking_type"}),
    ("openrouter", "anthropic/claude-sonnet-4.5", {"cache_control": True, "pdf": "file"}),
    ("openrouter", "google/gemini-3-pro", {"cache_control": True, "top_k": True}),
    ("openrouter", "minimax/minimax-m2.7", {"cache_control": True}),
    ("openrouter", "z-ai/glm-5", {"cache_control": True, "reasoning": "openrouter"}),
    ("openrouter", "openai/gpt-5.2", {"cache_control": False, "history": "reasoning_details"}),
    # Groq, Cerebras
    ("groq", "llama-3.3-70b-versatile", {"history": "drop", "null_content": False}),
    ("groq", "openai/gpt-oss-120b", {"efforts": ("low", "medium", "high"), "schema": "bare"}),
    ("groq", "qwen/qwen3.8-27b", {"efforts": ("none", "low", "medium", "high"), "images": True}),
    ("groq", "qwen/qwen3-32b", {"efforts": ("none", "default"), "response_format_streams": False}),
    ("openai", "gpt-5.2", {"sampling": False, "sampling_without_effort": True}),
    ("openai", "gpt-5.5", {"sampling": False, "sampling_without_effort": False}),
    ("openai", "gpt-4.1", {"obfuscation": True}),
    ("cerebras", "gpt-oss-120b", {"history": "drop", "schema": "bare"}),
    # Mistral
    ("mistral", "mistral-large-latest", {"tool_ids": "nine", "required_word": "any"}),
    ("mistral", "mistral-large-latest", {"user_after_tool": False, "prefill": "prefix"}),
    ("mistral", "mistral-large-latest", {"stream_options": False, "schema": "no_meta"}),
    ("mistral", "mistral-large-latest", {"top_k": False, "pdf": "document_url"}),
    ("mistral", "magistral-medium-latest", {"history": "thinking_parts", "reasoning": "effort"}),
    # xAI
    ("xai", "grok-4.5", {"stop": False, "efforts": ("low", "medium", "high")}),
    ("xai", "grok-4.3", {"efforts": ("none", "low", "medium", "high")}),
    ("xai", "grok-3-mini", {"stop": False}),
    ("xai", "grok-code-fast-1", {"usage_without_reasoning": True, "stop": True}),
    # The others
    ("nim", "deepseek-ai/deepseek-v4", {"reasoning": "template_kwargs", "top_k": False}),
    ("copilot", "gpt-4.1", {"tool_ids": "forty"}),
    ("vllm", "any", {"reasoning": "template_kwargs", "top_k": True, "system_messages": "first"}),
    ("sglang", "any", {"reasoning": "template_kwargs", "top_k": True}),
    ("llamacpp", "any", {"top_k": True, "system_messages": "first", "null_content": False}),
    ("ollama", "any", {"null_content": False, "reasoning": "explicit_effort"}),
    ("requesty", "any", {"extra_body": {"requesty": {"auto_cache": True}}}),
]


@pytest.mark.parametrize(
    ("name", "model", "expected"),
    [pytest.param(*row, id=f"{row[0]} {row[1]} {', '.join(row[2])}") for row in SAID],
)
def test_quirks_of_models(name, model, expected):
    result = quirks(name, model)
    assert {field: getattr(result, field) for field in expected} == expected


def test_every_quirk_is_set_by_a_preset():
    used = {
        field
        for preset in load_presets().values()
        for card in (*preset.cards(), preset.unknown())
        for field in Quirks.__struct_fields__
        for api in ("chat", "responses")
        if getattr(card.quirks_in(api), field) != getattr(PLAIN, field)
    }
    # Set by model families or learned from refusals, but by no preset.
    unused = {"tool_name_length", "max_stops", "user_field", "think_tags", "refused_fields"}
    unused |= {"template_kwargs", "text_calls", "vocabulary"}
    assert used >= set(Quirks.__struct_fields__) - unused


@pytest.mark.parametrize(
    ("name", "model", "window", "max_output"),
    [
        ("openai", "gpt-4.1", 1047576, 32768),
        ("openai", "gpt-4o-mini", 128000, 16384),
        ("openai", "gpt-5.2", 272000, 128000),
        ("deepseek", "deepseek-v4-pro", 1000000, 384000),
        ("kimi", "kimi-k2.6", 262144, 262144),
        ("zai", "glm-5", 200000, 131072),
        ("groq", "llama-3.3-70b-versatile", 131072, 32768),
        ("anthropic", "claude-haiku-4-5-20251001", 200000, 64000),
        ("demo", "demo-large", 200000, 32000),
        ("vllm", "any", None, None),
    ],
)
def test_windows(name, model, window, max_output):
    target = configure(name).target(model)
    assert (target.window, target.max_output) == (window, max_output)


def test_prices_are_per_million_tokens():
    price = configure("openai").models.card("gpt-4.1").price
    assert (price.input, price.output, price.cache_read) == (2.0, 8.0, 0.5)
    assert configure("openai").models.card("gpt-5-pro").price.cache_read is None
    assert configure("openai").models.card("gpt-99").price is None


def test_a_server_without_a_preset_has_no_quirks_except_for_known_families():
    preset = generic_preset()
    tolerated: dict[str, Any] = {"reasoning": "explicit_effort"}
    tolerated |= {"history": "reasoning_content", "history_scope": "tool_turns"}
    assert preset.unknown().quirks == Quirks(**tolerated)
    for card in preset.cards():
        assert card.pattern.startswith(("gpt-5", "gpt-6", "gpt-daybreak", "o1", "o3", "o4"))
        assert card.quirks.pdf == "text", "what OpenAI's server does, others may not"


# The templates.


@pytest.mark.parametrize("name", [name for name in NAMES if name != "demo"])
def test_a_template_works_with_a_key_put_in(name, write, templates):
    text = (templates / f"{name}.env.example").read_text()
    assert f"\nPROVIDER={name}\n" in text
    needs_key = load_presets()[name].needs_key
    assert ("\nPROVIDER_API_KEY=\n" in text) == needs_key
    filled = text.replace("PROVIDER_API_KEY=\n", f"PROVIDER_API_KEY={KEY}\n")
    config = load_worker(write(f"{name}.env", filled))
    assert replace(config, env_file=None) == configure(name)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "demo"])
def test_commented_settings_of_a_template_are_valid(name, write, templates):
    """Removing a `#` must not cause an error."""
    lines = (templates / f"{name}.env.example").read_text().splitlines()
    settings = [line.removeprefix("# ") for line in lines if line.startswith("# ") and "=" in line]
    settings = [one for one in settings if one.split("=")[0].isupper() and " " not in one]
    assert any(one.startswith("BIG_MODEL=") for one in settings)
    text = "\n".join([*lines, f"PROVIDER_API_KEY={KEY}", *settings]) + "\n"
    assert load_worker(write(f"{name}.env", text)).provider == name


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("demo", "anthropic")])
def test_a_template_describes_its_preset_correctly(name, write, templates):
    lines = (templates / f"{name}.env.example").read_text().splitlines()
    message = dict(line[2:].split("=", 1) for line in lines if re.match(r"# [A-Z]+_MODELS?=", line))
    models = configure(name).models
    assert message["BIG_MODEL"] == models.big
    assert message["MIDDLE_MODEL"] == models.middle
    assert message["SMALL_MODEL"] == models.small
    assert message.get("PASS_MODELS", "") == ",".join(models.pass_patterns)


def test_a_template_repeats_nothing(templates):
    for file in templates.glob("*.env.example"):
        lines = [line for line in file.read_text().splitlines() if line.strip("# ")]
        assert len(lines) == len(set(lines)), file.name


def test_every_template_has_a_preset(templates):
    names = {file.name.removesuffix(".env.example") for file in templates.glob("*.env.example")}
    assert names == set(NAMES) - {"demo"}


def test_the_shipped_table_starts_the_demo(templates):
    checked = load_all(templates.parent / "ccproxy.toml")
    assert [entry.label for entry in checked.fleet.entries] == ["Demo"]
    assert checked.workers["Demo"].serves_demo


def test_commented_lines_of_the_shipped_table_name_templates(templates):
    rows = (templates.parent / "ccproxy.toml").read_text().splitlines()
    files = [row.split(":")[1] for row in rows if row.startswith('  # "')]
    assert len(files) > 8
    for file in files:
        assert (templates.parent / f"{file}.example").is_file()


def test_every_region_and_plan_is_an_address_of_its_preset():
    presets = load_presets()
    for name, preset in presets.items():
        names = [endpoint.name for endpoint in preset.endpoints]
        assert len(names) == len(set(names))
        for number, endpoint in enumerate(preset.endpoints):
            owner = presets[endpoint.preset or name]
            host = urlsplit(endpoint.base_url or owner.base_url).hostname or ""
            assert any(fnmatchcase(host, pattern) for pattern in owner.hosts), (name, endpoint)
            assert bool(endpoint.base_url or endpoint.preset) is (number > 0), (name, endpoint)


def test_a_host_or_scheme_without_a_preset_has_no_name():
    assert (preset_for_host("llm.example.org"), preset_for_auth("x-api-key")) == ("", "")
    assert preset_for_auth("api-key") == "azure"


def test_bypass_goes_where_claude_code_goes_without_a_proxy():
    assert bypass_url() == "https://api.anthropic.com"


def test_fields_of_every_request_are_added_to_a_card():
    card = with_extra_body(with_extra_body(ModelCard(pattern="m"), {"a": 1}), {"b": 2})
    assert card.quirks.extra_body == {"a": 1, "b": 2}


def test_requestys_automatic_cache_is_turned_on_and_off():
    card = with_extra_body(ModelCard(pattern="m"), {"a": 1})
    on = with_auto_cache(card, on=True)
    assert on.quirks.extra_body == {"a": 1, "requesty": {"auto_cache": True}}
    assert with_auto_cache(on, on=False).quirks.extra_body == {"a": 1}
