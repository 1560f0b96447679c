"""Tests of quirks: the defaults describe a plain server, and every quirk is used."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

import ccproxy.convert
from ccproxy.providers import quirks
from ccproxy.providers.presets import load_presets
from ccproxy.providers.quirks import PLAIN, EffortWord, Quirks, Target
from tests.asking import ask, target, text, tool, user

FIELDS = msgspec.structs.fields(Quirks)
SOURCES = "".join(path.read_text() for path in Path(*ccproxy.convert.__path__).rglob("*.py"))


def test_a_plain_server_is_the_default():
    assert Quirks() == PLAIN
    assert Target(provider="x", model="m").quirks == PLAIN


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_quirk_is_read(field):
    """A quirk that no code reads would have no effect."""
    assert re.search(rf"\.{field.name}\b", SOURCES)


def test_every_quirk_is_documented():
    module = ast.parse(Path(quirks.__file__).read_text())
    (fields,) = (node.body for node in module.body if getattr(node, "name", "") == "Quirks")  # type: ignore[attr-defined]
    silent = [
        ast.unparse(field.target)
        for field, following in zip(fields, [*fields[1:], None], strict=True)
        if isinstance(field, ast.AnnAssign) and not is_text(following)
    ]
    assert silent == []


def is_text(node):
    value = getattr(node, "value", None)
    return isinstance(node, ast.Expr) and isinstance(getattr(value, "value", None), str)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"max_stop": 4}, id="a field that does not exist"),
        pytest.param({"reasoning": "maybe"}, id="an invalid word"),
        pytest.param({"efforts": ["high", "ultra"]}, id="an invalid effort"),
        pytest.param({"images": 1}, id="a number for a boolean"),
        pytest.param({"temperature_range": [0.0]}, id="half a range"),
    ],
)
def test_unknown_quirks_are_refused(wrong):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Quirks)


# The presets respect the meanings of the fields.

PRESETS = {
    name: [preset.unknown().quirks, *(card.quirks for card in preset.cards())]
    for name, preset in load_presets().items()
}


@pytest.mark.parametrize("preset", PRESETS)
def test_quirks_of_presets_do_not_contradict(preset):
    for result in PRESETS[preset]:
        low, high = result.temperature_range
        assert 0 <= low < high <= 2
        assert result.max_stops >= 1
        assert 16 <= result.tool_name_length <= 128
        assert "auto" in result.tool_choices
        assert not (result.always_reasons and "none" in result.efforts)


@pytest.mark.parametrize("preset", PRESETS)
def test_efforts_are_in_rising_order(preset):
    words = get_args(EffortWord)
    for result in PRESETS[preset]:
        degrees = [words.index(term) for term in result.efforts if term != "default"]
        assert degrees == sorted(set(degrees))


# An unknown server gets only fields that every server accepts.


def test_a_plain_server_gets_only_common_fields():
    outcome = ask(
        user(text("a")),
        to=target(),
        system="s",
        tools=[tool("f")],
        thinking={"type": "enabled", "budget_tokens": 2000},
        top_k=3,
        metadata={"user_id": "u"},
        stop_sequences=["x"],
        temperature=1,
    )
    assert outcome.body.keys() <= {
        *("model", "messages", "max_tokens", "temperature", "stop", "tools", "tool_choice"),
        *("stream", "stream_options"),
    }
