"""Tests of the catalogue: its rows, its file format, and the merging of rows and model cards."""

from __future__ import annotations

import re

import msgspec
import pytest

from ccproxy.providers.cards import ModelCard
from ccproxy.providers.catalogue import (
    ModelFacts,
    format_catalogue,
    parse_catalogue,
    row_of,
    rows_by_name,
    shipped_catalogue_file,
)
from ccproxy.providers.presets import Endpoint, Preset, load_presets, rows_of
from ccproxy.providers.quirks import Quirks

SHIPPED = shipped_catalogue_file().read_bytes()
CATALOGUE = parse_catalogue(SHIPPED)
SECTIONS = CATALOGUE.everything()
ROWS = [(name, model, row) for name, rows in SECTIONS.items() for model, row in rows.items()]
FACTS = {"source": "PI", "date": "2026-11-28"}


def file(rows, **fields):
    """Return a catalogue with *rows* in the section openai."""
    whole = {
        "format": 1,
        "date": "2026-11-28",
        "sources": {"PI": "a list"},
        "models": {"openai": rows},
    }
    return msgspec.json.encode({**whole, **fields})


# The shipped file.


def test_every_row_names_a_source_and_a_date():
    for section, model, row in ROWS:
        assert set(row.source.split()) <= set(CATALOGUE.sources), (section, model)
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", row.date), (section, model)
        assert row.date <= CATALOGUE.date, (section, model)


def test_every_source_is_explained_and_used():
    used = {code for _, _, row in ROWS for code in row.source.split()}
    used |= {code for _, _, row in ROWS if row.price for code in row.price.source.split()}
    assert used == set(CATALOGUE.sources)


def test_the_file_has_one_line_per_model():
    assert format_catalogue(CATALOGUE) == SHIPPED
    lines = SHIPPED.decode().splitlines()
    assert sum(line.startswith('"') and '"source":' in line for line in lines) == len(ROWS)


def test_every_section_is_used():
    presets = load_presets()
    plans = {endpoint.catalogue for one in presets.values() for endpoint in one.endpoints}
    assert set(SECTIONS) <= {*presets, *plans}
    assert plans - {""} <= set(SECTIONS)


def test_limits_and_prices_are_plausible():
    for section, model, row in ROWS:
        where = (section, model)
        assert row.window is None or 4096 <= row.window <= 20_000_000, where
        assert (row.max_input or 0) < (row.window or 1 << 30), where
        assert (row.max_output or 0) <= (row.window or 1 << 30), where
        if price := row.price:
            assert 0 <= price.input <= 200, where
            assert 0 <= price.output <= 1000, where
            assert price.cache_read is None or price.cache_read <= max(price.input, 1), where
            for tier in price.tiers:
                assert tier.input >= price.input, where


def test_a_model_that_retires_has_a_successor_that_does_not():
    for section, model, row in ROWS:
        if row.successor:
            successor = SECTIONS[section].get(row.successor)
            assert successor is not None, (section, model)
            assert successor.status in ("current", "preview"), (section, model)
            assert not successor.retires, (section, model)


def own_servers(preset):
    return bool(preset.placeholder_key) and not preset.models


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        pytest.param(name, endpoint, id=f"{name} {endpoint.name}".strip())
        for name, preset in load_presets().items()
        for endpoint in preset.endpoints or (Endpoint(name=""),)
        if not own_servers(preset)
    ],
)
def test_the_default_models_are_not_retired(name, endpoint):
    preset = load_presets()[name].at(endpoint)
    rows = rows_of(CATALOGUE, name, endpoint)
    for model in filter(None, (preset.big, preset.middle, preset.small)):
        assert rows[model].status in ("current", "preview")
        assert not rows[model].retires


# Rejected rows and files.


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param({"date": "2026-11-28"}, "source", id="no source"),
        pytest.param({"source": "PI"}, "date", id="no date"),
        pytest.param({**FACTS, "source": " "}, "needs a source", id="a blank source"),
        pytest.param({**FACTS, "source": "XX"}, "unknown source XX", id="an unexplained source"),
        pytest.param({**FACTS, "date": "soon"}, 'date must be .* got "soon"', id="a date of words"),
        pytest.param({**FACTS, "retires": "2027"}, "retires must be", id="a year as a date"),
        pytest.param({**FACTS, "windows": 1}, "unknown field", id="a field that does not exist"),
        pytest.param({**FACTS, "window": 0}, "Expected `int` >= 1", id="an empty window"),
        pytest.param(
            {**FACTS, "price": {"input": -1, "output": 1}}, "Expected `float` >= 0", id="a refund"
        ),
        pytest.param({**FACTS, "efforts": ["hard"]}, "hard", id="an effort that does not exist"),
    ],
)
def test_an_invalid_row_is_rejected(row, message):
    with pytest.raises(ValueError, match=message):
        parse_catalogue(file({"m": row})).everything()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"[]", "Expected `object`", id="not an object"),
        pytest.param(b"{", "truncated", id="half a file"),
        pytest.param(file({}, format=2), "format", id="another format"),
        pytest.param(file({}, date="today"), 'got "today"', id="no date"),
    ],
)
def test_an_invalid_file_is_rejected(data, message):
    with pytest.raises(ValueError, match=message):
        parse_catalogue(data)


