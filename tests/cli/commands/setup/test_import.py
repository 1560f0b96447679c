"""`ccproxy import models.yaml`: both forms of the file, and the preview."""

from __future__ import annotations

import json
import stat
import sys

import pytest

from ccproxy.cli.importers.models_yaml import parse_size
from ccproxy.config.fleet import load_fleet
from ccproxy.config.fleet_check import load_all
from ccproxy.config.worker_config import load_worker

LIST = """\
# models of the direct-mode proxy
- model_id: deepseek/chat
  model_name: deepseek-chat
  api_base: "https://api.deepseek.com/v1"
  api_key_name: DEEPSEEK_KEY
  can_stream: true
  max_tokens: 8k
  max_input_tokens: 128k
  reasoning_effort: low
  extra_headers:
    X-Team: blue sky
  extra_body:
    provider: {order: [a, b]}

- model_id: local
  api_base: http://127.0.0.1:9/v1
  api_key: sk-local-0123456789
  max_tokens: 16384
  reasoning_effort: null
  direct: true
"""
MAPPING = """\
models:
  deepseek/chat:
    model_name: deepseek-chat
    api_base: "https://api.deepseek.com/v1"
    api_key_name: DEEPSEEK_KEY
    can_stream: true
    max_tokens: 8K
    max_input_tokens: 128K
    reasoning_effort: low
    extra_headers: {X-Team: blue sky}
    extra_body: {provider: {order: [a, b]}}
  local:
    api_base: http://127.0.0.1:9/v1
    api_key: sk-local-0123456789
    max_tokens: 16384
    direct: true
"""
KEY = "sk-deepseek-0123456789abcd"


@pytest.fixture
def write(home, monkeypatch):
    monkeypatch.setenv("DEEPSEEK_KEY", KEY)

    def write(text):
        file = home / "models.yaml"
        file.write_text(text)
        return file

    return write


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(LIST, id="list"),
        pytest.param(MAPPING, id="mapping under models"),
        pytest.param("\n".join(line[2:] for line in MAPPING.splitlines()[1:]), id="mapping"),
    ],
)
def test_every_form_becomes_a_fleet(home, ccproxy, write, text):
    done = ccproxy("import", write(text), "--write")
    assert done.exit_code == 0, done.stderr
    checked = load_all(home / "ccproxy.toml")
    assert [entry.label for entry in checked.fleet.entries] == [
        *("Kimi-K2", "GLM-4.6"),
        *("deepseek-chat", "local"),
    ]
    assert [entry.port for entry in checked.fleet.entries][2:] == [8081, 8082]
    deepseek = checked.workers["deepseek-chat"]
    assert deepseek.provider == "deepseek"
    assert deepseek.base_url == "https://api.deepseek.com/v1"
    assert deepseek.api_keys == (KEY,)
    assert (deepseek.models.big, deepseek.models.small) == ("deepseek-chat", "deepseek-chat")
    assert (deepseek.max_tokens_limit, deepseek.context_window) == (8192, 131072)
    assert deepseek.custom_headers["X-Team"] == "blue sky"
    body = deepseek.target("deepseek-chat").quirks.extra_body
    assert (body["reasoning_effort"], body["provider"]) == ("low", {"order": ["a", "b"]})
    local = checked.workers["local"]
    assert (local.api, local.api_keys) == ("messages", ("sk-local-0123456789",))
    for name in ("deepseek-chat", "local"):
        assert stat.S_IMODE((home / f"envs/{name}.env").stat().st_mode) == 0o600


def test_the_table_keeps_its_content(home, ccproxy, write):
    before = (home / "ccproxy.toml").read_text()
    ccproxy("import", write(LIST), "--write")
    assert (home / "ccproxy.toml").read_text().startswith(before.rstrip())


def test_the_preview_contains_no_keys(home, ccproxy, write):
    before = (home / "ccproxy.toml").read_bytes()
    done = ccproxy("import", write(LIST))
    assert done.exit_code == 0
    assert "MAX_TOKENS_LIMIT=8192" in done.stdout
    assert "PROVIDER_API_KEY=…abcd" in done.stdout
    assert 'label = "deepseek-chat"' in done.stdout
    assert "deepseek/chat: can_stream: ccproxy has no such setting" in done.stdout
    assert "Nothing was written" in done.stdout
    for secret in (KEY, "sk-local-0123456789", "blue sky"):
        assert secret not in done.stdout + done.stderr
    assert (home / "ccproxy.toml").read_bytes() == before
    assert sorted(path.name for path in (home / "envs").iterdir()) == ["glm.env", "kimi.env"]


def test_a_missing_key_is_noted(home, ccproxy, write, monkeypatch):
    monkeypatch.delenv("DEEPSEEK_KEY")
    done = ccproxy("import", write(LIST), "--write")
    assert "$DEEPSEEK_KEY is not set" in done.stdout
    assert "# PROVIDER_API_KEY=" in (home / "envs/deepseek-chat.env").read_text()


