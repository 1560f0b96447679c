"""Tests of the translation tables: complete and used."""

from __future__ import annotations

from typing import get_args

import pytest

from ccproxy.convert.chat.answer import to_message
from ccproxy.convert.common import vocabulary
from ccproxy.errors import STATUS_OF_KIND
from ccproxy.providers.quirks import EffortWord
from tests.chat_answers import context, end, say, sse
from tests.grammar import STOP_REASONS


@pytest.mark.parametrize("term", vocabulary.STOP_REASON)
def test_every_stop_reason_is_one_of_the_api(term):
    assert vocabulary.STOP_REASON[term] in STOP_REASONS


@pytest.mark.parametrize("term", vocabulary.FAILED)
def test_every_failure_is_an_error_of_the_api(term):
    assert vocabulary.FAILED[term] in STATUS_OF_KIND


def test_words_are_looked_up_in_lower_case():
    words = [*vocabulary.STOP_REASON, *vocabulary.FAILED]
    assert [term for term in words if term != term.lower()] == []


def test_no_word_means_two_things():
    assert vocabulary.STOP_REASON.keys().isdisjoint(vocabulary.FAILED)


def test_what_holds_beside_calls_is_a_stop_reason():
    assert set(vocabulary.STOP_REASON.values()) >= vocabulary.CUT_SHORT
    assert "tool_use" not in vocabulary.CUT_SHORT


@pytest.mark.parametrize(
    "places",
    [vocabulary.CACHED_TOKENS, vocabulary.CACHE_WRITE_TOKENS, vocabulary.REASONING_TOKENS],
)
def test_places_of_numbers_are_told_apart(places):
    assert len(set(places)) == len(places)
    assert all(location and all(isinstance(key, str) for key in location) for location in places)


def test_efforts_rise():
    words = get_args(EffortWord)
    assert words[-1] == "default", "the one that is no degree is last"
    assert words[:-1] == ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def test_the_tables_are_what_the_machine_reads():
    """Every row is used: each value is passed through the state machine."""
    for term, reason in vocabulary.STOP_REASON.items():
        message = to_message(sse([say("a"), end(term.upper())]), context())
        expected = "end_turn" if reason == "tool_use" else reason
        assert message["stop_reason"] == expected, term