def test_sections_are_decoded_when_they_are_needed():
    broken = parse_catalogue(file({"m": {}}))
    assert broken.section("kimi") == {}
    with pytest.raises(ValueError, match="source"):
        broken.section("openai")


# Lookup.


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        pytest.param("gpt-7", True, id="the name"),
        pytest.param("GPT-7", True, id="in another case"),
        pytest.param("gpt-7-2027-01-31", True, id="a dated version"),
        pytest.param("gpt-7-20270131", True, id="a date without hyphens"),
        pytest.param("gpt-7@20270131", True, id="Vertex's form"),
        pytest.param("gpt-7-0131", False, id="a number may be another model"),
        pytest.param("gpt-7-mini", False, id="another model"),
    ],
)
def test_rows_are_found_by_name(model, expected):
    rows = rows_by_name({"Gpt-7": ModelFacts(**FACTS)})
    assert (row_of(rows, model) is not None) is expected


def test_a_plan_has_its_own_rows_before_those_of_the_provider():
    base = {"m": {**FACTS, "window": 1}, "n": {**FACTS, "window": 2}}
    plan = {"m": {**FACTS, "window": 3}}
    catalogue = parse_catalogue(file({}, models={"kimi": base, "kimi-plan": plan}))
    rows = rows_of(catalogue, "kimi", Endpoint(name="x", catalogue="kimi-plan"))
    assert {model: row.window for model, row in rows.items()} == {"m": 3, "n": 2}


def test_models_of_another_provider_lose_its_specific_facts():
    row = {**FACTS, "window": 5, "api": "responses", "retires": "2026-12-11", "successor": "x"}
    catalogue = parse_catalogue(file({"gpt-5": row, "other": row}))
    azure = rows_of(catalogue, "azure", Endpoint(name=""))
    anywhere = rows_of(catalogue, "", Endpoint(name=""))
    plain = ModelFacts(**FACTS, window=5)
    assert azure == {"gpt-5": plain, "other": plain}
    assert anywhere == {"gpt-5": plain}


def test_an_endpoint_replaces_addresses_and_models():
    preset = Preset(title="x", base_url="https://a/v1", native_url="https://a", big="m", small="s")
    there = preset.at(Endpoint(name="y", base_url="https://b/v1", big="plan"))
    assert (there.base_url, there.native_url) == ("https://b/v1", "")
    assert (there.big, there.small) == ("plan", "s")
    assert preset.at(Endpoint(name="z")) == preset


# Merging.


def test_a_row_replaces_the_assumptions_of_the_card():
    card = ModelCard(quirks=Quirks(images=False, flat_text=True, efforts=("low",)), api="chat")
    row = ModelFacts(
        **FACTS,
        window=100_000,
        max_input=90_000,
        max_output=8000,
        images=True,
        pdf=False,
        efforts=("high",),
        always_reasons=True,
    )
    merged = card.with_facts(row)
    assert (merged.window, merged.max_output, merged.api) == (90_000, 8000, "chat")
    assert merged.quirks == Quirks(images=True, efforts=("high",), always_reasons=True, pdf="text")
    assert merged.facts == row


def test_a_row_without_facts_changes_nothing():
    card = ModelCard(window=5, max_output=4, quirks=Quirks(images=False, pdf="file"))
    merged = card.with_facts(ModelFacts(**FACTS, pdf=True))
    assert (merged.window, merged.max_output, merged.quirks) == (5, 4, card.quirks)


def test_the_efforts_are_those_of_the_models_own_dialect():
    card = ModelCard(quirks=Quirks(efforts=("low",)))
    merged = card.with_facts(ModelFacts(**FACTS, api="responses", efforts=("low", "max")))
    assert merged.quirks_in("chat").efforts == ("low",)
    assert merged.quirks_in("responses").efforts == ("low", "max")
