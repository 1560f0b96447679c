"""Tests of the blocks of an inspected request."""

from __future__ import annotations

import json

import pytest

from ccproxy.ui.conversation_blocks import MAX_BLOCKS, MAX_TEXT, prompt_blocks


def body(**fields):
    content = {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hello"}],
        **fields,
    }
    return json.dumps(content)


def test_every_section_has_its_blocks():
    tool = {"input_schema": {"type": "object"}}
    blocks = prompt_blocks(
        body(
            system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            tools=[{"name": "Read", **tool}],
            messages=[
                {"role": "user", "content": "hello"},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": [
                        {"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}]},
            ],
        )
    )  # fmt: skip
    rows = [(one.section, one.role, one.kind, one.name, one.turn, one.text) for one in blocks]
    assert rows == [
        ("system", "system", "text", "", 0, "Be brief."),
        (
            "tools",
            "tool",
            "tool",
            "Read",
            0,
            '{\n  "input_schema": {\n    "type": "object"\n  }\n}',
        ),
        ("messages", "user", "text", "", 1, "hello"),
        ("messages", "assistant", "thinking", "", 2, "hm"),
        ("messages", "user", "tool_result", "", 3, "one\ntwo"),
    ]
    assert [one.is_cached_mark for one in blocks] == [True, False, False, False, False]


def test_the_tokens_add_up_to_the_reported_usage():
    messages = [{"role": "user", "content": f"a longer text {number}"} for number in range(9)]
    blocks = prompt_blocks(body(messages=messages), reported=9_000)
    assert sum(one.tokens for one in blocks) == pytest.approx(9_000, abs=9)


def test_long_texts_and_lists_are_cut():
    (block,) = prompt_blocks(body(messages=[{"role": "user", "content": "x" * MAX_TEXT * 2}]))
    assert (len(block.text), block.characters) == (MAX_TEXT, MAX_TEXT * 2)
    many = [{"role": "user", "content": "x"}] * (MAX_BLOCKS + 5)
    assert len(prompt_blocks(body(messages=many))) == MAX_BLOCKS


def test_a_deep_block_is_shown_as_it_is():
    for depth in (100, 300, 500, 800, 3000):
        deep = '{"content":[' * depth + "]}" * depth
        text = body(messages=[{"role": "user", "content": ["DEEP"]}]).replace('"DEEP"', deep)
        assert len(prompt_blocks(text)) <= 1


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"model":"m","messages":[{"ro', "\ud800"])
def test_anything_else_has_no_blocks(text):
    assert prompt_blocks(text) == []