def test_nothing_is_overwritten(home, ccproxy, write):
    (home / "envs/local.env").write_text("mine")
    before = (home / "ccproxy.toml").read_bytes()
    done = ccproxy("import", write(LIST), "--write")
    assert (done.exit_code, "envs/local.env" in done.stderr) == (2, True)
    assert (home / "envs/local.env").read_text() == "mine"
    assert not (home / "envs/deepseek-chat.env").exists()
    assert (home / "ccproxy.toml").read_bytes() == before


def test_if_the_table_cannot_be_extended_no_env_file_is_left(home, ccproxy, write):
    row = '{port = 18081, env_file = "envs/kimi.env", label = "K"}'
    (home / "ccproxy.toml").write_text(f"proxy = [{row}]\n")
    before = sorted(home.rglob("*"))
    done = ccproxy("import", source := write(LIST), "--write")
    assert (done.exit_code, "add this by hand" in done.stderr) == (1, True)
    assert sorted(home.rglob("*")) == sorted([*before, source])


def test_labels_are_derived_and_unique(home, ccproxy, write):
    one = "- {model_id: %s, api_base: 'https://x.example/v1', api_key: sk-0123456789ab}\n"
    write("".join(one % f'"{name}"' for name in ("kimi-k2", "a/b", "a b", "ü", "x" * 60)))
    assert ccproxy("import", "models.yaml", "--write").exit_code == 0
    labels = [entry.label for entry in load_fleet(home / "ccproxy.toml").entries[2:]]
    assert labels == ["kimi-k2-2", "a-b", "a-b-2", "model", "x" * 29]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "contains no models"),
        ("[]", "contains no models"),
        ("just text", "contains no models"),
        ("- 5", "contains no models"),
        ("a: 5", "contains no models"),
        ("- {model_id: a", "models.yaml:1"),
        ("- {api_base: 'https://x.example'}", "model_id is missing"),
        ("- {model_id: a}", "api_base is missing"),
        ("- {model_id: a, api_base: x}", "http:// or https://"),
        ("- {model_id: a, api_base: 'https://x.example', max_tokens: many}", "such as 8192 or 8k"),
        ("- {model_id: a, api_base: 'https://x.example', extra_headers: 5}", "must be a mapping"),
        ("- {model_id: a, api_base: 'https://x.example', extra_headers: {'a b': x}}", "header"),
        (
            "- {model_id: a, api_base: 'https://x.example', extra_body: {model: x}}",
            "must not contain",
        ),
        ("!!python/object/apply:os.system ['touch pwned']", "is not YAML"),
    ],
)
def test_mistakes_in_a_file_are_reported(home, ccproxy, write, text, expected):
    done = ccproxy("import", write(text), "--write")
    assert done.exit_code == 78, done.stderr
    assert expected in done.stderr
    assert sorted(path.name for path in (home / "envs").iterdir()) == ["glm.env", "kimi.env"]
    assert not (home / "pwned").exists()


NASTY = ["it's", "a \\ b", 'say "x"', "# no comment", "${HOME} $(id)", "\\'", "ünï code"]


@pytest.mark.parametrize("value", NASTY)
def test_any_value_survives_the_env_file(home, ccproxy, write, value):
    fields = {
        "model_id": "m",
        "api_base": "https://x.example",
        "api_key": "sk-inline-0123456789abcdef",
        "extra_body": {"note": value},
    }
    done = ccproxy("import", write(json.dumps([fields])), "--write")
    assert done.exit_code == 0, done.stderr
    config = load_worker(home / "envs/m.env")
    assert config.target("m").quirks.extra_body == {"note": value}


def test_an_existing_entry_is_not_imported_again(home, ccproxy, write):
    file = write("- {model_id: m, api_base: 'https://x.example/v1', api_key: sk-in-0123456789abc}")
    assert ccproxy("import", file, "--write").exit_code == 0
    before = (home / "ccproxy.toml").read_text()
    again = ccproxy("import", file, "--write")
    assert (again.exit_code, again.stdout) == (0, "m already exists as m\n")
    assert (home / "ccproxy.toml").read_text() == before


def test_all_mistakes_are_reported_at_once(ccproxy, write):
    done = ccproxy("import", write("- {model_id: a}\n- {api_base: x}\n"))
    assert done.stderr.count("Error:") == 2


def test_without_a_yaml_reader_the_error_names_the_package(ccproxy, write, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    done = ccproxy("import", write(LIST))
    assert done.exit_code == 1
    assert "pip install 'ccproxy-fleet[import]'" in done.stderr


@pytest.mark.parametrize(
    ("value", "tokens"),
    [("8k", 8192), ("8K", 8192), (" 128 k", 131072), ("1m", 1048576), ("1.5k", 1536), (4096, 4096)],
)
def test_sizes(value, tokens):
    assert parse_size(value, "max_tokens") == tokens


@pytest.mark.parametrize("value", ["", "k", "8kk", "-1", 0, True, "8g", None, [8], "9" * 400])
def test_no_sizes(value):
    with pytest.raises(ValueError, match="such as 8192"):
        parse_size(value, "max_tokens")
