"""The list of the fleet's models for the user: order, titles, descriptions, missing entries."""

from __future__ import annotations

from ccproxy.providers.cards import ModelCard
from ccproxy.providers.pricing import Price
from ccproxy.routing.entry_references import FleetModels
from ccproxy.routing.model_listing import by_title, list_models
from ccproxy.routing.tiers import ModelMap
from tests.routing.entries import Entry, fleet_models

EXTRA = ModelCard(pattern="extra")
ENTRIES = {
    "Own": Entry(
        label="Own",
        models=ModelMap(
            big="b",
            middle="b",
            small="s",
            cards=(EXTRA,),
            prices=(("b", Price(input=1.4, output=4.4)),),
        ),
        window=262_144,
    ),
    "Far": Entry(
        label="Far", models=ModelMap(big="Own:big", middle=None, small="f"), window=1_000_000
    ),
    "Loop": Entry(label="Loop", models=ModelMap(big="Loop:big", middle=None, small=None)),
}
FLEET = fleet_models(ENTRIES)


def listed(label: str, *others: str, running=None) -> dict[str, tuple[str, str]]:
    models = list_models(FLEET, label, others, running=running)
    return {model.name: (model.title, model.description) for model in models}


def test_own_models_come_first_and_tiers_before_the_rest():
    assert [*listed("Far", "Own")] == [
        *("Far:big", "Far:small"),
        *("Own:big", "Own:middle", "Own:small", "Own:extra"),
    ]
    assert [*listed("Own", "Far")][:4] == ["Own:big", "Own:middle", "Own:small", "Own:extra"]


def test_titles_and_descriptions():
    models = listed("Own", "Far")
    assert models["Own:big"] == ("Own · b", "big · 256K window · $1.4/$4.4 per Mtok")
    assert models["Own:extra"] == ("Own · extra", "256K window")
    assert models["Far:big"] == ("Far · Own:b", "big · 256K window · $1.4/$4.4 per Mtok")
    assert models["Far:small"] == ("Far · f", "small · 1M window")


def test_an_unknown_window_is_named():
    none = Entry(label="None", models=ModelMap(big="x", middle=None, small=None))
    fleet = FleetModels(labels={"none": "None"}, config=lambda _: none)
    (model,) = list_models(fleet, "None", [])
    assert (model.description, model.window) == ("big · window unknown", None)


def test_entries_that_do_not_run_come_last_and_name_the_command():
    models = listed("Own", "Gone", "Far", "Loop", running=["Loop"])
    assert [*models][-1] == "Far:small"
    assert models["Far:small"][1] == "not running: ccproxy start Far"
    assert models["Own:big"][1].startswith("big")


def test_entries_that_cannot_be_read_and_cycles_have_no_models():
    assert listed("Gone", "Loop") == {}


def test_models_with_one_title_are_one():
    models = by_title(list_models(FLEET, "Own", []))
    assert [model.name for model in models.values()] == ["Own:big", "Own:small", "Own:extra"]
