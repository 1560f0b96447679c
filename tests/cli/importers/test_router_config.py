"""claude-code-router's config.json, as in its documentation."""

from __future__ import annotations

import json
import sqlite3

import pytest

from ccproxy.config.routing_tables import read_routing_tables

CONFIG = """\
{
  // The client key of the router.
  "APIKEY": "router-key-0123456789abcdef",
  "PROXY_URL": "http://user:secret-pass@127.0.0.1:7890",
  "LOG": true,
  "HOST": "0.0.0.0",
  "API_TIMEOUT_MS": 300000,
  "CUSTOM_ROUTER_PATH": "$HOME/.claude-code-router/custom-router.js",
  "Providers": [
    {
      "name": "openrouter",
      "api_base_url": "https://openrouter.ai/api/v1/chat/completions",
      "api_key": "$ROUTER_KEY",
      "models": ["google/gemini-2.5-pro-preview", "anthropic/claude-sonnet-4"],
      "transformer": {"use": [["openrouter", {"provider": {"only": ["moonshotai/fp8"]}}]]}
    },
    {
      "name": "deepseek",
      "api_base_url": "https://api.deepseek.com/chat/completions",
      "api_key": "sk-deepseek-0123456789abcd",
      "models": ["deepseek-chat", "deepseek-reasoner"],
      "transformer": {"use": ["deepseek"], "deepseek-chat": {"use": ["tooluse", "my-plugin"]}}
    },
    {
      "name": "ollama",
      "api_base_url": "http://localhost:11434/v1/chat/completions",
      "api_key": "ollama",
      "models": ["qwen2.5-coder:latest"]
    },
    {
      "name": "gemini",
      "api_base_url": "https://generativelanguage.googleapis.com/v1beta/models/",
      "api_key": "sk-xxx",
      "models": ["gemini-2.5-flash"],
      "transformer": {"use": ["gemini"]}
    },
    {
      "name": "dashscope",
      "api_base_url": "https://dashscope.aliyuncs.com/compatible-mode/v1/chat/completions",
      "api_key": "sk-dashscope-0123456789abcd",
      "models": ["qwen3-coder-plus", "my-tuned-model"],
      "transformer": {"use": [["maxtoken", {"max_tokens": 65536}], "enhancetool"]},
    },
  ],
  "Router": {
    "default": "deepseek,deepseek-chat",
    "background": "ollama,qwen2.5-coder:latest",
    "think": "deepseek,deepseek-reasoner",
    "longContext": "openrouter,google/gemini-2.5-pro-preview",
    "longContextThreshold": 60000,
    "webSearch": "gemini,gemini-2.5-flash",
    "image": "nowhere,x"
  },
  "fallback": {"default": ["openrouter,anthropic/claude-sonnet-4"]},
}
"""
SECRETS = ("router-key-0123456789abcdef", "secret-pass", "sk-deepseek-0123456789abcd")


@pytest.fixture
def config(home, monkeypatch):
    monkeypatch.setenv("ROUTER_KEY", "sk-or-v1-0123456789abcdef0123")
    file = home / "config.json"
    file.write_text(CONFIG)
    return file


def test_a_fleet_passes_the_check_when_missing_keys_are_filled_in(
    config, home, run_import, ccproxy
):
    text = config.read_text().replace('"sk-xxx"', '"AIzaSy0123456789abcdefghij"')
    config.write_text(text)
    _, checked = run_import(config)
    assert ccproxy("check").exit_code == 0
    workers = checked.workers
    assert workers["gemini"].base_url.endswith("/v1beta/openai")
    assert workers["dashscope"].base_url == "https://dashscope.aliyuncs.com/compatible-mode/v1"
    assert workers["dashscope"].max_tokens_limit == 65536
    assert workers["dashscope"].models.knows("my-tuned-model")
    assert workers["openrouter"].api_keys == ("sk-or-v1-0123456789abcdef0123",)
    body = workers["openrouter"].target("x/y").quirks.extra_body
    assert body["provider"] == {"only": ["moonshotai/fp8"]}
    deepseek = workers["deepseek"]
    assert (deepseek.models.big, deepseek.request_timeout) == ("deepseek-chat", 300)
    assert deepseek.client_keys == ("router-key-0123456789abcdef",)
    assert deepseek.upstream_proxy == "http://user:secret-pass@127.0.0.1:7890"
    tables, mistakes = read_routing_tables(checked.fleet)
    assert not mistakes
    routing = tables.routing("deepseek")
    assert routing.rules == {
        "background": "ollama:qwen2.5-coder:latest",
        "thinking": "deepseek:deepseek-reasoner",
        "web_search": "gemini:gemini-2.5-flash",
    }
    assert (routing.long_context.over, routing.long_context.model) == (
        60000,
        "openrouter:google/gemini-2.5-pro-preview",
    )
    assert tables.fallbacks == {"deepseek": ("openrouter",)}


def test_the_client_key_of_the_examples_is_replaced_and_comments_are_no_settings(
    config, run_import
):
    text = config.read_text().replace("router-key-0123456789abcdef", "your-secret-key")
    text = text.replace('"Router": {', '"// COSTS": {"tip": "x"},\n  "Router": {\n "// main": "y",')
    config.write_text(text.replace('"sk-xxx"', '"AIzaSy0123456789abcdefghij"'))
    done, checked = run_import(config)
    assert len(checked.workers) == 7
    (key,) = checked.workers["deepseek"].client_keys
    assert key != "your-secret-key"
    assert done.stdout.count("the client key: contains a placeholder") == 1
    assert "//" not in done.stdout.partition("not imported")[2]


