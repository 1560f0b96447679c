"""Dictionaries of limited size."""

from __future__ import annotations

import pytest

from ccproxy.bounded_dict import BoundedDict


@pytest.fixture
def full():
    entries: BoundedDict[str, int] = BoundedDict(3)
    entries.update({"a": 1, "b": 2, "c": 3})
    return entries


def test_the_entry_set_longest_ago_is_removed(full):
    full["d"] = 4
    assert dict(full) == {"b": 2, "c": 3, "d": 4}


def test_an_entry_that_is_set_again_is_the_newest(full):
    full["a"] = 5
    full["d"] = 4
    assert dict(full) == {"c": 3, "a": 5, "d": 4}


def test_every_way_to_add_entries_is_bounded(full):
    full.update({"d": 4, "e": 5})
    full.setdefault("f", 6)
    full |= {"g": 7}
    assert dict(full) == {"e": 5, "f": 6, "g": 7}
