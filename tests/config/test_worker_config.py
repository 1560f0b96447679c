"""From env file to WorkerConfig: values, their sources, and every mistake."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ccproxy.config.fleet import Entry
from ccproxy.config.worker_config import load_worker
from ccproxy.keys.key_state import KeyLimits
from ccproxy.providers.pricing import Price
from tests.user_files import AUTHORITY

KEY = "sk-provider-000000001"
KIMI = f"PROVIDER=kimi\nPROVIDER_API_KEY={KEY}\n"
PLAIN = f"OPENAI_API_KEY={KEY}\nOPENAI_BASE_URL=http://127.0.0.1:9099/v1\n"


def load(write, text, **more):
    return load_worker(write("envs/x.env", text), **more)


def from_environment(**settings):
    return load_worker(None, environ=settings)


# Sources of values.


def test_a_preset_fills_in_everything(write):
    config = load(write, KIMI)
    assert (config.provider, config.provider_name) == ("kimi", "Kimi")
    assert config.base_url == "https://api.moonshot.ai/v1"
    assert config.chat_url("kimi-k3") == "https://api.moonshot.ai/v1/chat/completions"
    assert (config.api, config.auth) == ("chat", "bearer")
    assert config.api_keys == (KEY,)
    assert config.models.big == "kimi-k3.1-pro"
    assert config.models.middle == "kimi-k3.1-pro"
    assert config.target("kimi-k2.6").quirks.history == "reasoning_content"


def test_the_defaults(write):
    config = load(write, KIMI)
    assert (config.host, config.max_connections, config.log_level) == ("127.0.0.1", 1024, "INFO")
    assert (config.max_tokens_limit, config.min_tokens_limit) == (None, None)
    assert config.context_window is None
    assert (config.request_timeout, config.max_retries, config.early_commit) == (600.0, 2, 15.0)
    assert (config.key_limits, config.key_wait) == (KeyLimits(), 120.0)
    assert (config.client_keys, config.pass_client_key) == ((), False)
    assert (config.upstream_proxy, config.ca_bundle) == (None, None)
    assert (dict(config.custom_headers), config.azure_api_version) == ({}, "")
    assert (config.history, config.admin_api, config.inspect) == (False, True, False)
    assert (config.tool_filter, config.transparent_url) == ((), "https://api.anthropic.com")


def test_every_setting_is_read(write, here):
    write("ca.pem", AUTHORITY)
    config = load(
        write,
        KIMI
        + """
        PROVIDER_BASE_URL=https://api.moonshot.cn/v1/
        PROVIDER_REGION=china
        ANTHROPIC_API_KEY=client-1, client-2
        BIG_MODEL=b
        MIDDLE_MODEL=m
        SMALL_MODEL=s
        PASS_MODELS=x-*, y
        HOST=::1
        MAX_CONNECTIONS=99
        LOG_LEVEL=debug
        MAX_TOKENS_LIMIT=4096
        MIN_TOKENS_LIMIT=100
        CONTEXT_WINDOW=200000
        REQUEST_TIMEOUT=90.5
        MAX_RETRIES=0
        KEY_MAX_IN_FLIGHT=4
        KEY_WAIT=45
        FALLBACK_HOLD=90
        KEY_PER_MINUTE=60
        KEY_PER_DAY=500
        EARLY_COMMIT=0
        UPSTREAM_PROXY=http://u:p@proxy:3128
        CA_BUNDLE=../ca.pem
        CUSTOM_HEADER_X_TEAM=blue
        PRICES=b=1/2
        EXTRA_BODY='{"reasoning_effort": "low"}'
        TOOL_FILTER=WebSearch, mcp__*
        HISTORY=on
        ADMIN_API=off
        INSPECT=on
        TRANSPARENT_URL=https://gateway.example.com/x/
        """,
    )
    assert config.target("b").quirks.extra_body == {"reasoning_effort": "low"}
    assert config.models.price("b") == Price(input=1.0, output=2.0)
    assert config.tool_filter == ("WebSearch", "mcp__*")
    assert (config.history, config.admin_api, config.inspect) == (True, False, True)
    assert config.transparent_url == "https://gateway.example.com/x"
    assert config.base_url == "https://api.moonshot.cn/v1"
    assert config.client_keys == ("client-1", "client-2")
    assert (config.models.big, config.models.middle, config.models.small) == ("b", "m", "s")
    assert config.models.pass_patterns == ("x-*", "y")
    assert (config.host, config.max_connections, config.log_level) == ("::1", 99, "DEBUG")
    assert (config.max_tokens_limit, config.min_tokens_limit) == (4096, 100)
    assert config.context_window == 200000
    assert (config.request_timeout, config.max_retries, config.early_commit) == (90.5, 0, 0.0)
    assert config.key_limits == KeyLimits(in_flight=4, per_minute=60, per_day=500)
    assert (config.key_wait, config.fallback_hold) == (45.0, 90.0)
    assert config.upstream_proxy == "http://u:p@proxy:3128"
    assert config.ca_bundle == here / "ca.pem"
    assert config.custom_headers == {"X-Team": "blue"}


def test_an_env_file_of_older_proxies_works(write):
    config = load(
        write,
        """
        OPENAI_API_KEY="sk-0123456789"      # the old names
        OPENAI_BASE_URL='http://localhost:8000/v1'
        ANTHROPIC_API_KEY=
        BIG_MODEL="gpt-4o"
        SMALL_MODEL=gpt-4o-mini
        HOST=127.0.0.1
        LOG_LEVEL=INFO # or DEBUG
        MAX_TOKENS_LIMIT="4096"
        REQUEST_TIMEOUT=90
        export MAX_RETRIES=2
        PREFERRED_PROVIDER=openai
        """,
    )
    assert config.api_keys == ("sk-0123456789",)
    assert config.base_url == "http://localhost:8000/v1"
    assert (config.log_level, config.max_tokens_limit) == ("INFO", 4096)
    assert config.client_keys == ()


def test_the_name_of_a_setting_precedes_its_alias(write):
    config = load(write, KIMI + "OPENAI_API_KEY=sk-of-somebody-else\n")
    assert config.api_keys == (KEY,)


def test_nothing_is_interpolated(write):
    config = load(write, KIMI + "BIG_MODEL=${HOME}/x\n")
    assert config.models.big == "${HOME}/x"


def test_the_shell_is_not_read_with_an_env_file(write, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-shell")
    monkeypatch.setenv("BIG_MODEL", "of-the-shell")
    config = load(write, KIMI, environ={"SMALL_MODEL": "of-the-shell"})
    assert config.api_keys == (KEY,)
    assert (config.models.big, config.models.small) == ("kimi-k3.1-pro", "kimi-k2.6")


def test_without_a_file_the_environment_is_read():
    config = from_environment(
        PROVIDER="kimi",
        PROVIDER_API_KEY=KEY,
        PROVIDER_BASE_URL="http://127.0.0.1:9099/v1",
        PATH="/bin",
        PROVIDER_OF_SOMETHING_ELSE="1",
        EMBEDDING_MODEL="x",
    )
    assert config.chat_url("m") == "http://127.0.0.1:9099/v1/chat/completions"
    assert config.env_file is None


def test_the_environment_is_read_only_if_it_is_passed(monkeypatch, complaints):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    [complaint] = complaints(load_worker, None)
    assert complaint.startswith("(environment): PROVIDER_API_KEY is missing")


def test_port_and_label_come_from_the_entry(write, here):
    entry = Entry(port=8081, env_file=here / "envs/x.env", label="Kimi-K2")
    config = load(write, KIMI + "PORT=9999\n", entry=entry)
    assert (config.port, config.label) == (8081, "Kimi-K2"), "no table, so nothing to compare"


def test_without_an_entry_the_file_may_name_a_port(write):
    assert load(write, KIMI + "PORT=9999\n").port == 9999


# Models.


def test_the_models_without_a_preset(write):
    models = load(write, PLAIN).models
    assert (models.big, models.middle, models.small) == ("gpt-4o", "gpt-4o", "gpt-4o-mini")


@pytest.mark.parametrize(
    ("text", "tiers"),
    [
        pytest.param(PLAIN + "BIG_MODEL=b", ("b", "b", "gpt-4o-mini"), id="middle follows big"),
        pytest.param(PLAIN + "MIDDLE_MODEL=m", ("gpt-4o", "m", "gpt-4o-mini"), id="or is its own"),
        pytest.param(KIMI + "BIG_MODEL=b", ("b", "b", "kimi-k2.6"), id="with a preset too"),
        pytest.param("PROVIDER=ollama\nBIG_MODEL=b", ("b", "b", "b"), id="one model for all"),
        pytest.param(
            f"PROVIDER=openrouter\nPROVIDER_API_KEY={KEY}\nBIG_MODEL=b",
            ("b", "anthropic/claude-sonnet-5.5", "anthropic/claude-haiku-5.5"),
            id="a preset's own middle stays",
        ),
        pytest.param(
            f"PROVIDER=anthropic\nPROVIDER_API_KEY={KEY}", (None, None, None), id="no tiers at all"
        ),
        pytest.param(
            f"PROVIDER=anthropic\nPROVIDER_API_KEY={KEY}\nBIG_MODEL=b",
            ("b", None, None),
            id="only the tier that is set",
        ),
    ],
)
def test_tiers(write, text, tiers):
    models = load(write, text).models
    assert (models.big, models.middle, models.small) == tiers


@pytest.mark.parametrize(
    "name",
    [
        *("gpt-4.1", "o1", "o1-mini", "o3", "o4-mini", "ep-20250101", "doubao-seed", "glm-5"),
        *("deepseek-v4-pro", "MiniMax-M3", "gemini-3-pro", "kimi-k3", "moonshot-v1", "qwen3-max"),
    ],
)
def test_without_a_preset_known_families_pass(write, name):
    assert load(write, PLAIN).models.pick(name) == name


def test_pass_models_replaces_the_list(write):
    models = load(write, PLAIN + "PASS_MODELS=claude-*\n").models
    assert models.pick("claude-opus-5-5") == "claude-opus-5-5"
    assert models.pick("gpt-4.1") == "gpt-4o"


def test_openrouter_passes_names_with_a_vendor(write):
    models = load(write, f"PROVIDER=openrouter\nPROVIDER_API_KEY={KEY}").models
    assert models.pick("x-ai/grok-4.5") == "x-ai/grok-4.5"
    assert models.pick("claude-haiku-5-5") == "anthropic/claude-haiku-5.5"


# Targets.


def test_the_users_window_overrides_the_card(write):
    target = load(write, "PROVIDER=ollama\nCONTEXT_WINDOW=65536").target("qwen3-coder:30b")
    assert (target.window, target.max_output) == (65536, None)


def test_a_target_knows_its_model(write):
    target = load(write, KIMI).target("kimi-k2.6")
    assert (target.provider, target.model, target.window) == ("kimi", "kimi-k2.6", 262144)


def test_a_base_url_of_the_user_keeps_the_quirks_of_the_preset(write):
    config = load(write, KIMI + "PROVIDER_BASE_URL=http://127.0.0.1:9099/v1\n")
    assert config.target("kimi-k2.6").quirks == load(write, KIMI).target("kimi-k2.6").quirks
    assert config.target("kimi-k2.6").provider == "kimi"


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.deepseek.com/v1", "deepseek"),
        ("https://api.moonshot.cn/v1", "kimi"),
        ("https://dashscope.aliyuncs.com/compatible-mode/v1", "qwen"),
        ("https://API.OpenAI.com/v1", "openai"),
        ("https://res.openai.azure.com", "azure"),
        ("https://router.requesty.ai/v1", "requesty"),
        ("https://llm.example.com/v1", ""),
        ("http://127.0.0.1:11434/v1", ""),
    ],
)
def test_a_known_host_is_recognised_without_provider(write, url, provider):
    config = load(write, f"OPENAI_API_KEY={KEY}\nOPENAI_BASE_URL={url}")
    assert config.provider == provider
    assert config.base_url == url
    assert config.models.big == "gpt-4o", "addresses and models only come with PROVIDER"


def test_a_recognised_provider_sets_quirks_and_authentication(write):
    azure = load(write, f"OPENAI_API_KEY={KEY}\nOPENAI_BASE_URL=https://r.openai.azure.com")
    assert azure.auth == "api-key"
    kimi = load(write, f"OPENAI_API_KEY={KEY}\nOPENAI_BASE_URL=https://api.moonshot.cn/v1")
    assert kimi.target("kimi-k2.6").quirks == load(write, KIMI).target("kimi-k2.6").quirks


@pytest.mark.parametrize(
    ("url", "name", "host"),
    [
        ("http://127.0.0.1:8080/v1", "127.0.0.1:8080", "127.0.0.1"),
        ("http://[::1]:8080/v1", "[::1]:8080", "::1"),
        ("https://llm.example.com/v1", "llm.example.com", "llm.example.com"),
    ],
)
def test_an_unknown_server_is_named_by_host_and_port(write, url, name, host):
    config = load(write, f"OPENAI_API_KEY={KEY}\nOPENAI_BASE_URL={url}")
    assert (config.provider, config.provider_name) == ("", name)
    assert config.target("m").provider == host


def test_cards_that_hold_everywhere_apply_to_unknown_servers(write):
    """For example, o* and gpt-5* require max_completion_tokens on every server."""
    config = load(write, PLAIN)
    for model in ("o3", "o4-mini", "gpt-5", "gpt-5.2", "gpt-5.4-mini"):
        assert config.target(model).quirks.max_tokens_field == "max_completion_tokens"
        assert not config.target(model).quirks.sampling
    assert config.target("gpt-4.1").quirks.max_tokens_field == "max_tokens"
    unknown = msgspec.structs.replace(config.models.unknown.quirks, vocabulary="o200k")
    assert config.target("gpt-oss-120b").quirks == unknown


# Direct mode, Azure, Requesty, the demo.


def test_direct_mode_at_the_endpoint_of_the_preset(write):
    config = load(write, f"PROVIDER=deepseek\nPROVIDER_API_KEY={KEY}\nPROVIDER_API=messages")
    assert (config.api, config.auth) == ("messages", "x-api-key")
    assert config.messages_url() == "https://api.deepseek.com/anthropic/v1/messages"
    assert config.count_url() == f"{config.messages_url()}/count_tokens"


def test_direct_mode_at_an_address_of_the_user(write):
    text = "PROVIDER_API=messages\nPROVIDER_BASE_URL=https://gw.example.com\n"
    config = load(write, text + f"PROVIDER_API_KEY={KEY}")
    assert config.messages_url() == "https://gw.example.com/v1/messages"


def test_anthropic_is_direct_by_default(write):
    text = f"PROVIDER=anthropic\nPROVIDER_API_KEY={KEY}\n"
    direct, chat = load(write, text), load(write, text + "PROVIDER_API=chat")
    assert (direct.api, direct.auth) == ("messages", "x-api-key")
    assert direct.messages_url() == "https://api.anthropic.com/v1/messages"
    assert (chat.api, chat.auth) == ("chat", "bearer")
    assert chat.chat_url("m") == "https://api.anthropic.com/v1/chat/completions"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        pytest.param("PROVIDER=kimi", "https://api.moonshot.ai/v1", id="the default"),
        pytest.param(
            "PROVIDER=kimi\nPROVIDER_REGION=international",
            "https://api.moonshot.ai/v1",
            id="the default by name",
        ),
        pytest.param(
            "PROVIDER=kimi\nPROVIDER_REGION=China", "https://api.moonshot.cn/v1", id="a region"
        ),
        pytest.param(
            "PROVIDER=zai\nPROVIDER_PLAN=coding-plan",
            "https://api.z.ai/api/coding/paas/v4",
            id="a plan",
        ),
        pytest.param(
            "PROVIDER=zai\nPROVIDER_REGION=international\nPROVIDER_PLAN=coding-plan",
            "https://api.z.ai/api/coding/paas/v4",
            id="a plan in the default region",
        ),
        pytest.param(
            "PROVIDER=zai\nPROVIDER_REGION=china\nPROVIDER_PLAN=coding-plan",
            "https://open.bigmodel.cn/api/coding/paas/v4",
            id="a plan in a region",
        ),
        pytest.param(
            "PROVIDER=zai\nPROVIDER_REGION=china",
            "https://open.bigmodel.cn/api/paas/v4",
            id="a region with a preset of its own",
        ),
        pytest.param(
            "PROVIDER=kimi\nPROVIDER_REGION=china\nPROVIDER_BASE_URL=https://own.example/v1",
            "https://own.example/v1",
            id="the user's own address",
        ),
    ],
)
def test_region_and_plan_select_the_address(write, text, url):
    assert load(write, f"{text}\nPROVIDER_API_KEY={KEY}\n").base_url == url


def test_direct_mode_uses_the_messages_endpoint_of_the_region(write):
    text = f"PROVIDER=kimi\nPROVIDER_REGION=china\nPROVIDER_API=messages\nPROVIDER_API_KEY={KEY}"
    assert load(write, text).messages_url() == "https://api.moonshot.cn/anthropic/v1/messages"


def test_only_anthropic_accepts_a_key_of_anthropic(write):
    assert load(write, f"PROVIDER=anthropic\nPROVIDER_API_KEY={KEY}").takes_anthropic_keys
    assert not load(write, KIMI).takes_anthropic_keys
    assert not load(write, PLAIN).takes_anthropic_keys


@pytest.mark.parametrize(
    "text",
    [
        "PROVIDER=azure\nAZURE_API_VERSION=2024-10-21\nPROVIDER_BASE_URL=https://r.openai.azure.com",
        "AZURE_API_VERSION=2024-10-21\nOPENAI_BASE_URL=https://r.openai.azure.com",
        "PROVIDER=azure\nPROVIDER_BASE_URL=https://r.openai.azure.com?api-version=2024-10-21",
    ],
)
def test_azure_with_a_version(write, text):
    config = load(write, f"PROVIDER_API_KEY={KEY}\n{text}")
    assert config.auth == "api-key"
    assert config.chat_url("gpt-4o") == (
        "https://r.openai.azure.com/openai/deployments/gpt-4o/chat/completions"
        "?api-version=2024-10-21"
    )


@pytest.mark.parametrize(
    ("text", "body"),
    [
        pytest.param("PROVIDER=requesty", {"requesty": {"auto_cache": True}}, id="the preset"),
        pytest.param("PROVIDER=requesty\nAUTO_CACHE=off", {}, id="switched off"),
        pytest.param(
            "PROVIDER=kimi\nAUTO_CACHE=on", {"requesty": {"auto_cache": True}}, id="switched on"
        ),
        pytest.param("PROVIDER=kimi", {}, id="another provider"),
    ],
)
def test_requesty_s_auto_cache(write, text, body):
    config = load(write, f"PROVIDER_API_KEY={KEY}\n{text}")
    assert config.target("kimi-k2.6").quirks.extra_body == body
    assert config.target("of-nobody").quirks.extra_body == body


def test_the_demo_needs_no_setting_and_gets_its_address(write):
    config = load(write, "PROVIDER=demo")
    assert config.serves_demo
    assert config.api_keys == ("demo",)
    served = config.at("http://127.0.0.1:50001/v1")
    assert not served.serves_demo
    assert served.chat_url("demo-large") == "http://127.0.0.1:50001/v1/chat/completions"
    assert served.provider_name == config.provider_name


# Keys.


@pytest.mark.parametrize("term", ["ollama", "lmstudio", "vllm", "sglang", "llamacpp"])
def test_a_local_server_needs_no_key(write, term):
    config = load(write, f"PROVIDER={term}")
    assert len(config.api_keys) == 1, "a value that its authorization header may have"


def test_several_keys_are_used_in_the_order_of_the_file(write):
    config = load(write, "PROVIDER=kimi\nPROVIDER_API_KEY= sk-b , ,sk-a,sk-b,\n")
    assert config.api_keys == ("sk-b", "sk-a")


def test_a_passed_key_replaces_the_pool(write):
    config = load(write, "PROVIDER=kimi\nPASS_CLIENT_KEY=on")
    assert (config.api_keys, config.pass_client_key) == ((), True)


def test_the_repr_contains_no_secret(write):
    config = load(
        write,
        KIMI
        + "ANTHROPIC_API_KEY=ccp-client-secret-1\n"
        + "CUSTOM_HEADER_X_KEY=custom-secret-1\n"
        + "UPSTREAM_PROXY=http://u:proxy-secret-1@proxy:1\n",
    )
    for secret in (KEY, "ccp-client", "custom-secret", "proxy-secret"):
        assert secret not in repr(config)


def test_equal_files_make_equal_configurations(write):
    assert load(write, KIMI) == load(write, KIMI)
    assert load(write, KIMI) != load(write, KIMI + "MAX_RETRIES=1")


# Custom headers.


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("X_API_KEY", "X-Api-Key"),
        ("ACCEPT", "Accept"),
        ("USER_AGENT", "User-Agent"),
        ("AUTHORIZATION", "Authorization"),
        ("x_team", "X-Team"),
    ],
)
def test_custom_headers(write, name, expected):
    config = load(write, KIMI + f"CUSTOM_HEADER_{name}=v\n")
    assert config.custom_headers == {expected: "v"}


def test_a_header_of_the_user_overrides_the_presets(write):
    text = f"PROVIDER=copilot\nPROVIDER_API_KEY={KEY}\n"
    assert load(write, text).custom_headers["Copilot-Integration-Id"] == "vscode-chat"
    config = load(write, text + "CUSTOM_HEADER_COPILOT_INTEGRATION_ID=mine\n")
    assert config.custom_headers["Copilot-Integration-Id"] == "mine"


def test_the_file_is_remembered(write):
    assert load(write, KIMI).env_file == Path("envs/x.env").resolve()


@pytest.mark.parametrize(
    ("settings", "model", "api"),
    [
        ("PROVIDER=openai", "gpt-4.1", "chat"),
        ("PROVIDER=openai", "gpt-5.2", "chat"),
        ("PROVIDER=openai", "gpt-5.4", "responses"),
        ("PROVIDER=openai", "gpt-6.2-astra", "responses"),
        ("PROVIDER=openai", "gpt-5.3-codex", "responses"),
        ("PROVIDER=openai", "gpt-5.2-pro", "responses"),
        ("PROVIDER=openai", "o3-pro", "responses"),
        ("PROVIDER=copilot", "gpt-5.6-sol", "responses"),
        ("PROVIDER=copilot", "claude-opus-5.5", "chat"),
        ("PROVIDER=openai\nPROVIDER_API=chat", "gpt-6.2-astra", "chat"),
        ("PROVIDER=openai\nPROVIDER_API=responses", "gpt-4.1", "responses"),
        ("PROVIDER=openai\nPROVIDER_API=auto", "gpt-5.4", "responses"),
        ("PROVIDER_BASE_URL=https://gw.example.com/v1", "gpt-5.4", "chat"),
        ("PROVIDER=anthropic\nPROVIDER_API=auto", "claude-opus-5-5", "messages"),
    ],
)
def test_the_dialect_is_the_users_choice_or_the_models(write, settings, model, api):
    """The dialects of an unknown server are learned from its answers."""
    target = load(write, f"PROVIDER_API_KEY={KEY}\n{settings}").target(model)
    assert target.api == api


def test_quirks_of_the_responses_api_replace_others(write):
    config = load(
        write,
        f"PROVIDER=azure\nPROVIDER_BASE_URL=https://r.openai.azure.com\nPROVIDER_API_KEY={KEY}",
    )
    assert config.target("gpt-5.4", "chat").quirks.pdf == "text"
    quirks = config.target("gpt-5.4").quirks
    assert (quirks.pdf, quirks.tool_ids, quirks.effort_with_tools) == ("file", "responses", True)
    assert "max" not in config.target("gpt-6-sol", "chat").quirks.efforts
    assert "max" in config.target("gpt-6-sol").quirks.efforts
