"""GET /models and POST /switch_model over real HTTP."""

from __future__ import annotations

import pytest

from tests.messages import prompt
from tests.worker.admin_client import AUTH, CLIENT_KEY, admin
from tests.worker.family import Family

KEY = {"ANTHROPIC_API_KEY": CLIENT_KEY}
OPENAI = {
    "BIG_MODEL": "gpt-6-sol",
    "MIDDLE_MODEL": "gpt-6.1-terra",
    "SMALL_MODEL": "gpt-6-luna",
}
GEMINI = {"BIG_MODEL": "gemini-4-argon", "SMALL_MODEL": "gemini-3.8-flash"}
PRESET = '[presets.fast]\nbig = "GLM:small"\nsmall = "kimi-small"'


@pytest.fixture
async def family(tmp_path):
    async with Family(tmp_path) as family:
        yield family


async def ask_both(family: Family, label: str) -> None:
    for model in ("claude-sonnet-4-5", "claude-haiku-4-5"):
        answer = await family.proxies[label].ask(prompt(model=model), headers=AUTH)
        assert answer.message["model"] == model


async def test_a_preset_brings_models_and_providers(family):
    await family.start(Kimi=KEY, OpenAI=OPENAI, Gemini=GEMINI)
    output = await admin(family.proxies["Kimi"], "POST /switch_model", {"preset": "cross_premium"})
    assert output.status == 200
    assert output.json == {
        "message": "switched to cross_premium",
        "preserved_conversation": True,
        "big_model": "OpenAI:gpt-6-sol",
        "middle_model": "OpenAI:gpt-6.1-terra",
        "small_model": "Gemini:gemini-3.8-flash",
        "preset": "cross_premium",
    }
    await ask_both(family, "Kimi")
    assert family.requested() == {"OpenAI": ["gpt-6.1-terra"], "Gemini": ["gemini-3.8-flash"]}


async def test_the_users_presets_and_the_entrys_own_models(family):
    await family.start(PRESET, Kimi=KEY, GLM={})
    output = await admin(family.proxies["Kimi"], "POST /switch_model", {"preset": "FAST"})
    assert (output.json["preset"], output.json["small_model"]) == ("fast", "Kimi:kimi-small")
    await ask_both(family, "Kimi")
    assert family.requested() == {"GLM": ["glm-small"], "Kimi": ["kimi-small"]}


@pytest.mark.parametrize(
    ("fields", "now"),
    [
        pytest.param(
            {"big_model": "GLM:glm-big"}, ["GLM:glm-big", "kimi-middle", "kimi-small"], id="one"
        ),
        pytest.param(
            {"big_model": "glm-big", "small_model": "glm-small"},
            ["GLM:glm-big", "kimi-middle", "GLM:glm-small"],
            id="plain names find their entry",
        ),
        pytest.param({"small": "GLM:big"}, ["kimi-big", "kimi-middle", "GLM:big"], id="a tier"),
        pytest.param({"big": "small"}, ["kimi-small", "kimi-middle", "kimi-small"], id="own tier"),
        pytest.param(
            {"big": "Kimi:big"}, ["kimi-big", "kimi-middle", "kimi-small"], id="no circle"
        ),
        pytest.param(
            {"middle_model": "GLM:anything"},
            ["kimi-big", "GLM:anything", "kimi-small"],
            id="the models of a server without a preset are unknown",
        ),
    ],
)
async def test_single_models(family, fields, now):
    await family.start(Kimi=KEY, GLM={})
    output = await admin(family.proxies["Kimi"], "POST /switch_model", fields)
    assert [output.json[f"{tier}_model"] for tier in ("big", "middle", "small")] == now
    answer = await family.proxies["Kimi"].ask(headers=AUTH)
    assert answer.text == "ok"


