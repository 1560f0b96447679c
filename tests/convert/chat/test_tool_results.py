"""Tool results: never empty, errors visible, and text only."""

from __future__ import annotations

import pytest

from tests.asking import ask, assistant, image, result, target, text, use, user


def answer(block, **quirks):
    return ask(user("a"), assistant(use("t")), user(block), to=target(**quirks)).messages[2]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param("text", "text", id="a string"),
        pytest.param([text("text")], "text", id="a block"),
        pytest.param([text("a"), text("b")], "a\nb", id="several blocks are lines"),
        pytest.param("", "(no output)", id="an empty string"),
        pytest.param([], "(no output)", id="no blocks"),
        pytest.param([text("")], "(no output)", id="an empty block"),
        pytest.param(None, "(no output)", id="null"),
        pytest.param([{"type": "unheard_of"}], "(no output)", id="only an unknown block"),
        pytest.param([image()], "[image follows]", id="only an image"),
        pytest.param(
            [image(), text("a"), image()], "[image follows]\na\n[image follows]", id="mix"
        ),
        pytest.param('"quoted" \\ back\nslash', '"quoted" \\ back\nslash', id="escapes"),
    ],
)
def test_text(given, said):
    assert answer(result("t", given))["content"] == said


def test_content_may_be_missing():
    block = result("t")
    del block["content"]
    assert answer(block)["content"] == "(no output)"


@pytest.mark.parametrize(
    ("is_error", "content", "said"),
    [
        pytest.param(True, "exit 2", "Error: exit 2", id="true"),
        pytest.param(False, "fine", "fine", id="false"),
        pytest.param(None, "fine", "fine", id="null"),
        pytest.param(True, "", "Error: (no output)", id="an error without words"),
        pytest.param(True, [text("a"), text("b")], "Error: a\nb", id="an error of blocks"),
    ],
)
def test_errors_are_visible(is_error, content, said):
    assert answer(result("t", content, is_error=is_error))["content"] == said


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(("type", "tool_use_id", "content", "is_error"), id="usual"),
        pytest.param(("is_error", "content", "tool_use_id", "type"), id="backwards"),
    ],
)
def test_the_order_of_keys_does_not_matter(order):
    block = result("t", "x", is_error=True)
    assert answer({key: block[key] for key in order})["content"] == "Error: x"


def test_an_orphaned_error_is_visible():
    asked = ask(user(result("gone", "x", is_error=True)))
    assert asked.messages[0]["content"] == "[result of an earlier tool call]\nError: x"
