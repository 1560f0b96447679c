"""Tests of think tags: a leading `<think>…</think>` is reasoning, similar text is not."""

from __future__ import annotations

import pytest

from ccproxy.convert.chat.think_tags import ThinkTags


def run(pieces):
    tags = ThinkTags()
    output = [item for piece in pieces for item in tags.feed(piece)] + tags.flush()
    text = {"thinking": "", "text": ""}
    for kind, piece in output:
        text[kind] += piece
    return text["thinking"], text["text"]


CASES = [
    pytest.param("<think>plan</think>answer", ("plan", "answer"), id="both"),
    pytest.param("<think>\nplan\n</think>\n\nanswer", ("\nplan\n", "answer"), id="blank lines"),
    pytest.param("\n <think>plan</think>answer", ("plan", "answer"), id="white space before it"),
    pytest.param(
        "<think>a < b && c</think>x </think> y <think>no",
        ("a < b && c", "x </think> y <think>no"),
        id="only the leading pair",
    ),
    pytest.param("<think>a</thin>b</think>c", ("a</thin>b", "c"), id="a closing look-alike"),
    pytest.param("<think></think>answer", ("", "answer"), id="no thought at all"),
    pytest.param("<think>never closed", ("never closed", ""), id="a tag that is never closed"),
    pytest.param("<think>cut</thi", ("cut</thi", ""), id="a closing tag that is cut"),
    pytest.param("<think>all</think>", ("all", ""), id="nothing after it"),
    pytest.param("<think>all</think>\n", ("all", ""), id="only white space after it"),
    pytest.param("</think>answer", ("", "answer"), id="a closing tag alone at the start"),
    pytest.param("plain", ("", "plain"), id="plain text"),
    pytest.param("a <think>b</think>", ("", "a <think>b</think>"), id="not at the start"),
    pytest.param("<thing>", ("", "<thing>"), id="an opening look-alike"),
    pytest.param("<THINK>x", ("", "<THINK>x"), id="capitals are another tag"),
    pytest.param("  <th", ("", "  <th"), id="an opening tag that is cut"),
    pytest.param("  ", ("", "  "), id="white space only"),
    pytest.param("\n</think>answer", ("", "answer"), id="white space before a closing tag"),
    pytest.param("", ("", ""), id="nothing"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(("text", "expected"), CASES)
def test_splitting(text, expected, size):
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert run(pieces) == expected


def test_nothing_is_held_longer_than_needed():
    tags = ThinkTags()
    assert tags.feed("<thi") == []
    assert tags.feed("nk>pl") == [("thinking", "pl")]
    assert tags.feed("an</th") == [("thinking", "an")]
    assert tags.feed("x") == [("thinking", "</thx")]
    assert tags.feed("</think>a") == [("thinking", ""), ("text", "a")]
    assert tags.feed("</think>") == [("text", "</think>")]


def test_untouched_and_decided():
    tags = ThinkTags()
    story = []
    for piece in ("", "<", "think>a", "</think>", "\n", "text"):
        tags.feed(piece)
        story.append((tags.is_untouched, tags.is_decided))
    assert story == [(True, False), *[(False, False)] * 4, (False, True)]


def test_flushing_decides_a_start():
    tags = ThinkTags()
    tags.feed("<thi")
    assert tags.flush() == [("text", "<thi")]
    assert tags.is_decided
    assert tags.flush() == []


def test_a_whole_text_may_lack_the_opening_tag():
    assert ThinkTags().feed("plan</think>answer", is_whole=True) == [
        ("thinking", "plan"),
        ("text", "answer"),
    ]