async def test_a_second_switch_keeps_the_other_tiers(family):
    await family.start(Kimi=KEY, GLM={})
    kimi = family.proxies["Kimi"]
    await admin(kimi, "POST /switch_model", {"big_model": "GLM:big"})
    output = await admin(kimi, "POST /switch_model", {"small_model": "GLM:small"})
    assert (output.json["big_model"], output.json["small_model"]) == ("GLM:big", "GLM:small")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param(
            {"preset": "fastt"}, ['no model preset "fastt" (did you mean "fast"?)', "cross_speed"]
        ),
        pytest.param(
            {"preset": "openai_premium"}, ["no provider here offers gpt-6-sol", "GLM: glm-big"]
        ),
        pytest.param(
            {"big_model": "nonesuch"}, ["no provider here offers nonesuch", "Kimi: kimi-big"]
        ),
        pytest.param(
            {"big_model": "kimi-small", "small_model": "nonesuch"},
            ["no provider here offers nonesuch"],
        ),
        pytest.param({"big_model": "GML:big"}, ['no proxy "GML" (did you mean "GLM"?)']),
        pytest.param({"big_model": "Demo:nonesuch"}, ['Demo has no model "nonesuch"']),
        pytest.param({}, ["name either a model preset, or models for big"]),
        pytest.param({"preset": "fast", "big_model": "kimi-big"}, ["name either a model preset"]),
        pytest.param({"preset": 3}, ["must be names"]),
        pytest.param({"big_model": ["x"]}, ["must be names"]),
        pytest.param({"preset": "fast", "preserve_conversation": "no"}, ["true or false"]),
    ],
)
async def test_invalid_names_change_nothing(family, fields, words):
    await family.start(PRESET, Kimi=KEY | {"PASS_MODELS": "x"}, GLM={"PASS_MODELS": "x"})
    await family.start(PRESET, Demo={"PROVIDER": "demo", "PASS_MODELS": "x"})
    kimi = family.proxies["Kimi"]
    await admin(kimi, "POST /switch_model", {"big_model": "GLM:small"})
    output = await admin(kimi, "POST /switch_model", fields)
    assert (output.status, output.error["type"]) == (400, "invalid_request_error")
    for text in words:
        assert text in output.error["message"]
    await kimi.ask(headers=AUTH)
    assert family.requested() == {"GLM": ["glm-small"]}


async def test_models_lists_presets_and_models(family):
    await family.start(PRESET, Kimi={}, GLM={})
    kimi = family.proxies["Kimi"]
    output = await admin(kimi, "GET /models")
    assert output.json["models"] == {
        "Kimi": ["kimi-big", "kimi-middle", "kimi-small"],
        "GLM": ["glm-big", "glm-middle", "glm-small"],
    }
    presets = output.json["presets"]
    assert presets["cross_speed"]["big"] == "claude-haiku-5-5"
    assert presets["fast"] == {"big": "GLM:small", "middle": None, "small": "kimi-small"}
    assert len(presets) == 8
    assert output.json["current"]["big_model"] == "kimi-big"
    assert output.json["current"]["preset"] is None


async def test_without_a_client_key_no_switch_is_served(family):
    await family.start(PRESET, Kimi={}, GLM={})
    output = await admin(family.proxies["Kimi"], "POST /switch_model", {"preset": "fast"})
    assert (output.status, "ANTHROPIC_API_KEY" in output.error["message"]) == (403, True)
    await family.proxies["Kimi"].ask()
    assert family.requested() == {"Kimi": ["kimi-big"]}


async def test_a_switch_is_shown_in_every_list_of_models(family):
    await family.start(PRESET, Kimi=KEY, GLM={"CONTEXT_WINDOW": "12345"})
    kimi = family.proxies["Kimi"]
    await admin(kimi, "POST /switch_model", {"preset": "fast"})
    assert (await admin(kimi, "GET /config")).json["big_model"] == "GLM:small"
    assert (await admin(kimi, "GET /health")).json["models"]["big_model"] == "GLM:small"
    listed = {one["id"]: one for one in (await admin(kimi, "GET /v1/models")).json["data"]}
    assert listed["claude-opus"]["display_name"] == "GLM:small (Kimi)"
    assert listed["claude-opus"]["max_input_tokens"] == 12345
    one = (await admin(kimi, "GET /v1/models/claude-opus-4-1")).json
    assert one["display_name"] == "GLM:small (Kimi)"
    output = await admin(kimi, "GET /debug_logs?log_type=model_switch")
    assert output.json["total_count"] == 1


async def test_reset_goes_back_to_the_env_file(family):
    await family.start(PRESET, Kimi=KEY, GLM={})
    kimi = family.proxies["Kimi"]
    await admin(kimi, "POST /switch_model", {"preset": "fast"})
    output = await admin(kimi, "POST /switch_model", {"reset": True})
    assert output.json["message"] == "back to the env file's models"
    assert output.json["big_model"] == "kimi-big"
    assert not kimi.worker.chooser.switch_file.exists()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, 2, id="absent: kept"),
        pytest.param({"preserve_conversation": True}, 2, id="true: kept"),
        pytest.param({"preserve_conversation": False}, 0, id="false: cleared"),
    ],
)
async def test_preserve_conversation(family, fields, expected):
    await family.start(PRESET, Kimi=KEY | {"HISTORY": "on"}, GLM={})
    kimi = family.proxies["Kimi"]
    await kimi.ask(headers=AUTH)
    await admin(kimi, "POST /conversation/flush")
    output = await admin(kimi, "POST /switch_model", {"preset": "fast", **fields})
    assert output.status == 200
    assert (await admin(kimi, "GET /conversation")).json["total_count"] == expected
