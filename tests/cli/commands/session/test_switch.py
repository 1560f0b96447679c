"""`ccproxy switch` and `ccproxy route` change only files, so no proxy needs to run."""

from __future__ import annotations

import json

import pytest

from ccproxy.routing.names import NO_TIERS
from ccproxy.routing.switching import NO_SWITCH
from ccproxy.store.overrides import read_switch, switch_path
from tests.cli.conftest import TABLE, write_env

CHOICES = """
[presets.night]
big = "GLM-4.6:glm-night"
small = "Kimi-K2:small"

[routes.Kimi-K2]
subagent = "GLM-4.6:big"
long_context = { over = 5000, model = "GLM-4.6:long" }

[routes.Kimi-K2.agents]
Explore = "small"

[fallback]
Kimi-K2 = ["GLM-4.6"]
"""
SERVER = "PROVIDER_BASE_URL=http://127.0.0.1:9/v1\nPROVIDER_API_KEY=sk-0123456789abcdef\n"


@pytest.fixture
def fleet(home):
    (home / "ccproxy.toml").write_text(TABLE + CHOICES)
    for name in ("kimi", "glm"):
        models = "".join(f"{tier}_MODEL={name}-{tier.lower()}\n" for tier in ("BIG", "SMALL"))
        write_env(home, name, SERVER + models)
    return home


def saved_switch(home):
    return read_switch(switch_path(home / "state", "Kimi-K2"))


def test_a_preset(fleet, ccproxy):
    result = ccproxy("switch", "kimi-k2", "night")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "Kimi-K2 is switched to night",
        "  big     GLM-4.6:glm-night",
        "  middle  GLM-4.6:glm-night",
        "  small   kimi-small",
    ]
    assert (saved_switch(fleet).preset, saved_switch(fleet).tiers.big) == (
        "night",
        "GLM-4.6:glm-night",
    )


def test_single_models_and_a_reset(fleet, ccproxy):
    ccproxy("switch", "kimi-k2", "--big", "glm-4.6:big")
    result = ccproxy("switch", "kimi-k2", "--small", "glm-small", "--json")
    assert json.loads(result.stdout) == {
        "schema": 1,
        "label": "Kimi-K2",
        "preset": None,
        "models": {"big": "GLM-4.6:big", "middle": "kimi-big", "small": "GLM-4.6:glm-small"},
    }
    result = ccproxy("switch", "kimi-k2", "--reset")
    assert result.stdout.startswith("Kimi-K2 uses the models in its env file\n  big     kimi-big\n")
    assert not switch_path(fleet / "state", "Kimi-K2").exists()


def test_without_arguments_the_presets_and_models_are_listed(fleet, ccproxy):
    result = ccproxy("switch", "kimi-k2")
    assert result.stdout.splitlines()[0] == "Kimi-K2 uses the models in its env file"
    presets = result.stdout.splitlines()[-1]
    assert presets.startswith("model presets: openai_premium, ")
    assert presets.endswith(", night")
    assert "anthropic_pure" not in presets, "no provider of this fleet offers its models"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nihgt"], ['there is no model preset "nihgt" (did you mean "night"?)', "cross_balanced"]),
        (["--big", "GLM:big"], ['there is no proxy "GLM" (did you mean "GLM-4.6"?)', "Kimi-K2: "]),
        (["--big", "nonesuch"], ["no provider here offers nonesuch", "GLM-4.6: glm-big"]),
        (["night", "--big", "glm-big"], ["name either a model preset, or models"]),
        (["night", "--reset"], ["--reset cannot be combined"]),
    ],
)
def test_invalid_names_change_nothing(fleet, ccproxy, words, expected):
    ccproxy("switch", "kimi-k2", "--big", "GLM-4.6:big")
    before = saved_switch(fleet)
    result = ccproxy("switch", "kimi-k2", *words)
    assert result.exit_code == 2
    assert saved_switch(fleet) == before
    for text in expected:
        assert text in result.stderr


def test_an_entry_with_a_mistake_is_not_switched(fleet, ccproxy):
    write_env(fleet, "kimi", "PROVIDER=nonesuch\n")
    assert ccproxy("switch", "kimi-k2", "night").exit_code == 78


# Routes.


def request(**fields):
    messages = [{"role": "user", "content": "Hi"}]
    return {"model": "claude-opus-5-5", "max_tokens": 9, "messages": messages, **fields}


