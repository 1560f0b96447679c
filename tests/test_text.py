"""Text for people: suggestions, masks, durations, sizes, printable output."""

from __future__ import annotations

import json

import pytest

from ccproxy import text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("strat", ' (did you mean "start"?)', id="a misspelling"),
        pytest.param("STATUS", ' (did you mean "status"?)', id="another case"),
        pytest.param("xyz", "", id="nothing close"),
        pytest.param("", "", id="empty"),
    ],
)
def test_suggestions(name, expected):
    assert text.did_you_mean(name, ["start", "status", "stop"]) == expected


def test_a_suggestion_keeps_the_candidate_s_case():
    assert text.closest("kimi-k", ["Kimi-K3", "GLM-5"]) == "Kimi-K3"


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        ("sk-abcdefgh-1234", "…1234"),
        ("short-1234", "…"),
        ("", "…"),
        ("sk-abcdefgh-12\udcff\udcfe", "…12??"),
    ],
)
def test_a_key_is_shown_by_its_last_four_characters(secret, expected):
    assert text.mask_key(secret) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param("plain text, äöü 中文", "plain text, äöü 中文", id="letters of any script"),
        pytest.param("a\tb", "a\tb", id="a tab"),
        pytest.param("\x1b[31mred", "\\x1b[31mred", id="an escape sequence"),
        pytest.param("a\nb\r", "a\\nb\\r", id="line ends"),
        pytest.param("\u202eevil", "\\u202eevil", id="a direction override"),
    ],
)
def test_control_characters_are_escaped(raw, expected):
    assert text.printable(raw) == expected


@pytest.mark.parametrize("raw", ["plain", "\x9b2J", "\u202eevil", "\xad", "\U000e0001", "\x7f"])
def test_escapes_in_json_are_valid_json(raw):
    line = text.printable_json(json.dumps({"a": raw}, ensure_ascii=False))
    assert line.isprintable()
    assert json.loads(line) == {"a": raw}


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("15s", 15), ("10m", 600), ("1.5h", 5400), ("3d", 259200), ("500ms", 0.5), (" 90 ", 90)],
)
def test_durations_are_parsed(typed, seconds):
    assert text.parse_duration(typed) == seconds


@pytest.mark.parametrize("typed", ["", "soon", "-1s", "1y", "1 2", "9" * 20, "1e5"])
def test_invalid_durations_are_rejected(typed):
    with pytest.raises(ValueError, match="must be a duration such as"):
        text.parse_duration(typed)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0s"), (41.9, "41s"), (600, "10m"), (7800, "2h 10m"), (273600, "3d 4h"), (-5, "0s")],
)
def test_durations_are_shown_in_two_units(seconds, expected):
    assert text.format_duration(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 B"), (999, "999 B"), (999_600, "1 MB"), (41_000_000, "41 MB"), (10**15, "1000 TB")],
)
def test_sizes_are_shown_in_decimal_units(count, expected):
    assert text.format_size(count) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        *((999, "999"), (1500, "1.5K"), (200_000, "200K"), (999_499, "999K"), (999_500, "1M")),
        *((32_768, "32K"), (262_144, "256K"), (1_000_000, "1M"), (1_048_576, "1M")),
        *((999_499_999, "999M"), (999_500_000, "1B"), (41_000_000_000, "41B")),
    ],
)
def test_tokens_are_shown_in_the_unit_of_the_window(count, expected):
    assert text.format_tokens(count) == expected


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        *((None, "–"), (0.0, "$0.00"), (0.00001, "<$0.0001"), (0.0012, "$0.0012")),
        *((0.1, "$0.10"), (3.117, "$3.12"), (1234.5, "$1,234.50")),
    ],
)
def test_amounts_have_two_significant_digits(amount, expected):
    assert text.format_dollars(amount) == expected


def test_an_amount_with_unpriced_parts_ends_with_a_plus():
    assert text.format_dollars(0.5, is_partial=True) == "$0.50+"


def test_a_count_comes_with_its_noun():
    assert [text.counted(n, "worker") for n in (0, 1, 2)] == ["0 workers", "1 worker", "2 workers"]
