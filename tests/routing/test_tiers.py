"""Tests of the selection of a model, and of the card that applies to it."""

from __future__ import annotations

import pytest

from ccproxy.providers.cards import ModelCard
from ccproxy.providers.catalogue import ModelFacts, rows_by_name
from ccproxy.providers.pricing import Price
from ccproxy.providers.quirks import PLAIN, Quirks
from ccproxy.routing.tiers import ModelMap, without_mark

BLIND = Quirks(images=False)
MODELS = ModelMap(
    big="big-1",
    middle="middle-1",
    small="small-1",
    pass_patterns=("gpt-*", "*/*", "o1*"),
    cards=(
        ModelCard(pattern="glm-5.2-air", window=1),
        ModelCard(pattern="glm-5.2*", window=2),
        ModelCard(pattern="GLM-*", window=3, quirks=BLIND),
        ModelCard(pattern="k[12]", window=4),
    ),
    unknown=ModelCard(window=9),
)


@pytest.mark.parametrize(
    ("requested", "model"),
    [
        pytest.param("claude-haiku-4-5", "small-1", id="haiku is small"),
        pytest.param("claude-3-5-HAIKU-20241022", "small-1", id="in capitals too"),
        pytest.param("claude-sonnet-4-5-20250929", "middle-1", id="sonnet is middle"),
        pytest.param("Claude-Sonnet", "middle-1", id="sonnet in capitals is middle"),
        pytest.param("claude-opus-4-1", "big-1", id="opus is big"),
        pytest.param("sonnet-haiku", "small-1", id="haiku takes precedence"),
        pytest.param("haiku-opus", "small-1", id="haiku before opus"),
        pytest.param("sonnet-opus", "middle-1", id="sonnet before opus"),
        pytest.param("claude-fable-5-2", "big-1", id="an unknown family is big"),
        pytest.param("something-else", "big-1", id="an unknown name is big"),
        pytest.param("", "big-1", id="no name at all is big"),
        pytest.param("claude-opus-5-5[1m]", "big-1", id="the mark of the long window is cut off"),
        pytest.param("claude-haiku-5-5 [1M]", "small-1", id="the mark in capitals, with a blank"),
    ],
)
def test_a_foreign_name_selects_a_tier(requested, model):
    assert MODELS.pick(requested) == model


@pytest.mark.parametrize(
    ("requested", "model"),
    [
        pytest.param("big-1", "big-1", id="the model of a tier"),
        pytest.param("BIG-1", "BIG-1", id="case is kept, not compared"),
        pytest.param("small-1[1m]", "small-1", id="without the mark"),
        pytest.param("glm-5.2-air", "glm-5.2-air", id="a model of the preset"),
        pytest.param("gpt-4.1", "gpt-4.1", id="a pass pattern"),
        pytest.param("GPT-4.1", "GPT-4.1", id="a pass pattern in capitals"),
        pytest.param("anthropic/claude-sonnet-4", "anthropic/claude-sonnet-4", id="before tiers"),
        pytest.param("o1", "o1", id="a pattern may match nothing more"),
        pytest.param(" gpt-5 ", "gpt-5", id="surrounding blanks are ignored"),
    ],
)
def test_a_name_of_the_provider_is_sent_unchanged(requested, model):
    assert MODELS.pick(requested) == model


@pytest.mark.parametrize("requested", ["glm-5.2-fast", "glm-4", "k1", "gpt5"])
def test_only_a_whole_name_or_a_pass_pattern_passes(requested):
    """A card's glob describes models; it does not list them."""
    assert MODELS.pick(requested) == "big-1"


@pytest.mark.parametrize(
    ("tiers", "requested", "choice"),
    [
        pytest.param((None, None, None), "claude-opus-5-5", "claude-opus-5-5", id="opus"),
        pytest.param((None, None, None), "claude-haiku-5-5[1m]", "claude-haiku-5-5", id="haiku"),
        pytest.param((None, None, None), "whatever", "whatever", id="an unknown name"),
        pytest.param((None, None, "tiny"), "claude-sonnet-5-5", "claude-sonnet-5-5", id="sonnet"),
    ],
)
def test_a_tier_without_a_model_sends_the_clients_name(tiers, requested, choice):
    big, middle, small = tiers
    models = ModelMap(big=big, middle=middle, small=small)
    assert models.pick(requested) == choice


