"""References from one entry's tier to another entry's model."""

from __future__ import annotations

import pytest

from ccproxy.routing.names import NO_TIERS, ModelRef, Tiers
from ccproxy.routing.tiers import ModelMap
from tests.routing.entries import Entry, fleet_models

ENTRIES = {
    "A": Entry(label="A", models=ModelMap(big="B:big", middle="Gone:big", small="A:big")),
    "B": Entry(label="B", models=ModelMap(big="glm-5", middle="C:middle", small=None), window=99),
    "C": Entry(label="C", models=ModelMap(big=None, middle="B:middle", small=None)),
}


@pytest.mark.parametrize(
    ("name", "refs", "model"),
    [
        pytest.param("B:glm-5", ["B:glm-5"], "glm-5", id="a model"),
        pytest.param("B:big", ["B:big"], "glm-5", id="a tier"),
        pytest.param("A:small", ["A:small", "A:big", "B:big"], "glm-5", id="tiers of tiers"),
        pytest.param("A:middle", ["A:middle", "Gone:big"], "", id="an unreadable env file"),
    ],
)
def test_a_reference_is_followed_to_its_model(name, refs, model):
    chain = fleet_models(ENTRIES).chain(ModelRef(*name.split(":")))
    assert ([str(ref) for ref in chain.refs], chain.model, chain.cycle) == (refs, model, ())


def test_a_cycle_has_no_model_and_names_its_members():
    chain = fleet_models(ENTRIES).chain(ModelRef("B", "middle"))
    assert [str(ref) for ref in chain.cycle] == ["B:middle", "C:middle"]
    assert (chain.config, chain.target) == (None, None)


def test_the_target_is_that_of_the_last_entry():
    target = fleet_models(ENTRIES).chain(ModelRef("A", "big")).target
    assert target is not None
    assert (target.provider, target.model, target.window) == ("B", "glm-5", 99)


def test_a_switched_tier_replaces_that_of_the_env_file():
    switched = {"B": Tiers(big="C:other", small="B:mini")}
    models = fleet_models(ENTRIES, tiers=lambda label: switched.get(label, NO_TIERS))
    assert models.chain(ModelRef("A", "big")).model == "other"
    assert [chain.model for chain in models.chains("B")] == ["other", "", "mini"]


def test_an_unreadable_entry_has_no_chains():
    assert fleet_models(ENTRIES).chains("Gone") == []
