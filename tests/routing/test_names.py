"""Model names: references with a label, tiers and plain names."""

from __future__ import annotations

import pytest

from ccproxy.providers.cards import ModelCard
from ccproxy.routing.names import (
    NO_TIERS,
    ModelRef,
    Tiers,
    is_own_name,
    model_after_label,
    model_for,
    parse_ref,
    tier_named,
    tier_of,
)
from ccproxy.routing.switching import ModelSwitch
from ccproxy.routing.tiers import ModelMap

LABELS = {"glm-4.6": "GLM-4.6", "kimi": "Kimi"}
MODELS = ModelMap(
    big="k3",
    middle="K3-mid",
    small="k3-mini",
    cards=(ModelCard(pattern="k2.5"),),
    pass_patterns=("vendor/*",),
)
CLAUDE = ModelMap(big=None, middle=None, small=None, pass_patterns=("claude-*",))
SWITCHED = Tiers(big="GLM-4.6:big", small="k2.5")


@pytest.mark.parametrize(
    ("name", "ref"),
    [
        pytest.param("GLM-4.6:glm-4.6", ModelRef("GLM-4.6", "glm-4.6"), id="a label and a model"),
        pytest.param("glm-4.6:big", ModelRef("GLM-4.6", "big"), id="labels have no case"),
        pytest.param(" Kimi :k3", ModelRef("Kimi", "k3"), id="blanks do not count"),
        pytest.param(
            "kimi:qwen3:8b", ModelRef("Kimi", "qwen3:8b"), id="only the first colon counts"
        ),
        pytest.param("kimi:k3[1m]", ModelRef("Kimi", "k3"), id="the mark is cut off"),
        pytest.param("anthropic/Kimi:k3", ModelRef("Kimi", "k3"), id="the prefix of the discovery"),
        pytest.param("anthropic/claude-x:free", None, id="a prefix without a label"),
        pytest.param("qwen3:8b", None, id="text that is not a label belongs to the model"),
        pytest.param("deepseek/r1:free", None, id="a slash is in no label"),
        pytest.param("kimi", None, id="a label alone names no model"),
        pytest.param("kimi:", None, id="nothing after the colon is no model"),
        pytest.param("", None, id="nothing is no model"),
    ],
)
def test_references(name, ref):
    assert parse_ref(name, LABELS) == ref


def test_a_reference_is_parsed_as_it_is_written():
    assert parse_ref(str(ModelRef("Kimi", "k3")), LABELS) == ModelRef("Kimi", "k3")


@pytest.mark.parametrize(
    ("name", "tier"),
    [
        pytest.param("claude-opus-4-1", "big", id="opus is big"),
        pytest.param("claude-sonnet-5-5", "middle", id="sonnet is middle"),
        pytest.param("claude-haiku-5-5", "small", id="haiku is small"),
        pytest.param("anything", "big", id="the unknown is big"),
        pytest.param("k3-MID", "middle", id="a tier's own model is its tier"),
        pytest.param("k3-mini[1m]", "small", id="also with the mark"),
        pytest.param("Kimi:Small", "small", id="a tier after a label"),
    ],
)
def test_tiers_of_names(name, tier):
    assert tier_of(MODELS, name) == tier


@pytest.mark.parametrize(
    ("term", "tier"), [("big", "big"), ("Middle", "middle"), ("SMALL", "small"), ("opus", None)]
)
def test_names_of_tiers(term, tier):
    assert tier_named(term) == tier


@pytest.mark.parametrize(
    ("models", "name", "own"),
    [
        pytest.param(MODELS, "k2.5", True, id="a model of the preset that is no tier's"),
        pytest.param(MODELS, "vendor/x", True, id="a name that passes"),
        pytest.param(MODELS, "k3", False, id="a tier's model selects the tier"),
        pytest.param(MODELS, "gpt-4o", False, id="an unknown name is substituted anyway"),
        pytest.param(CLAUDE, "claude-opus-4-1", False, id="Claude Code's names mean tiers"),
    ],
)
def test_names_of_single_models(models, name, own):
    assert is_own_name(models, name) is own


@pytest.mark.parametrize(
    ("switched", "name", "model"),
    [
        pytest.param(NO_TIERS, "claude-opus-4-1", "k3", id="without a switch: the env file"),
        pytest.param(NO_TIERS, "k2.5", "k2.5", id="without a switch: names that pass"),
        pytest.param(SWITCHED, "claude-opus-4-1", "GLM-4.6:big", id="the switch's big"),
        pytest.param(SWITCHED, "k3", "GLM-4.6:big", id="sessions ask for the old big by its name"),
        pytest.param(SWITCHED, "claude-haiku-5", "k2.5", id="the switch's small"),
        pytest.param(SWITCHED, "claude-sonnet-5", "K3-mid", id="tiers that are not switched stay"),
        pytest.param(SWITCHED, "vendor/x", "vendor/x", id="a model that is meant stays"),
    ],
)
def test_names_without_label(switched, name, model):
    assert model_for(MODELS, switched, name) == model


@pytest.mark.parametrize(
    ("models", "switched", "name", "requested", "model"),
    [
        pytest.param(MODELS, NO_TIERS, "small", "", "k3-mini", id="a tier"),
        pytest.param(MODELS, SWITCHED, "small", "", "k2.5", id="a switched tier"),
        pytest.param(MODELS, NO_TIERS, "brand-new", "", "brand-new", id="never substituted"),
        pytest.param(MODELS, NO_TIERS, "claude-haiku-5", "", "k3-mini", id="Claude's word"),
        pytest.param(CLAUDE, NO_TIERS, "big", "claude-opus-5", "claude-opus-5", id="sent on"),
    ],
)
def test_names_after_a_label(models, switched, name, requested, model):
    assert model_after_label(models, switched, name, requested=requested) == model


def test_a_switch_keeps_the_models_of_running_sessions():
    old, new = Tiers(big="old"), Tiers(big="new")
    switch = ModelSwitch(tiers=new).waiting(ModelSwitch(tiers=old), until=7.0)
    assert switch == ModelSwitch(tiers=new, before=old, until=7.0)