def test_the_rules_of_an_entry(fleet, ccproxy):
    result = ccproxy("route", "kimi-k2")
    assert result.stdout.splitlines() == [
        "subagent                GLM-4.6:big",
        "agent explore           small",
        "long context over 5000  GLM-4.6:long",
        "fallback                GLM-4.6",
    ]
    note = "note: the fallback GLM-4.6 is skipped (state: stopped); to start it: ccproxy start "
    assert note in result.stderr
    assert ccproxy("route", "glm-4.6").stdout.startswith("no rules: ")


@pytest.mark.parametrize(
    ("recorded", "headers", "first"),
    [
        pytest.param(request(), [], "Kimi-K2:kimi-big   no rule matches", id="no rule"),
        pytest.param(
            request(), ["x-claude-code-agent-id: a"], "GLM-4.6:big   subagent", id="a header"
        ),
        pytest.param(
            {"headers": {"X-Claude-Code-Agent-Type": "Explore"}, "body": request()},
            [],
            "Kimi-K2:kimi-small   agent explore",
            id="headers in the file",
        ),
        pytest.param(
            request(model="GLM-4.6:x"),
            ["x-claude-code-agent-id: a"],
            "GLM-4.6:x   named",
            id="a named model",
        ),
        pytest.param(
            request(system="word " * 8000),
            [],
            "GLM-4.6:long   long context: ",
            id="a long request",
        ),
    ],
)
def test_explaining(fleet, ccproxy, recorded, headers, first):
    file = fleet / "request.json"
    file.write_text(json.dumps(recorded))
    options = [term for header in headers for term in ("-H", header)]
    result = ccproxy("route", "kimi-k2", "--explain", str(file), *options)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0].startswith(first)


def test_an_explanation_as_json(fleet, ccproxy):
    file = fleet / "request.json"
    file.write_text(json.dumps(request(thinking={"type": "adaptive"})))
    ccproxy("switch", "kimi-k2", "night")
    result = json.loads(ccproxy("route", "kimi-k2", "--explain", str(file), "--json").stdout)
    assert result["model"] == "GLM-4.6:glm-night"
    assert result["reason"] == "big of night"
    assert result["facts"]["kind"] == "main"
    assert result["facts"]["thinking"] is True
    assert result["fallback"] == ["GLM-4.6"]


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("{", [], "is not JSON"),
        ("[" * 100_000, [], "is not JSON"),
        ("[]", [], "request.json: Input should be"),
        ("{}", [], "model"),
        ('{"headers": 3, "body": {}}', [], "headers must be an object"),
        (json.dumps(request()), ["-H", "nonsense"], '"nonsense" is not a header'),
    ],
)
def test_requests_that_cannot_be_explained(fleet, ccproxy, text, options, expected):
    file = fleet / "request.json"
    file.write_text(text)
    result = ccproxy("route", "kimi-k2", "--explain", str(file), *options)
    assert result.exit_code == 2, result.stderr
    assert expected in result.stderr


def test_check_reports_mistakes_in_rules(fleet, ccproxy):
    (fleet / "ccproxy.toml").write_text(TABLE + '[routes.Kimi-K2]\nsubagnt = "GLM-4.6:big"\n')
    result = ccproxy("check")
    assert result.exit_code == 78
    assert 'subagnt is not a key of routes of Kimi-K2 (did you mean "subagent"?)' in result.stderr
    assert "ccproxy.toml:6" in result.stderr


def test_a_model_that_is_not_in_the_list_of_known_models_is_reported(fleet, ccproxy):
    write_env(fleet, "glm", "PROVIDER=zai\nPROVIDER_API_KEY=sk-0123456789abcdef\n")
    result = ccproxy("switch", "kimi-k2", "--big", "GLM-4.6:glm-99")
    assert result.exit_code == 0
    assert "warning: glm-99 is not in the list of known models of GLM-4.6" in result.stderr
    assert saved_switch(fleet).tiers.big == "GLM-4.6:glm-99"
    assert "warning" not in ccproxy("switch", "kimi-k2", "--big", "GLM-4.6:big").stderr


def test_running_sessions_may_follow_later(fleet, ccproxy):
    result = ccproxy("switch", "kimi-k2", "night", "--wait", "30m")
    assert result.stdout.splitlines()[-1].startswith(
        "  running sessions change at their next compaction, within "
    )
    switched = saved_switch(fleet)
    assert switched.before == NO_TIERS
    ccproxy("switch", "kimi-k2", "--reset", "--wait", "30m")
    assert (saved_switch(fleet).tiers, saved_switch(fleet).before) == (NO_TIERS, switched.tiers)
    ccproxy("switch", "kimi-k2", "--reset")
    assert saved_switch(fleet) == NO_SWITCH
    result = ccproxy("switch", "kimi-k2", "--wait", "30m")
    assert result.exit_code == 2
    assert "--wait requires a change of models" in result.stderr
