"""The first block of a prompt that differs from the previous prompt."""

from __future__ import annotations

import json

import pytest

from ccproxy.convert.prompt_prefix import (
    MAX_BODY,
    MAX_MESSAGES,
    FirstChange,
    first_change,
    read_prompt,
)

MARK = {"cache_control": {"type": "ephemeral"}}
SUMMARY = "This session is being continued from a previous conversation that ran out of context."


def text(content, **more):
    return {"type": "text", "text": content, **more}


def tool(name, **more):
    return {"name": name, "description": f"{name} it", "input_schema": {"type": "object"}, **more}


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def call(number):
    return assistant([{"type": "tool_use", "id": f"t{number}", "name": "Read", "input": {}}])


def result(number, content="the file", **more):
    return user([{"type": "tool_result", "tool_use_id": f"t{number}", "content": content, **more}])


BEFORE = {
    "model": "claude-opus-4-1",
    "messages": [user("hello"), call(1), result(1), call(2), result(2, **MARK)],
    "system": [
        text("x-anthropic-billing-header: cc_version=1; cch=1"),
        text("You are Claude Code.", **MARK),
        text("Rules", **MARK),
    ],
    "tools": [tool("Bash"), tool("Edit"), tool("Read")],
    "thinking": {"type": "adaptive"},
}


def read(body, *, keeps_attribution=True):
    prompt = read_prompt(json.dumps(body).encode(), keeps_attribution=keeps_attribution)
    assert prompt is not None
    return prompt


def change(now, *, before=BEFORE, **how):
    return first_change(read(before, **how).condense(), read({**before, **now}, **how))


TOO_MANY = json.dumps({"messages": [user("x")] * (MAX_MESSAGES + 1)}).encode()
MESSAGES = BEFORE["messages"]
SYSTEM = BEFORE["system"]
BASH, EDIT, READ = BEFORE["tools"]


@pytest.mark.parametrize(
    "now",
    [
        pytest.param({}, id="the same again"),
        pytest.param(
            {"messages": [*MESSAGES[:4], result(2), call(3), result(3, **MARK)]},
            id="the mark moves on",
        ),
        pytest.param({"tools": [BASH, EDIT, tool("Read", **MARK)]}, id="the last tool is marked"),
        pytest.param(
            {"system": [SYSTEM[0], text("You are Claude Code."), SYSTEM[2]]}, id="unmarked"
        ),
        pytest.param({"max_tokens": 5, "metadata": {"user_id": "x"}}, id="not part of the prompt"),
    ],
)
def test_prompts_that_count_as_equal(now):
    assert change(now) is None


def test_a_marked_list_becomes_a_string():
    before = {"messages": [user([text("hi", **MARK)])]}
    now = {"messages": [user("hi"), assistant("yes"), user([text("more", **MARK)])]}
    assert change(now, before=before) is None
    other = {"messages": [user("ho"), assistant("yes"), user("more")]}
    assert change(other, before=before) == FirstChange("message_changed", "messages[0]")


def test_the_attribution_is_ignored_where_it_is_not_sent():
    now = {"system": [text("x-anthropic-billing-header: cc_version=1; cch=2"), *SYSTEM[1:]]}
    assert change(now, keeps_attribution=False) is None
    assert change(now) == FirstChange("attribution_header", "system[0]")


