"""The environment of a session: what is set, what is removed, and for which proxy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ccproxy.cli.session.claude_environment import MANAGED, no_session, session, window_note
from ccproxy.cli.session.claude_settings import find_conflicts
from ccproxy.config.answering import Map
from ccproxy.config.fleet import Entry
from ccproxy.config.worker import PLACEHOLDER, load_worker

ENTRY = Entry(port=8082, env_file=Path("kimi.env"), label="Kimi")
OPENAI = {"PROVIDER_BASE_URL": "http://127.0.0.1:9/v1", "PROVIDER_API_KEY": "sk-own-1234567890"}


def settings(settings=(), *, environ=(), entry=ENTRY):
    return session(load_worker(None, entry=entry, environ=dict(settings)), dict(environ))


def test_everything_that_a_session_needs():
    values = {"BIG_MODEL": "big", "MIDDLE_MODEL": "mid", "SMALL_MODEL": "small"}
    found = settings({**OPENAI, **values, "CONTEXT_WINDOW": "200000"})
    assert {name: value for name, value in found.items() if value is not None} == {
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:8082",
        "ANTHROPIC_AUTH_TOKEN": PLACEHOLDER,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": "big",
        "ANTHROPIC_DEFAULT_SONNET_MODEL": "mid",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "small",
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "200000",
        "CLAUDE_CODE_DISABLE_1M_CONTEXT": "1",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "32000",
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_AUTO_MODE_SERVER": "0",
        "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1",
        "API_TIMEOUT_MS": "3000000",
        "CCPROXY_ACTIVE": "Kimi",
    }
    assert found["ANTHROPIC_API_KEY"] is None


def test_the_provider_key_is_not_in_it():
    found = settings({**OPENAI, "ANTHROPIC_API_KEY": "client-key-1234567890"})
    assert OPENAI["PROVIDER_API_KEY"] not in str(found)


def test_another_label_leaves_nothing_behind():
    first = settings({**OPENAI, "CONTEXT_WINDOW": "200000"})
    second = settings(OPENAI)
    assert set(first) == set(second) == set(no_session()) == set(MANAGED)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:8082"),
        ("localhost", "http://localhost:8082"),
        ("0.0.0.0", "http://127.0.0.1:8082"),
        ("::", "http://[::1]:8082"),
        ("::1", "http://[::1]:8082"),
        ("192.0.2.7", "http://192.0.2.7:8082"),
    ],
)
def test_the_address_is_one_that_a_client_can_use(host, expected):
    found = settings({**OPENAI, "HOST": host, "ANTHROPIC_API_KEY": "client-key-1234567890"})
    assert found["ANTHROPIC_BASE_URL"] == expected


@pytest.mark.parametrize(
    ("given", "window", "answer"),
    [
        pytest.param({"CONTEXT_WINDOW": "200000"}, "200000", "32000", id="never over 32,000"),
        pytest.param({"CONTEXT_WINDOW": "40000"}, "40000", "10000", id="a quarter of the window"),
        pytest.param({"MAX_TOKENS_LIMIT": "4096"}, None, "4096", id="the user's limit"),
        pytest.param({}, None, None, id="nothing is known, nothing is set"),
    ],
)
def test_limits(given, window, answer):
    unknown = {"BIG_MODEL": "a", "MIDDLE_MODEL": "b", "SMALL_MODEL": "c"}
    found = settings({**OPENAI, **unknown, **given})
    assert found["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == window
    assert found["CLAUDE_CODE_DISABLE_1M_CONTEXT"] == ("1" if window else None)
    assert found["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == answer


def test_the_smallest_window_of_the_three_models_counts():
    given = {"PROVIDER": "kimi", "PROVIDER_API_KEY": "sk-own-1234567890"}
    config = load_worker(None, entry=ENTRY, environ=given)
    names = (config.models.big, config.models.middle, config.models.small)
    smallest = min(config.target(name).window for name in names)
    found = session(config, {})
    assert found["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == str(smallest)


@pytest.mark.parametrize(
    ("tiers", "window", "answer"),
    [
        pytest.param({}, "200000", "32000", id="all at home"),
        pytest.param({"small": "GLM:small"}, "60000", "8000", id="a tier elsewhere"),
        pytest.param({"small": "GLM:big"}, "60000", "8000", id="a tier that leads on"),
        pytest.param({"middle": "GLM:glm-x"}, "60000", "8000", id="a model elsewhere"),
        pytest.param({"big": "Gone:x"}, "200000", "32000", id="an entry with a mistake"),
        pytest.param({"big": "Kimi:big"}, "200000", "32000", id="a circle"),
    ],
)
def test_a_tier_at_another_entry_has_that_entrys_limits(tiers, window, answer):
    own = {"big": "k3", "middle": "k3", "small": "k3", **tiers}
    kimi = {f"{tier.upper()}_MODEL": model for tier, model in own.items()}
    glm = {"BIG_MODEL": "GLM:small", "SMALL_MODEL": "glm-x", "CONTEXT_WINDOW": "60000"}
    workers = {
        "Kimi": {**OPENAI, **kimi, "CONTEXT_WINDOW": "200000"},
        "GLM": {**OPENAI, **glm, "MAX_TOKENS_LIMIT": "8000"},
    }
    found = {
        label: load_worker(
            None, entry=Entry(port=8082, env_file=Path("x"), label=label), environ=environ
        )
        for label, environ in workers.items()
    }
    labels = {"kimi": "Kimi", "glm": "GLM", "gone": "Gone"}
    settings = session(found["Kimi"], {}, fleet_map=Map(labels=labels, config=found.get))
    assert settings["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == window
    assert settings["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == answer


CLAUDE = {"PROVIDER": "anthropic", "PROVIDER_API_KEY": "sk-ant-1234567890123456"}


@pytest.mark.parametrize(
    ("given", "is_told"),
    [
        pytest.param({**OPENAI, "BIG_MODEL": "own"}, False, id="a server of the user's own"),
        pytest.param(
            {**OPENAI, "BIG_MODEL": "own", "CONTEXT_WINDOW": "40000"}, True, id="the user says it"
        ),
        pytest.param({"PROVIDER": "ollama"}, False, id="a preset that cannot know"),
        pytest.param({"PROVIDER": "kimi", "PROVIDER_API_KEY": "sk-1"}, True, id="a preset"),
        pytest.param(CLAUDE, True, id="Claude Code knows its own models"),
        pytest.param({**OPENAI, "BIG_MODEL": "GLM:big"}, True, id="whoever answers in the end"),
    ],
)
def test_a_window_that_nobody_knows_is_told(given, is_told):
    zai = {"PROVIDER": "zai", "PROVIDER_API_KEY": "sk-1"}
    found = {
        label: load_worker(
            None, entry=Entry(port=8082, env_file=Path("x"), label=label), environ=environ
        )
        for label, environ in (("Kimi", given), ("GLM", zai))
    }
    fleet_map = Map(labels={"kimi": "Kimi", "glm": "GLM"}, config=found.get)
    note = window_note(found["Kimi"], fleet_map=fleet_map)
    assert (note is None) is is_told
    if note is not None:
        assert note.startswith(f"the context window of {found['Kimi'].models.big} is unknown")
        assert "Set CONTEXT_WINDOW in the environment" in note
        assert "\n" not in note


def test_a_tier_without_a_model_keeps_the_clients_name():
    found = settings({"PROVIDER": "anthropic", "PROVIDER_API_KEY": "sk-ant-1234567890123456"})
    config = load_worker(
        None, entry=ENTRY, environ={"PROVIDER": "anthropic", "PROVIDER_API_KEY": "sk-ant-12345678"}
    )
    assert found["ANTHROPIC_DEFAULT_OPUS_MODEL"] == (config.models.big or None)


def test_claudes_own_models_keep_their_own_limits():
    given = {**OPENAI, "BIG_MODEL": "claude-opus-5-5", "CONTEXT_WINDOW": "200000"}
    found = settings(given)
    assert found["CLAUDE_CODE_DISABLE_1M_CONTEXT"] is None
    assert found["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] is None
    limited = settings({**given, "MAX_TOKENS_LIMIT": "64000"})
    assert limited["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "64000"


# The token.


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        pytest.param(OPENAI, {}, PLACEHOLDER, id="no key is asked for"),
        pytest.param(
            OPENAI, {"ANTHROPIC_AUTH_TOKEN": "mine"}, PLACEHOLDER, id="not the user's own"
        ),
        pytest.param(
            {**OPENAI, "ANTHROPIC_API_KEY": "first-client-key,second-client-key"},
            {},
            "first-client-key",
            id="the first client key",
        ),
        pytest.param(
            {**OPENAI, "PASS_CLIENT_KEY": "on"},
            {"ANTHROPIC_API_KEY": "sk-the-users-own"},
            "sk-the-users-own",
            id="the user's own where it is passed on",
        ),
        pytest.param(
            {**OPENAI, "PASS_CLIENT_KEY": "on"},
            {"ANTHROPIC_AUTH_TOKEN": "sk-of-glm", "CCPROXY_ACTIVE": "GLM"},
            PLACEHOLDER,
            id="never another label's",
        ),
    ],
)
def test_the_token(given, environ, expected):
    assert settings(given, environ=environ)["ANTHROPIC_AUTH_TOKEN"] == expected


@pytest.mark.parametrize(
    ("given", "token"),
    [
        pytest.param(OPENAI, PLACEHOLDER, id="no key is asked for"),
        pytest.param(
            {**OPENAI, "ANTHROPIC_API_KEY": "client-key-1234"}, "client-key-1234", id="one"
        ),
        pytest.param({**OPENAI, "PASS_CLIENT_KEY": "on"}, PLACEHOLDER, id="not in two headers"),
    ],
)
def test_while_the_proxy_is_off_the_users_own_key_is_left_alone(given, token):
    config = load_worker(None, entry=ENTRY, environ=given)
    found = session(config, {"ANTHROPIC_API_KEY": "sk-the-users-own"}, is_bypassed=True)
    assert set(MANAGED) - set(found) == {"ANTHROPIC_API_KEY"}
    assert found["ANTHROPIC_AUTH_TOKEN"] == token


# An HTTP proxy of the user's.


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, {}, id="none"),
        pytest.param(
            {"HTTPS_PROXY": "http://p"}, {"NO_PROXY": "127.0.0.1,localhost,::1"}, id="one"
        ),
        pytest.param(
            {"http_proxy": "http://p", "no_proxy": ".corp, localhost"},
            {"no_proxy": ".corp,localhost,127.0.0.1,::1"},
            id="the user's exceptions stay",
        ),
        pytest.param(
            {"HTTP_PROXY": "p", "NO_PROXY": "*"}, {"NO_PROXY": "*"}, id="all are excepted"
        ),
    ],
)
def test_requests_to_this_machine_keep_out_of_a_proxy(environ, expected):
    found = settings(OPENAI, environ=environ)
    assert {name: found[name] for name in found if name.lower() == "no_proxy"} == expected


# Settings files that would win.


def write(file, env):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"env": env}))


def conflicts(tmp_path, values, **environ):
    found = find_conflicts(
        values, environ={"HOME": str(tmp_path / "home"), **environ}, cwd=tmp_path / "project"
    )
    return [(str(one.file.relative_to(tmp_path)), one.variable) for one in found]


WANTED = {"ANTHROPIC_BASE_URL": "http://x", "ANTHROPIC_API_KEY": None, "API_TIMEOUT_MS": "1"}


def test_each_file_and_key_that_would_win_is_named(tmp_path):
    write(tmp_path / "home/.claude/settings.json", {"ANTHROPIC_BASE_URL": "http://y", "X": "1"})
    write(tmp_path / "project/.claude/settings.json", {"ANTHROPIC_API_KEY": "k"})
    write(tmp_path / "project/.claude/settings.local.json", {"API_TIMEOUT_MS": 5})
    assert conflicts(tmp_path, WANTED) == [
        ("home/.claude/settings.json", "ANTHROPIC_BASE_URL"),
        ("project/.claude/settings.json", "ANTHROPIC_API_KEY"),
        ("project/.claude/settings.local.json", "API_TIMEOUT_MS"),
    ]


def test_the_same_value_is_no_shadow(tmp_path):
    same = {"ANTHROPIC_BASE_URL": "http://x", "ANTHROPIC_API_KEY": "", "API_TIMEOUT_MS": 1}
    write(tmp_path / "home/.claude/settings.json", same)
    assert conflicts(tmp_path, WANTED) == []


def test_claudes_own_folder_may_lie_elsewhere(tmp_path):
    write(tmp_path / "home/.claude/settings.json", {"API_TIMEOUT_MS": 5})
    write(tmp_path / "other/settings.json", {"ANTHROPIC_BASE_URL": "http://y"})
    found = conflicts(tmp_path, WANTED, CLAUDE_CONFIG_DIR=str(tmp_path / "other"))
    assert found == [("other/settings.json", "ANTHROPIC_BASE_URL")]


@pytest.mark.parametrize("text", ["{", "[]", '{"env": 3}', "{}", "\xff"])
def test_what_cannot_be_read_is_claudes_to_complain_about(text, tmp_path):
    file = tmp_path / "home/.claude/settings.json"
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="latin-1")
    assert conflicts(tmp_path, WANTED) == []
