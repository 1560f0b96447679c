"""The environment of a session: which variables are set and unset, and their values."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccproxy.cli.session.claude_environment import (
    MANAGED,
    find_limits,
    no_session,
    session,
    window_note,
)
from ccproxy.config.fleet import Entry
from ccproxy.config.worker_config import PLACEHOLDER, load_worker
from ccproxy.routing.entry_references import FleetModels

ENTRY = Entry(port=8082, env_file=Path("kimi.env"), label="Kimi")
OPENAI = {"PROVIDER_BASE_URL": "http://127.0.0.1:9/v1", "PROVIDER_API_KEY": "sk-own-1234567890"}


def settings(settings=(), *, environ=(), entry=ENTRY):
    return session(load_worker(None, entry=entry, environ=dict(settings)), dict(environ))


def test_the_complete_environment_of_a_session():
    values = {"BIG_MODEL": "big", "MIDDLE_MODEL": "mid", "SMALL_MODEL": "small"}
    result = settings({**OPENAI, **values, "CONTEXT_WINDOW": "200000"})
    descriptions = {name for name in result if name.endswith(("_NAME", "_DESCRIPTION"))}
    assert {
        name: value
        for name, value in result.items()
        if value is not None and name not in descriptions
    } == {
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:8082",
        "ANTHROPIC_AUTH_TOKEN": PLACEHOLDER,
        "ANTHROPIC_MODEL": "big",
        "ANTHROPIC_DEFAULT_OPUS_MODEL": "big",
        "ANTHROPIC_DEFAULT_SONNET_MODEL": "mid",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "small",
        "ANTHROPIC_DEFAULT_FABLE_MODEL": "big",
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "200000",
        "CLAUDE_CODE_DISABLE_1M_CONTEXT": "1",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "32000",
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_AUTO_MODE_SERVER": "0",
        "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1",
        "API_TIMEOUT_MS": "3000000",
        "CCPROXY_ACTIVE": "Kimi",
    }
    assert result["ANTHROPIC_API_KEY"] is None


@pytest.mark.parametrize(
    ("more", "server"),
    [
        ({}, "0"),
        ({"AUTO_MODE_MODEL": "judge"}, None),
        ({"AUTO_MODE_MODEL": "judge", "PROVIDER_API": "messages"}, "0"),
    ],
    ids=["nobody judges", "a judge", "direct mode"],
)
def test_auto_mode_is_judged_here_only_by_a_model_for_it(more, server):
    assert settings({**OPENAI, **more})["CLAUDE_CODE_AUTO_MODE_SERVER"] == server


@pytest.mark.parametrize("alias", ["OPUS", "SONNET", "HAIKU", "FABLE"])
def test_each_tier_has_a_title_and_a_description_in_the_model_picker(alias):
    models = {"BIG_MODEL": "m", "SMALL_MODEL": "m", "CONTEXT_WINDOW": "131072"}
    result = settings({**OPENAI, **models})
    prefix = f"ANTHROPIC_DEFAULT_{alias}_MODEL"
    assert result[f"{prefix}_NAME"] == "Kimi · m"
    assert "131,072 tokens" in result[f"{prefix}_DESCRIPTION"]
    assert result[f"{prefix}_SUPPORTED_CAPABILITIES"] is None


@pytest.mark.parametrize(
    "name",
    [
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_VERTEX",
        "CLAUDE_CODE_USE_FOUNDRY",
        "CLAUDE_CODE_USE_ANTHROPIC_AWS",
        "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD",
        "CLAUDE_CODE_USE_MANTLE",
        "CLAUDE_CODE_USE_GATEWAY",
        "ANTHROPIC_UNIX_SOCKET",
        "ANTHROPIC_DEFAULT_MODEL",
        "ANTHROPIC_SMALL_FAST_MODEL",
    ],
)
def test_variables_that_lead_elsewhere_are_unset(name):
    assert settings(OPENAI, environ={name: "1"})[name] is None


@pytest.mark.parametrize(
    ("saved", "model"),
    [
        pytest.param(None, "big", id="none is saved"),
        pytest.param("GLM-5:big", "big", id="another entry's"),
        pytest.param("deepseek/deepseek-v4", "big", id="a model of no entry"),
        pytest.param("claude-opus-5-5", "big", id="a Claude model"),
        pytest.param("mid", "mid", id="a model of this entry"),
        pytest.param("kimi:small", "kimi:small", id="a model of this entry with its label"),
        pytest.param("sonnet", "mid", id="an alias selects the tier"),
        pytest.param("haiku[1m]", "small", id="an alias with a suffix"),
    ],
)
def test_a_saved_model_never_selects_another_provider(saved, model):
    models = {"BIG_MODEL": "big", "MIDDLE_MODEL": "mid", "SMALL_MODEL": "small"}
    config = load_worker(None, entry=ENTRY, environ={**OPENAI, **models})
    assert session(config, {}, saved_model=saved)["ANTHROPIC_MODEL"] == model


def test_a_bypassed_proxy_leaves_the_models_to_claude_code():
    config = load_worker(None, entry=ENTRY, environ={**OPENAI, "BIG_MODEL": "m"})
    result = session(config, {}, is_bypassed=True)
    assert [name for name, value in result.items() if "MODEL" in name and value] == []
    assert result["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] is None


def test_the_provider_key_is_not_in_it():
    result = settings({**OPENAI, "ANTHROPIC_API_KEY": "client-key-1234567890"})
    assert OPENAI["PROVIDER_API_KEY"] not in str(result)


def test_another_label_replaces_all_variables():
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
def test_the_address_can_be_used_by_a_client(host, expected):
    result = settings({**OPENAI, "HOST": host, "ANTHROPIC_API_KEY": "client-key-1234567890"})
    assert result["ANTHROPIC_BASE_URL"] == expected


@pytest.mark.parametrize(
    ("value", "window", "answer"),
    [
        pytest.param({"CONTEXT_WINDOW": "200000"}, "200000", "32000", id="never over 32,000"),
        pytest.param({"CONTEXT_WINDOW": "40000"}, "40000", "10000", id="a quarter of the window"),
        pytest.param({"MAX_TOKENS_LIMIT": "4096"}, None, "4096", id="the user's limit"),
        pytest.param({}, None, None, id="nothing is known, nothing is set"),
    ],
)
def test_limits(value, window, answer):
    unknown = {"BIG_MODEL": "a", "MIDDLE_MODEL": "b", "SMALL_MODEL": "c"}
    result = settings({**OPENAI, **unknown, **value})
    assert result["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == window
    assert result["CLAUDE_CODE_DISABLE_1M_CONTEXT"] == ("1" if window else None)
    assert result["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == answer


@pytest.mark.parametrize(("window", "disabled"), [("200000", "1"), ("262144", None)])
def test_a_window_that_needs_no_1m_setting_causes_no_notice(window, disabled):
    result = settings({**OPENAI, "BIG_MODEL": "m", "CONTEXT_WINDOW": window})
    assert result["CLAUDE_CODE_DISABLE_1M_CONTEXT"] == disabled


def test_the_smallest_window_of_the_three_models_is_used():
    value = {"PROVIDER": "kimi", "PROVIDER_API_KEY": "sk-own-1234567890"}
    config = load_worker(None, entry=ENTRY, environ=value)
    names = (config.models.big, config.models.middle, config.models.small)
    smallest = min(config.target(name or "").window for name in names)
    result = session(config, {})
    assert result["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == str(smallest)


# Thresholds of 2026-11-28: gpt-6.1-sol 272,000 of 922,000 tokens of input; qwen3-coder-plus 32,000.


@pytest.mark.parametrize(
    ("value", "model", "window"),
    [
        pytest.param({"PRICE_GUARD": "on"}, "gpt-6.1-sol", 272_000, id="ends at the threshold"),
        pytest.param({}, "gpt-6.1-sol", 922_000, id="off"),
        pytest.param(
            {"PRICE_GUARD": "on", "CONTEXT_WINDOW": "200000"}, "gpt-6.1-sol", 200_000,
            id="a smaller window",
        ),
        pytest.param(
            {"PRICE_GUARD": "on", "PRICES": "gpt-6.1-sol=1/2"}, "gpt-6.1-sol", 922_000,
            id="the user's own price has no threshold",
        ),
        pytest.param(
            {"PRICE_GUARD": "on", "PROVIDER": "qwen", "CONTEXT_WINDOW": "500000"},
            "qwen3-coder-plus", 500_000,
            id="a threshold below the least that Claude Code accepts",
        ),
    ],
)  # fmt: skip
def test_the_price_guard_ends_the_window_at_the_threshold(value, model, window):
    tiers = dict.fromkeys(("BIG_MODEL", "MIDDLE_MODEL", "SMALL_MODEL"), model)
    environ = {"PROVIDER": "openai", "PROVIDER_API_KEY": "sk-own-1234567890", **tiers, **value}
    config = load_worker(None, entry=ENTRY, environ=environ)
    assert find_limits(config).windows == {model: window}


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
    result = {
        label: load_worker(
            None, entry=Entry(port=8082, env_file=Path("x"), label=label), environ=environ
        )
        for label, environ in workers.items()
    }
    labels = {"kimi": "Kimi", "glm": "GLM", "gone": "Gone"}
    settings = session(
        result["Kimi"], {}, fleet_models=FleetModels(labels=labels, config=result.get)
    )
    assert settings["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == window
    assert settings["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == answer


CLAUDE = {"PROVIDER": "anthropic", "PROVIDER_API_KEY": "sk-ant-1234567890123456"}


@pytest.mark.parametrize(
    ("value", "is_told"),
    [
        pytest.param({**OPENAI, "BIG_MODEL": "own"}, False, id="a server of the user's own"),
        pytest.param(
            {**OPENAI, "BIG_MODEL": "own", "CONTEXT_WINDOW": "40000"}, True, id="set by the user"
        ),
        pytest.param({"PROVIDER": "ollama"}, False, id="a preset that cannot know"),
        pytest.param({"PROVIDER": "kimi", "PROVIDER_API_KEY": "sk-1"}, True, id="a preset"),
        pytest.param(CLAUDE, True, id="Claude Code knows its own models"),
        pytest.param({**OPENAI, "BIG_MODEL": "GLM:big"}, True, id="another entry's model"),
    ],
)
def test_an_unknown_window_is_reported(value, is_told):
    zai = {"PROVIDER": "zai", "PROVIDER_API_KEY": "sk-1"}
    result = {
        label: load_worker(
            None, entry=Entry(port=8082, env_file=Path("x"), label=label), environ=environ
        )
        for label, environ in (("Kimi", value), ("GLM", zai))
    }
    fleet_models = FleetModels(labels={"kimi": "Kimi", "glm": "GLM"}, config=result.get)
    note = window_note(result["Kimi"], fleet_models=fleet_models)
    assert (note is None) is is_told
    if note is not None:
        assert note.startswith(f"the context window of {result['Kimi'].models.big} is unknown")
        assert "Set CONTEXT_WINDOW in the environment" in note
        assert "\n" not in note


def test_a_tier_without_a_model_keeps_the_clients_name():
    result = settings({"PROVIDER": "anthropic", "PROVIDER_API_KEY": "sk-ant-1234567890123456"})
    config = load_worker(
        None, entry=ENTRY, environ={"PROVIDER": "anthropic", "PROVIDER_API_KEY": "sk-ant-12345678"}
    )
    assert result["ANTHROPIC_DEFAULT_OPUS_MODEL"] == (config.models.big or None)


def test_claudes_own_models_keep_their_own_limits():
    value = {**OPENAI, "BIG_MODEL": "claude-opus-5-5", "CONTEXT_WINDOW": "200000"}
    result = settings(value)
    assert result["CLAUDE_CODE_DISABLE_1M_CONTEXT"] is None
    assert result["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] is None
    limited = settings({**value, "MAX_TOKENS_LIMIT": "64000"})
    assert limited["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "64000"


# The token.


@pytest.mark.parametrize(
    ("value", "environ", "expected"),
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
def test_the_token(value, environ, expected):
    assert settings(value, environ=environ)["ANTHROPIC_AUTH_TOKEN"] == expected


@pytest.mark.parametrize(
    ("value", "token"),
    [
        pytest.param(OPENAI, PLACEHOLDER, id="no key is asked for"),
        pytest.param(
            {**OPENAI, "ANTHROPIC_API_KEY": "client-key-1234"}, "client-key-1234", id="one"
        ),
        pytest.param({**OPENAI, "PASS_CLIENT_KEY": "on"}, PLACEHOLDER, id="not in two headers"),
    ],
)
def test_while_the_proxy_is_off_the_users_own_key_is_left_alone(value, token):
    config = load_worker(None, entry=ENTRY, environ=value)
    result = session(config, {"ANTHROPIC_API_KEY": "sk-the-users-own"}, is_bypassed=True)
    assert set(MANAGED) - set(result) == {"ANTHROPIC_API_KEY"}
    assert result["ANTHROPIC_AUTH_TOKEN"] == token


# The user's HTTP proxy.


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
def test_requests_to_this_machine_avoid_an_http_proxy(environ, expected):
    result = settings(OPENAI, environ=environ)
    assert {name: result[name] for name in result if name.lower() == "no_proxy"} == expected


def test_the_proxys_own_address_is_excepted_too():
    value = {**OPENAI, "HOST": "192.0.2.7", "ANTHROPIC_API_KEY": "client-key-1234567890"}
    result = settings(value, environ={"HTTPS_PROXY": "http://p"})
    assert result["NO_PROXY"] == "127.0.0.1,localhost,::1,192.0.2.7"


def test_an_http_proxy_in_claude_codes_settings_counts():
    config = load_worker(None, entry=ENTRY, environ=OPENAI)
    network = {"HTTPS_PROXY": "http://p", "NO_PROXY": ".corp"}
    result = session(config, {"NO_PROXY": "shell"}, network_environ=network)
    assert result["NO_PROXY"] == ".corp,127.0.0.1,localhost,::1"
