"""The switch of an entry's tiers: accepted names and their meaning."""

from __future__ import annotations

import pytest

from ccproxy.errors import UsageError
from ccproxy.providers.cards import ModelCard
from ccproxy.routing.names import NO_TIERS, Tiers
from ccproxy.routing.switching import (
    NO_SWITCH,
    ModelSwitch,
    has_model,
    resolve_switch,
    switch_warnings,
    usable_presets,
)
from ccproxy.routing.tiers import ModelMap
from tests.routing.entries import Entry

OPEN = ModelCard(pattern="vendor/*")
ENTRIES = {
    "Kimi": Entry(
        label="Kimi",
        models=ModelMap(big="k3", middle=None, small="k3-mini", pass_patterns=("kimi-*",)),
        provider="kimi",
    ),
    "GLM": Entry(
        label="GLM",
        models=ModelMap(big="glm-5", middle="glm-5", small="glm-air", cards=(OPEN,)),
    ),
    "Bare": Entry(label="Bare", models=ModelMap(big=None, middle=None, small=None)),
}
PRESETS = {
    "both": Tiers(big="k3", small="GLM:glm-air"),
    "cheap": Tiers(big="glm-5", middle="glm-air", small="glm-air"),
    "broken": Tiers(big="Lost:big"),
}


def resolve(current=NO_SWITCH, **request):
    return resolve_switch(request, label="Kimi", entries=ENTRIES, presets=PRESETS, current=current)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        pytest.param("GLM:glm-5", "GLM:glm-5", id="an entry and its model"),
        pytest.param("glm:whatever", "GLM:whatever", id="an entry whose models are unknown"),
        pytest.param("GLM:BIG", "GLM:big", id="another entry's tier stays a reference"),
        pytest.param("Kimi:small", "k3-mini", id="the own tier is the env file's model"),
        pytest.param("small", "k3-mini", id="a tier alone"),
        pytest.param("k3[1m]", "Kimi:k3", id="without Claude Code's mark"),
        pytest.param("glm-air", "GLM:glm-air", id="the entry that lists the model"),
        pytest.param("kimi-x", "Kimi:kimi-x", id="an entry that passes the name"),
    ],
)
def test_names_in_a_switch(name, model):
    assert resolve(big=name).tiers == Tiers(big=model)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        pytest.param({}, "name either a model preset", id="nothing"),
        pytest.param({"preset": "both", "big": "k3"}, "name either a model preset", id="both"),
        pytest.param(
            {"preset": "bth"}, 'no model preset "bth" (did you mean "both"?)', id="preset"
        ),
        pytest.param({"big": "glm-6"}, "no provider here offers glm-6", id="a model"),
        pytest.param({"big": "x:glm-6"}, 'no proxy "x", and no provider here', id="a label"),
        pytest.param({"big": "Lost:big"}, 'there is no proxy "Lost"', id="a tier of no entry"),
        pytest.param({"big": "middle"}, "Kimi has no MIDDLE_MODEL", id="a tier without a model"),
        pytest.param({"big": "Kimi:k4"}, 'Kimi has no model "k4"', id="not of this provider"),
    ],
)
def test_unknown_names_are_errors(names, text):
    with pytest.raises(UsageError) as caught:
        resolve(**names)
    assert text in str(caught.value)


def test_an_error_lists_every_unknown_name_once_and_all_models():
    with pytest.raises(UsageError) as caught:
        resolve(big="glm-6", middle="glm-6", small="none")
    assert str(caught.value).count("offers glm-6") == 1
    assert "offers none" in str(caught.value)
    assert "    GLM: glm-5, glm-air, big, middle, small" in str(caught.value)


def test_tiers_that_are_not_named_stay_switched():
    before = ModelSwitch(tiers=Tiers(big="GLM:glm-5", small="GLM:glm-air"), preset="cheap")
    switch = resolve(before, small="small")
    assert switch.tiers == Tiers(big="GLM:glm-5", small="k3-mini")
    assert switch.preset is None


def test_a_preset_replaces_all_tiers_and_its_big_model_is_also_the_middle_one():
    switch = resolve(ModelSwitch(tiers=Tiers(middle="GLM:big")), preset="BOTH")
    assert switch.preset == "both"
    assert switch.tiers == Tiers(big="Kimi:k3", middle="Kimi:k3", small="GLM:glm-air")


def test_presets_with_unknown_models_are_not_offered():
    assert [*usable_presets(PRESETS, label="Kimi", entries=ENTRIES)] == ["both", "cheap"]


@pytest.mark.parametrize(
    ("switch", "name"),
    [
        (NO_SWITCH, ""),
        (ModelSwitch(tiers=Tiers(big="x")), "switched"),
        (ModelSwitch(tiers=Tiers(big="x"), preset="cheap"), "cheap"),
    ],
)
def test_the_name_of_a_switch(switch, name):
    assert switch.name == name


def test_running_sessions_keep_the_models_before_a_switch():
    old, new = ModelSwitch(tiers=Tiers(big="old")), ModelSwitch(tiers=Tiers(big="new"))
    waiting = new.waiting(old, until=9.0)
    assert (waiting.tiers.big, waiting.before.big, waiting.until) == ("new", "old", 9.0)
    assert new.before == NO_TIERS


@pytest.mark.parametrize(
    ("name", "warned"),
    [
        pytest.param("GLM:glm-5", False, id="a tier's model"),
        pytest.param("GLM:big", False, id="a tier"),
        pytest.param("GLM:vendor/x", False, id="a model with a card"),
        pytest.param("GLM:glm-6", True, id="a model that is in no list"),
        pytest.param("Bare:glm-6", False, id="an entry without a list"),
    ],
)
def test_unlisted_models_get_a_warning(name, warned):
    switch = ModelSwitch(tiers=Tiers(big=name, middle=name))
    warnings = switch_warnings(switch, label="Kimi", entries=ENTRIES)
    expected = "glm-6 is not in the list of known models of GLM (did you mean "
    assert [warning.startswith(expected) for warning in warnings] == [True] * warned


def test_an_entry_that_was_removed_gets_no_warning():
    switch = ModelSwitch(tiers=Tiers(big="x"))
    assert switch_warnings(switch, label="Lost", entries=ENTRIES) == []


@pytest.mark.parametrize(
    ("provider", "name", "expected"),
    [
        pytest.param("", "anything", True, id="without a preset"),
        pytest.param("deepseek", "model-of-nobody", False, id="a preset with a complete list"),
        pytest.param("openrouter", "vendor/any", True, id="a preset with an open list"),
    ],
)
def test_an_entry_may_offer_a_model(provider, name, expected):
    models = ModelMap(big="m", middle=None, small=None)
    assert has_model(Entry(label="E", models=models, provider=provider), name) is expected
