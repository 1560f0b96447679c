"""Tests of TOOL_FILTER: matching tools are removed, everything else is preserved."""

from __future__ import annotations

import json

import pytest

from ccproxy.convert.common.tool_filter import without_tools
from tests.traced import kept_by

BASH = {"name": "Bash", "description": "Runs \u2713", "input_schema": {"type": "object"}}
FETCH = {"name": "WebFetch", "input_schema": {}}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
MCP = {"name": "mcp__github__list", "input_schema": {}}


def body(*tools, **more):
    return json.dumps({"model": "m", "tools": tools, "messages": [], **more}).encode()


def names(body):
    return [tool["name"] for tool in json.loads(body).get("tools", [])]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ((), ["Bash", "WebFetch", "web_search", "mcp__github__list"]),
        (("Web*",), ["Bash", "mcp__github__list"]),
        (("webfetch",), ["Bash", "web_search", "mcp__github__list"]),
        (("mcp__*", "Bash"), ["WebFetch", "web_search"]),
        (("Web",), ["Bash", "WebFetch", "web_search", "mcp__github__list"]),
        (("nothing",), ["Bash", "WebFetch", "web_search", "mcp__github__list"]),
        (("*",), []),
    ],
)
def test_tools_are_removed_by_name(patterns, expected):
    outgoing, removed = without_tools(body(BASH, FETCH, SEARCH, MCP), patterns)
    assert names(outgoing) == expected
    assert len(removed) == 4 - len(expected)
    assert all(name.removeprefix("tools.") not in expected for name in removed)


def test_the_rest_keeps_its_bytes():
    raw = b'{ "model" : "m", "x":1.50, "tools":[{"name":"Bash","a":1.0 },{"name":"B"}] }'
    outgoing, removed = without_tools(raw, ("B",))
    assert outgoing == b'{"model":"m","x":1.50,"tools":[{"name":"Bash","a":1.0 }]}'
    assert removed == ("tools.B",)


def test_a_body_without_a_match_is_unchanged():
    raw = b'{ "tools" : [ {"name":"Bash"} ] }'
    assert without_tools(raw, ("x",)) == (raw, ())


@pytest.mark.parametrize(
    ("choice", "patterns", "stays"),
    [
        ({"type": "auto"}, ("WebFetch",), True),
        ({"type": "tool", "name": "Bash"}, ("WebFetch",), True),
        ({"type": "tool", "name": "WebFetch"}, ("WebFetch",), False),
        ({"type": "any"}, ("*",), False),
    ],
)
def test_a_choice_of_a_removed_tool_is_removed(choice, patterns, stays):
    outgoing, _ = without_tools(body(BASH, FETCH, tool_choice=choice), patterns)
    assert ("tool_choice" in json.loads(outgoing)) is stays


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"nonsense", b'{"tools":5}', b'{"tools":[5]}', b'{"tools":null}', b"[" * 100_000],
)
def test_a_body_that_is_not_a_request_is_unchanged(raw):
    assert without_tools(raw, ("*",)) == (raw, ())


def test_only_small_lists_are_cached():
    def work():
        for number in range(20):
            long = {"name": f"x{number}", "description": "x" * 2**20}
            assert names(without_tools(body(BASH, long), ("Bash",))[0]) == [long["name"]]

    assert kept_by(work) < 2**20
