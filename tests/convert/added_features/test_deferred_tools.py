"""Sent tools, deferred tools, and the results of a tool search."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from ccproxy.convert.added_features.deferred_tools import LISTED, defers_tools, tool_plan

SEARCH = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}


def tool(name, description="", **fields):
    schema = {"type": "object", "properties": fields.pop("properties", {})}
    return {"name": name, "description": description, "input_schema": schema, **fields}


def own(count):
    return [tool(f"own_{index}") for index in range(count)]


def mcp(count):
    return [tool(f"mcp__server__tool_{index}") for index in range(count)]


def plan(tools, limit=0, content=(), **fields):
    messages = [{"role": "assistant", "content": list(content)}, {"role": "user", "content": "x"}]
    body = {"messages": messages, "tools": tools, **fields}
    return tool_plan(json.dumps(body).encode(), limit)


def names(tools):
    return [json.loads(bytes(raw))["name"] for raw in tools]


@pytest.mark.parametrize(
    ("tools", "limit"),
    [
        pytest.param(own(9), 0, id="no limit"),
        pytest.param(own(9), 9, id="as many as allowed"),
        pytest.param([tool("late", defer_loading=True)], 0, id="deferred without a search"),
        pytest.param([SEARCH, *own(2)], 0, id="a search and nothing deferred"),
        pytest.param(
            [*own(8), tool("DeferredToolPlaceholder", defer_loading=True)], 8, id="a placeholder"
        ),
    ],
)
def test_all_tools_are_sent(tools, limit):
    assert plan(tools, limit) is None


def test_a_description_that_is_not_a_string_is_not_searched():
    made = plan([*mcp(5), *own(4), tool("odd", {"a": 1})], 8)
    assert "odd" in names(made.tools())
    assert defers_tools(Raw(json.dumps([{**SEARCH, "description": 5}]).encode()))


def test_mcp_tools_above_the_limit_are_deferred():
    assert names(plan([*mcp(5), *own(4)], 8).tools()) == [
        *("own_0", "own_1", "own_2", "own_3"),
        "tool_search",
    ]


def test_the_last_of_other_tools_are_deferred():
    made = plan(own(20), 8)
    assert names(made.tools()) == [*(f"own_{index}" for index in range(5)), "tool_search"]
    assert len(made.tools([f"own_{index}" for index in range(5, 20)])) == 8


def test_loaded_tools_keep_their_order_and_the_oldest_are_dropped_first():
    use = {"type": "tool_use", "name": "own_9"}
    matches = {
        "type": "tool_search_tool_result",
        "content": {"tool_references": [{"type": "tool_reference", "tool_name": "own_7"}]},
    }
    reference = {
        "type": "tool_result",
        "content": [{"type": "tool_reference", "tool_name": "own_7"}, {"type": "text"}],
    }
    deep = {"type": "tool_use", "name": "own_8"}
    for _ in range(9):
        deep = {"type": "tool_result", "content": [deep]}
    made = plan(
        own(20), 8, [use, matches, reference, {"type": "tool_use", "name": "gone"}, 5, deep]
    )
    assert made.loaded == ("own_9", "own_7")
    assert names(made.tools())[-2:] == ["own_9", "own_7"]
    assert names(made.tools(["own_11", "own_7"]))[-2:] == ["own_7", "own_11"]


def test_deferred_tools_wait_for_the_clients_search():
    made = plan([SEARCH, *own(1), tool("late", defer_loading=True)])
    assert names(made.tools()) == ["own_0", "tool_search_tool_bm25"]
    assert names(made.tools(["late"])) == ["own_0", "tool_search_tool_bm25", "late"]
    assert names(made.tools(searches=False)) == ["own_0"]


def test_enough_deferred_tools_keep_mcp_tools():
    late = [tool(f"late_{index}", defer_loading=True) for index in range(6)]
    assert "mcp__server__tool_0" in names(plan([SEARCH, *mcp(4), *late], 8).tools())


@pytest.mark.parametrize("forced", ["own_19", "mcp__server__tool_0"])
def test_a_forced_tool_is_sent(forced):
    made = plan([*own(20), *mcp(1)], 8, tool_choice={"type": "tool", "name": forced})
    assert forced in names(made.initial)
    assert len(made.tools(["own_7", "own_8", "own_9"])) <= 8


@pytest.mark.parametrize("choice", [{"type": "auto"}, {"type": "tool", "name": 5}, "auto"])
def test_other_choices_force_nothing(choice):
    assert len(plan(own(20), 8, tool_choice=choice).initial) == 5


def test_a_free_name_for_the_search():
    assert plan([tool("tool_search"), *own(9)], 8).function == "tool_search_"


def test_the_description_lists_the_names_within_a_bound():
    held = [tool(f"mcp__{index}__{'x' * 100}") for index in range(200)]
    description = json.loads(bytes(plan(held, 128).tools()[0]))["description"]
    assert held[0]["name"] in description
    assert " more." in description
    assert len(description) < LISTED + 500


# The search.

ISSUE = tool(
    "mcp__github__create_issue",
    "Opens a ticket in a repository",
    properties={"labels": {"description": "Colours"}, "odd": 5},
)
MAIL = tool("mcp__mail__sendMessage", "Sends a letter. 天気")
OTHERS = [{"name": f"mcp__other__{index}", "input_schema": {"properties": 5}} for index in range(9)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("create github issues", [ISSUE], id="words of the name"),
        pytest.param("ticket", [ISSUE], id="words of the description"),
        pytest.param("label colour", [ISSUE], id="words of arguments"),
        pytest.param("SEND MESSAGE", [MAIL], id="words in camel case"),
        pytest.param("天気", [MAIL], id="other scripts"),
        pytest.param("letter or ticket ticket", [ISSUE, MAIL], id="several"),
        pytest.param("select:mcp__mail__sendMessage", [MAIL], id="an exact name"),
        pytest.param("quantum", [], id="nothing"),
        pytest.param("", [], id="no words"),
    ],
)
def test_results_of_a_search(query, expected):
    matches = plan([*OTHERS, ISSUE, MAIL], 8).find(query)
    assert sorted(matches) == sorted(each["name"] for each in expected)


def test_a_search_finds_few_tools():
    assert len(plan(mcp(20), 8).find("tool")) == 5


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ([SEARCH], True),
        (own(1), False),
        ([tool("x", "see tool_search_tool_bm25")], False),
        ([{"name": "x", "type": None, "description": "tool_search_tool_"}], False),
    ],
)
def test_the_clients_search(tools, expected):
    assert defers_tools(Raw(json.dumps(tools).encode())) is expected