def test_a_configured_tier_is_used_although_others_are_empty():
    models = ModelMap(big=None, middle=None, small="tiny")
    assert models.pick("claude-haiku-5-5") == "tiny"


@pytest.mark.parametrize(
    ("model", "window"),
    [
        pytest.param("glm-5.2-air", 1, id="the exact name is first"),
        pytest.param("glm-5.2-flash", 2, id="then the narrower pattern"),
        pytest.param("glm-4", 3, id="then the wider one"),
        pytest.param("Glm-4", 3, id="case is ignored in names and patterns"),
        pytest.param("k2", 4, id="a set of characters"),
        pytest.param("k3", 9, id="a character outside the set"),
        pytest.param("my-glm-4", 9, id="a pattern matches from the beginning"),
        pytest.param("glm-4\n", 3, id="whatever follows"),
        pytest.param("k2x", 9, id="a pattern matches to the end"),
    ],
)
def test_the_first_matching_card_applies(model, window):
    assert MODELS.card(model).window == window


def test_each_model_of_the_tiers_is_listed_once():
    assert MODELS.tiers() == ("big-1", "middle-1", "small-1")
    assert ModelMap(big="a", middle="a", small="b").tiers() == ("a", "b")
    assert ModelMap(big=None, middle=None, small=None).tiers() == ()


@pytest.mark.parametrize(
    ("model", "is_known"), [("kimi-k2", True), ("row-1", True), ("Row-1", True), ("x", False)]
)
def test_models_of_cards_and_of_the_catalogue_are_known(model, is_known):
    cards = (ModelCard(pattern="kimi-*"),)
    rows = rows_by_name({"Row-1": ModelFacts(source="a", date="2026-11-01")})
    models = ModelMap(big=None, middle=None, small=None, cards=cards, rows=rows)
    assert models.describes(model) is is_known


def test_a_model_without_a_card_has_no_limits():
    card = ModelMap(big="a", middle="a", small="a").card("a")
    assert (card.window, card.max_output, card.price, card.quirks) == (None, None, None, PLAIN)


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("claude-opus-5-5", "claude-opus-5-5"),
        ("claude-opus-5-5[1m]", "claude-opus-5-5"),
        ("claude[1m]-x", "claude[1m]-x"),
        ("[1m]", ""),
        ("  x  ", "x"),
    ],
)
def test_the_window_mark_is_removed_only_at_the_end(name, bare):
    assert without_mark(name) == bare


def test_maps_of_the_same_models_are_equal():
    """A reload compares configurations to detect changes."""
    one = ModelMap(big="a", middle="a", small="b", pass_patterns=("x*",))
    other = ModelMap(big="a", middle="a", small="b", pass_patterns=("x*",))
    one.pick("x1")
    assert one == other


PRICED = Price(input=1.0, output=10.0, cache_read=0.1)


def test_the_users_prices_win():
    own = Price(input=0.0, output=0.0)
    cards = (ModelCard(pattern="k*", price=PRICED),)
    models = ModelMap(big=None, middle=None, small=None, cards=cards, prices=(("K2", own),))
    assert models.price("k2") is own
    assert models.price("k3") is PRICED
    assert models.price("other") is None


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        pytest.param("big-1", True, id="a tier's model"),
        pytest.param("BIG-1[1m]", True, id="case and mark are ignored"),
        pytest.param("glm-5.2-air", True, id="a model that the preset names"),
        pytest.param("glm-5.2-fast", False, id="a name that only matches a pattern of the preset"),
        pytest.param("gpt-4.1", False, id="a name that only passes"),
        pytest.param("claude-opus-5-5", False, id="a foreign name"),
    ],
)
def test_listed_names(name, listed):
    assert MODELS.lists(name) is listed