@pytest.mark.parametrize(
    ("now", "kind", "block", "detail"),
    [
        pytest.param(
            {"tools": [BASH, tool("Deploy"), EDIT, READ]},
            *("tool_added", "tools[1] Deploy", ""),
            id="a tool is added",
        ),
        pytest.param(
            {"tools": [BASH, EDIT, READ, tool("X"), tool("Y")]},
            *("tool_added", "tools[3] X", "2 added"),
            id="two tools are added",
        ),
        pytest.param(
            {"tools": [BASH, READ]}, "tool_removed", "tools[1] Edit", "", id="a tool is removed"
        ),
        pytest.param(
            {"tools": []}, "tool_removed", "tools[0] Bash", "3 removed", id="all are removed"
        ),
        pytest.param(
            {"tools": [BASH, tool("Edit", description="other"), READ]},
            *("tool_changed", "tools[1] Edit", ""),
            id="a tool is changed",
        ),
        pytest.param(
            {"tools": [EDIT, BASH, READ]}, "tools_reordered", "tools[0] Edit", "", id="reordered"
        ),
        pytest.param(
            {"system": [SYSTEM[0], SYSTEM[1], text("Other rules")]},
            *("system_changed", "system[2]", ""),
            id="the system prompt",
        ),
        pytest.param(
            {"system": "Be brief"}, "system_changed", "system[0]", "", id="another form of it"
        ),
        pytest.param({"system": SYSTEM[:2]}, "system_changed", "system[2]", "", id="less of it"),
        pytest.param(
            {"messages": [user(SUMMARY)]}, "compaction", "messages[0]", "", id="compaction"
        ),
        pytest.param(
            {"messages": [call(2), result(2), user("CRITICAL: Respond with TEXT ONLY, no tools")]},
            *("compaction", "messages[0]", ""),
            id="the request for a summary",
        ),
        pytest.param(
            {"messages": [user("hello"), call(1), result(1, "[Old tool result content cleared]")]},
            *("tool_results_cleared", "messages[2]", ""),
            id="old results are cleared",
        ),
        pytest.param(
            {"messages": [user("hello"), call(9), *MESSAGES[2:], call(3), result(3)]},
            *("message_changed", "messages[1]", ""),
            id="an earlier message",
        ),
        pytest.param(
            {"messages": [*MESSAGES[:2], user("no, other")]},
            *("messages_removed", "messages[2]", ""),
            id="the conversation is rewound",
        ),
        pytest.param(
            {"messages": MESSAGES[:3]},
            "messages_removed",
            "messages[3]",
            "",
            id="the end is removed",
        ),
        pytest.param(
            {"thinking": {"type": "disabled"}}, "parameters_changed", "thinking", "", id="thinking"
        ),
        pytest.param(
            {"tool_choice": {"type": "any"}},
            "parameters_changed",
            "tool_choice",
            "",
            id="new choice",
        ),
    ],
)
def test_the_first_change_is_named(now, kind, block, detail):
    assert change(now) == FirstChange(kind, block, detail)


def test_a_tool_whose_name_is_not_at_the_beginning():
    odd = {"description": "x" * 500, "name": "Odd"}
    before = {**BEFORE, "tools": [odd]}
    now = {"tools": [{**odd, "description": "y" * 500}]}
    assert change(now, before=before) == FirstChange("tool_changed", "tools[0]")


def test_messages_of_any_form_are_compared():
    before = {"messages": [user([text("a"), text("b")]), user(None), user("x")]}
    assert change({}, before=before) is None
    assert read({"messages": [user("x")]}).condense().system == ()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"no json", id="not JSON"),
        pytest.param(b"{}", id="no messages"),
        pytest.param(b'{"messages": []}', id="no message"),
        pytest.param(TOO_MANY, id="too many"),
        pytest.param(b" " * (MAX_BODY + 1), id="too long"),
        pytest.param(b'{"messages": [1], "system": [}', id="broken"),
    ],
)
def test_bodies_that_are_not_prompts(body):
    assert read_prompt(body, keeps_attribution=True) is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, False, id="five minutes"),
        pytest.param(
            {"system": [text("x", cache_control={"type": "ephemeral", "ttl": "1h"})]},
            True,
            id="an hour",
        ),
    ],
)
def test_a_prompt_that_is_cached_for_an_hour(fields, expected):
    assert read({**BEFORE, **fields}).is_cached_long is expected


def test_equal_parts_are_reused():
    before = read(BEFORE).condense()
    after = read({**BEFORE, "messages": [*MESSAGES, call(7)]}).condense(before)
    assert after.tools is before.tools
    assert after.system is before.system
    assert len(after.messages) == len(MESSAGES) + 1


def test_no_text_is_kept():
    assert "hello" not in repr(read(BEFORE).condense())
    assert "Rules" not in repr(read(BEFORE).condense())


def test_the_first_message_identifies_a_conversation():
    prompt = read(BEFORE)
    assert prompt.condense().first == prompt.first
    assert read({**BEFORE, "messages": [user("other")]}).first != prompt.first
