"""Reports of retired models, and their text."""

from __future__ import annotations

import pytest

from ccproxy.providers.cards import ModelCard
from ccproxy.providers.catalogue import ModelFacts
from ccproxy.routing.retirement import Retirement, retirement_text, retirements


def card(**fields):
    return ModelCard(facts=ModelFacts(source="PI", date="2026-11-28", **fields))


CARDS = {
    "unknown": ModelCard(),
    "current": card(),
    "late": card(retires="2027-06-01"),
    "edge": card(retires="2026-12-31"),
    "near": card(retires="2026-12-11", successor="new"),
    "past": card(status="retired", retires="2026-07-24"),
    "undated": card(status="retired", successor="new"),
    "deprecated": card(status="deprecated"),
}


def test_retired_and_soon_retired_models():
    result = retirements([*CARDS, "near"], CARDS.__getitem__, until="2026-12-31")
    assert result == [
        Retirement("near", "2026-12-11", "new"),
        Retirement("past", "2026-07-24", ""),
        Retirement("undated", "", "new"),
    ]


@pytest.mark.parametrize(
    ("retirement", "text"),
    [
        (("m", "2026-12-11", "n"), "the provider will retire m on 2026-12-11; its successor is n"),
        (("m", "2026-11-29", ""), "the provider retired m on 2026-11-29"),
        (("m", "", "n"), "the provider has retired m; its successor is n"),
    ],
)
def test_sentences(retirement, text):
    assert retirement_text(Retirement(*retirement), today="2026-11-29") == text
