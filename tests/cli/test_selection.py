"""Selecting entries of the table by label."""

from __future__ import annotations

import pytest

from ccproxy.cli.selection import choose, choose_one, known_labels
from ccproxy.config.fleet import load_fleet
from ccproxy.errors import UsageError


@pytest.fixture
def fleet(home):
    return load_fleet(home / "ccproxy.toml")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ([], ["Kimi-K2", "GLM-4.6"]),
        (["kimi-k2"], ["Kimi-K2"]),
        (["GLM-4.6", "KIMI-K2"], ["Kimi-K2", "GLM-4.6"]),
        (["*"], ["Kimi-K2", "GLM-4.6"]),
        (["k*", "kimi-k2"], ["Kimi-K2"]),
        (["glm-4.?"], ["GLM-4.6"]),
    ],
)
def test_choose(typed, expected, fleet):
    assert [entry.label for entry in choose(fleet, typed)] == expected
    if typed != ["*"] and len(expected) == 1:
        assert choose_one(fleet, typed[0]).label == expected[0]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("kmi-k2", 'did you mean "Kimi-K2"?'),
        ("glm4.6", 'did you mean "GLM-4.6"?'),
        ("zzz", '"zzz" is not in the table\n  fix: use one of: Kimi-K2, GLM-4.6'),
        ("z*", '"z*" is not in the table'),
    ],
)
def test_a_label_without_a_match_is_refused(typed, words, fleet):
    with pytest.raises(UsageError) as caught:
        choose(fleet, ["kimi-k2", typed])
    assert words in str(caught.value)


def test_a_single_entry_is_required(fleet):
    with pytest.raises(UsageError, match=r"matches 2 labels: Kimi-K2, GLM-4\.6"):
        choose_one(fleet, "*")


def test_workers_removed_from_the_table_can_be_selected(fleet):
    running = ["Kimi-K2", "Old"]
    assert known_labels(fleet, running, []) == ["Kimi-K2", "Old", "GLM-4.6"]
    assert known_labels(fleet, running, ["old"]) == ["Old"]
    with pytest.raises(UsageError, match="is not in the table"):
        known_labels(fleet, running, ["nobody"])