def test_omitted_parts_have_a_reason(config, ccproxy):
    done = ccproxy("import", config)
    assert done.exit_code == 0
    lost = done.stdout.partition("not imported")[2]
    for line in (
        "HOST: an entry listens on 127.0.0.1",
        "CUSTOM_ROUTER_PATH: it names a program",
        "deepseek: transformer my-plugin of deepseek-chat: settings apply to a whole entry",
        "Router.image: nowhere was not imported",
        "the key of gemini: contains a placeholder",
    ):
        assert line in lost
    assert "Nothing was written" in done.stdout
    for secret in SECRETS:
        assert secret not in done.stdout + done.stderr


def test_the_database_of_later_versions_has_the_same_document(home, run_import):
    file = home / "config.sqlite"
    document = {
        "Providers": [
            {
                "name": "ds",
                "api_base_url": "https://api.deepseek.com",
                "api_key": "sk-0123456789abcdef",
                "models": ["deepseek-chat"],
            }
        ],
        "Router": {"default": "ds,deepseek-chat"},
    }
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE app_config (key TEXT, value_json TEXT, updated_at TEXT)")
        row = ("default", json.dumps(document), "now")
        database.execute("INSERT INTO app_config VALUES (?, ?, ?)", row)
    database.close()
    _, checked = run_import(file)
    assert checked.workers["ds"].models.big == "deepseek-chat"


WRONG = ["text", 5, None, True, [[]], {"a": {}}, ["use"]]


@pytest.mark.parametrize(
    "reference", ["$CLIENT", "${CLIENT}", "${env:CLIENT}", "os.environ/CLIENT"]
)
def test_a_client_key_may_be_a_variable(reference, home, run_import, monkeypatch):
    provider = {"name": "a", "api_base_url": "https://x.example/v1", "api_key": "sk-0123456789abcd"}
    (home / "config.json").write_text(json.dumps({"Providers": [provider], "APIKEY": reference}))
    done, _ = run_import("config.json", "--verbose")
    assert "the client key: $CLIENT is not set; each entry gets a new key" in done.stdout
    monkeypatch.setenv("CLIENT", "client-0123456789abcdef")
    _, checked = run_import("config.json")
    assert checked.workers["a"].client_keys == ("client-0123456789abcdef",)


@pytest.mark.parametrize("wrong", WRONG, ids=str)
@pytest.mark.parametrize("name", ["name", "api_base_url", "api_key", "models", "transformer"])
def test_wrong_types_are_left_out(home, ccproxy, name, wrong):
    provider = {"name": "a", "api_base_url": "https://x.example/v1", "api_key": "sk-0123456789abcd"}
    document = {"Providers": [{**provider, name: wrong}, wrong], "Router": wrong, "APIKEY": wrong}
    (home / "config.json").write_text(json.dumps(document))
    done = ccproxy("import", "config.json", "--write")
    assert done.exit_code == 0, done.exception


def test_a_route_of_a_name_with_quotes_is_valid_toml(home, run_import):
    model = 'a"b\\c'
    provider = {"name": 'x "y"', "api_base_url": "https://x.example/v1", "models": [model]}
    document = {
        "Providers": [{**provider, "api_key": "sk-0123456789abcdef"}],
        "Router": {"default": f'x "y",{model}', "think": f'x "y",{model}'},
    }
    (home / "config.json").write_text(json.dumps(document))
    _, checked = run_import("config.json")
    tables, mistakes = read_routing_tables(checked.fleet)
    assert not mistakes
    assert tables.routing("x-y").rules == {"thinking": f"x-y:{model}"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"models": ["m\x9b2J\u202e"]}, r"m\x9b2J\u202e", id="control characters"),
        pytest.param({"name": "sk-0123456789abcdef"}, 'label = "cdef"', id="a key as name"),
        pytest.param(
            {"api_base_url": "ftp://user:pass@word/x@h.example?key=0123456789ab"},
            'got "ftp://…@h.example?…"',
            id="credentials in an address",
        ),
    ],
)
def test_nothing_hostile_or_secret_is_printed(home, ccproxy, change, expected):
    provider = {"name": "a", "api_base_url": "https://x.example/v1", "api_key": "sk-0123456789abcd"}
    provider |= {"models": ["m"]} | change
    route = f"{provider['name']},{provider['models'][0]}"
    document = {"Providers": [provider], "Router": {"default": route, "think": route}}
    (home / "config.json").write_text(json.dumps(document))
    done = ccproxy("import", "config.json")
    assert done.exit_code == 0, done.exception
    assert expected in done.stdout
    for hidden in ("\x9b", "\u202e", "0123456789ab", "pass@"):
        assert hidden not in done.stdout


@pytest.mark.parametrize("timeout", ["300000", 10**400, "soon"], ids=["text", "huge", "a word"])
def test_a_timeout_may_be_a_string(home, ccproxy, timeout):
    provider = {"name": "a", "api_base_url": "https://x.example/v1", "api_key": "sk-0123456789abcd"}
    document = {"Providers": [provider], "API_TIMEOUT_MS": timeout}
    (home / "config.json").write_text(json.dumps(document))
    done = ccproxy("import", "config.json")
    assert done.exit_code == 0, done.exception
    assert ("REQUEST_TIMEOUT=300" in done.stdout) == (timeout == "300000")
    assert ("API_TIMEOUT_MS: it is not a number" in done.stdout) == (timeout == "soon")
