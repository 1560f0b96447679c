"""LiteLLM's config.yaml, as in its documentation."""

from __future__ import annotations

import json
import os

import pytest

from ccproxy.config.routing_tables import read_routing_tables

CONFIG = """\
environment_variables:
  GROQ_API_KEY: gsk_0123456789abcdefghij
model_list:
  - model_name: claude-sonnet-4
    litellm_params:
      model: deepseek/deepseek-chat
      api_key: os.environ/DEEPSEEK_KEY
      rpm: 60
  - model_name: claude-haiku-4
    litellm_params:
      model: deepseek/deepseek-v4-flash
      api_key: os.environ/DEEPSEEK_KEY
      rpm: 60
  - model_name: qwen
    litellm_params: &groq
      model: groq/qwen/qwen3-32b
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o-eu
      api_base: https://eu.openai.azure.com/
      api_key: azure-0123456789abcdef-eu
      api_version: "2025-01-01-preview"
  - model_name: local
    litellm_params:
      model: openai/my-model
      api_base: http://127.0.0.1:8000/v1
      api_key: sk-local-0123456789-one
  - model_name: local
    litellm_params:
      model: openai/my-model
      api_base: http://127.0.0.1:8000/v1
      api_key: sk-local-0123456789-two
      input_cost_per_token: 0.1
  - model_name: bedrock-claude
    litellm_params: {model: bedrock/anthropic.claude-sonnet-4}
  - model_name: embed
    litellm_params: {model: openai/text-embedding-3-small, api_key: sk-embed-0123456789}
    model_info: {mode: embedding}
  - model_name: other
    litellm_params: {model: cohere_chat/command-r}
litellm_settings:
  drop_params: true
  success_callback: ["langfuse"]
  num_retries: 3
  fallbacks:
    - claude-sonnet-4: [qwen, local]
router_settings:
  routing_strategy: least-busy
  timeout: 120
general_settings:
  master_key: sk-master-0123456789abcdef
  database_url: postgresql://u:p@h/db
"""


@pytest.fixture
def config(home, monkeypatch):
    monkeypatch.setenv("DEEPSEEK_KEY", "sk-deepseek-0123456789abcd")
    file = home / "config.yaml"
    file.write_text(CONFIG)
    return file


def test_deployments_become_entries(config, run_import, ccproxy):
    done, checked = run_import(config)
    assert ccproxy("check").exit_code == 0
    workers = checked.workers
    deepseek = workers["deepseek"]
    assert deepseek.models.tiers() == ("deepseek-chat", "deepseek-v4-flash")
    assert deepseek.api_keys == ("sk-deepseek-0123456789abcd",)
    assert (deepseek.max_retries, deepseek.request_timeout) == (3, 120)
    assert deepseek.key_limits.per_minute == 60
    assert deepseek.client_keys == ("sk-master-0123456789abcdef",)
    assert workers["groq"].models.big == "qwen/qwen3-32b"
    assert workers["groq"].api_keys == ("gsk_0123456789abcdefghij",)
    assert workers["azure"].azure_api_version == "2025-01-01-preview"
    local = workers["openai"]
    assert local.base_url == "http://127.0.0.1:8000/v1"
    assert local.api_keys == ("sk-local-0123456789-one", "sk-local-0123456789-two")
    tables, mistakes = read_routing_tables(checked.fleet)
    assert not mistakes
    assert tables.fallbacks == {"deepseek": ("groq", "openai")}
    for line in (
        "bedrock-claude: its requests are signed with AWS credentials",
        "embed: its mode is embedding; Claude Code needs chat models",
        'other: the provider "cohere_chat" has no preset, and api_base is not set',
        "local: input_cost_per_token: ccproxy has no such setting",
        "the name qwen: the model is groq:qwen/qwen3-32b in ccproxy",
        "routing_strategy: the keys of an entry take turns",
        "database_url: ccproxy keeps its statistics in its own files",
    ):
        assert line in done.stdout
    assert "0123456789" not in done.stdout


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGE = (
    "a: &a {"
    + ", ".join(f"k{n}: 1" for n in range(100))
    + "}\n"
    + "".join(
        f"{name}: &{name} {{<<: [{','.join([f'*{before}'] * 50)}]}}\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
)
PAIRS = "model_list:\na: &a !!pairs [{k: 1}]\n" + "".join(
    f"{name}: &{name} !!pairs [{', '.join([f'{{k: *{before}}}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("model_list: 5", "has no model_list", id="wrong type"),
        pytest.param(f"model_list: {'[' * 5000}", "is not YAML", id="deep brackets"),
        pytest.param(f"model_list:\n{BOMB}", "too large or too deeply nested", id="aliases"),
        pytest.param(f"model_list:\n{MERGE}", "too large or too deeply nested", id="merge keys"),
        pytest.param(PAIRS, "too large or too deeply nested", id="aliases in pairs"),
        pytest.param(f"a: 1{':1' * 200_000}", "a number is too long", id="a number in base 60"),
        pytest.param(f"a: 0x{'f' * 5000}", "a number is too long", id="a hexadecimal number"),
        pytest.param("model_list: &a [*a]", "too large or too deeply nested", id="a loop"),
        pytest.param("#" * (2**20 + 1), "is larger than 1 MiB", id="huge"),
        pytest.param('{"Providers": ' + "[" * 100_000, "is not valid JSON", id="deep JSON"),
        pytest.param(
            '{"Providers": [' + "[" * 60 + "]" * 60 + "]}", "deeply nested", id="deep lists"
        ),
        pytest.param('{"a": ' + "9" * 5000 + "}", "is not valid JSON", id="a long number"),
        pytest.param('{"a": "' + '\\"' * 100_000, "is not JSON", id="an open text"),
        pytest.param("{" + "/*" * 100_000, "is not JSON", id="an open comment"),
        pytest.param("\udcff".encode("utf-8", "surrogateescape"), "is not UTF-8", id="bytes"),
        pytest.param("{}", "none of the formats", id="an empty object"),
        pytest.param('{"a": "\\ud800"}', "not Unicode", id="half a character"),
        pytest.param('a: "\\ud800"', "is not YAML", id="half a character in YAML"),
    ],
)
def test_a_hostile_file_is_refused(home, refused, text, expected):
    file = home / "config.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert expected in refused(file)


