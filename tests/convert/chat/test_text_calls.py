"""Tool calls in the text: withheld from the client, and parsed at the end."""

from __future__ import annotations

import pytest

from ccproxy.convert.chat.text_calls import TextCalls
from ccproxy.errors import BadAnswer

CALL = (
    '<｜DSML｜invoke name="{name}">'
    '<｜DSML｜parameter name="a" string="true">x < y</｜DSML｜parameter>'
    '<｜DSML｜parameter name="n" string="false">3</｜DSML｜parameter></｜DSML｜invoke>'
)
MARKUP = f"<｜DSML｜tool_calls>{CALL.format(name='A')}{CALL.format(name='B')}</｜DSML｜tool_calls>"


def split(text: str, size: int) -> tuple[str, list[tuple[str, dict[str, object]]]]:
    """Return the visible text and the calls of *text*, fed in pieces of *size* characters."""
    filtered = TextCalls()
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    visible = "".join(map(filtered.feed, pieces)) + filtered.flush()
    return visible, [(call.name, call.arguments) for call in filtered.calls()]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_calls_are_withheld_and_parsed(size: int) -> None:
    arguments = {"a": "x < y", "n": 3}
    visible, calls = split(f"Text.{MARKUP}", size)
    assert (visible, calls) == ("Text.", [("A", arguments), ("B", arguments)])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
@pytest.mark.parametrize("text", ["a < b", "<｜other｜>", "<", "<｜DSM", ""])
def test_other_text_is_unchanged(text: str, size: int) -> None:
    assert split(text, size) == (text, [])


@pytest.mark.parametrize(
    "markup", ["<｜DSML｜tool_calls>", '<｜DSML｜invoke name="A">', MARKUP[: len(MARKUP) // 2]]
)
def test_incomplete_markup_is_an_error(markup: str) -> None:
    with pytest.raises(BadAnswer):
        split(markup, 1000)


def test_a_value_that_is_not_json_is_text() -> None:
    assert split(MARKUP.replace(">3<", ">3 apples<"), 1000)[1][0] == (
        "A",
        {"a": "x < y", "n": "3 apples"},
    )


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        pytest.param(MARKUP.removesuffix("</｜DSML｜tool_calls>"), "was cut off", id="no end"),
        pytest.param(
            CALL.format(name="A").replace("</｜DSML｜parameter>", ""),
            "cannot be parsed",
            id="a parameter without an end",
        ),
    ],
)
def test_a_part_of_a_call_is_never_a_call(markup: str, text: str) -> None:
    with pytest.raises(BadAnswer, match=text):
        split(markup, 1000)


def test_markup_without_a_call_is_an_error() -> None:
    with pytest.raises(BadAnswer, match="cannot be parsed"):
        split("<｜DSML｜tool_calls>Read a</｜DSML｜tool_calls>", 1000)