def test_a_header_adds_no_line_to_an_env_file(home, ccproxy):
    headers = {"X\nPROVIDER_BASE_URL": "https://evil.example", "Y": "a\nBIG_MODEL=evil"}
    parameters = {"model": "openai/m", "api_base": "https://x.example/v1", "api_key": "sk-01234567"}
    for number, header in enumerate(headers.items()):
        deployment = {"litellm_params": {**parameters, "extra_headers": dict([header])}}
        (home / f"{number}.json").write_text(json.dumps({"model_list": [deployment]}))
        done = ccproxy("import", f"{number}.json", "--write")
        assert (done.exit_code, "evil" in (home / "ccproxy.toml").read_text()) == (0, False)
    assert not [file for file in (home / "envs").iterdir() if "evil" in file.read_text()]


@pytest.mark.parametrize("wrong", ["text", 5, None, [1], {"a": {"b": 1}}], ids=str)
@pytest.mark.parametrize("name", ["model", "api_base", "api_key", "extra_headers", "rpm"])
def test_wrong_types_are_left_out(home, ccproxy, name, wrong):
    parameters = {"model": "openai/m", "api_base": "https://x.example/v1", "api_key": "sk-01234567"}
    deployment = {"model_name": wrong, "litellm_params": {**parameters, name: wrong}}
    document = {"model_list": [deployment, wrong], "litellm_settings": wrong}
    (home / "config.yaml").write_text(json.dumps(document))
    done = ccproxy("import", "config.yaml", "--write")
    assert done.exit_code == 0, done.exception


def test_a_pipe_is_refused(home, ccproxy):
    os.mkfifo(home / "pipe")
    done = ccproxy("import", home / "pipe")
    assert done.exit_code != 0
    assert "not a regular file" in done.stderr


def test_each_deployment_of_a_name_has_its_fallbacks(home, run_import):
    (home / "config.yaml").write_text("""\
model_list:
  - model_name: main
    litellm_params: {model: deepseek/deepseek-chat, api_key: sk-0123456789abcdef-one}
  - model_name: main
    litellm_params: {model: groq/qwen, api_key: sk-0123456789abcdef-two}
  - model_name: main
    litellm_params: {model: openai/gpt, api_key: sk-0123456789abcdef-three, max_tokens: many}
  - model_name: spare
    litellm_params: {model: moonshot/kimi, api_key: sk-0123456789abcdef-four}
litellm_settings:
  fallbacks: [{main: [spare, unknown]}]
""")
    _, checked = run_import("config.yaml")
    fallbacks = read_routing_tables(checked.fleet)[0].fallbacks
    assert fallbacks["deepseek"] == fallbacks["groq"] == ("moonshot",)


@pytest.mark.parametrize("limit", ["8000", "many"], ids=["valid", "not valid"])
def test_the_number_of_providers_is_limited(limit, home, refused):
    parameters = {"model": "openai/x", "api_key": "sk-0123456789abcdef", "max_tokens": limit}
    rows = [
        {"model_name": "x", "litellm_params": {**parameters, "api_base": f"https://h{n}.example"}}
        for n in range(65)
    ]
    (home / "config.json").write_text(json.dumps({"model_list": rows}))
    assert "has more than 64 providers" in refused("config.json")
