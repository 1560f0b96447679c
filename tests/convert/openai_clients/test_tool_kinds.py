"""Tools of Responses clients as tools of the Messages API."""

from __future__ import annotations

import json

import msgspec
import pytest

from ccproxy.convert.openai_clients.tool_kinds import ToolKind, ToolKinds, sent_name
from ccproxy.errors import Problem
from ccproxy.protocol.responses_request import ToolDefinition

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
ANY = {"type": "object", "properties": {}}


def decoded(tools, *, search=False):
    definitions = msgspec.json.decode(json.dumps(tools), type=list[ToolDefinition])
    return ToolKinds(definitions, with_search=search)


def function(name="f", **more):
    return {"type": "function", "name": name, "parameters": SCHEMA, **more}


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        pytest.param(function(), {"name": "f", "input_schema": SCHEMA}, id="a function"),
        pytest.param(
            function(description="Does f", strict=True),
            {"name": "f", "description": "Does f", "strict": True, "input_schema": SCHEMA},
            id="a strict function",
        ),
        pytest.param(
            function(parameters=None), {"name": "f", "input_schema": ANY}, id="without parameters"
        ),
        pytest.param(
            {"type": "tool_search", "execution": "client", "description": "Finds"},
            {"name": "tool_search", "description": "Finds", "input_schema": ANY},
            id="the client's search for tools",
        ),
        pytest.param(
            {
                "type": "web_search",
                "filters": {"allowed_domains": ["x"]},
                "user_location": {"a": 1},
            },
            {
                "type": "web_search_20250305",
                "name": "web_search",
                "allowed_domains": ["x"],
                "user_location": {"a": 1},
            },
            id="the web search",
        ),
    ],
)
def test_one_tool(tool, expected):
    (definition,) = decoded([tool], search=True).definitions
    assert json.loads(msgspec.json.encode(definition)) == expected


@pytest.mark.parametrize(
    "tool",
    [
        pytest.param(function("n" * 257), id="a name"),
        pytest.param(
            {"type": "namespace", "name": "n" * 200, "tools": [function("m" * 57)]},
            id="with its namespace",
        ),
    ],
)
def test_a_long_name_is_refused(tool):
    """Each name is hashed, so a namespace of megabytes with many tools would take minutes."""
    with pytest.raises(Problem, match="at most 256 characters"):
        decoded([tool])


def test_a_custom_tool_is_a_function_with_one_string():
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: X"}
    tool = {"type": "custom", "name": "patch", "description": "Edits", "format": grammar}
    (definition,) = decoded([tool]).definitions
    assert definition["input_schema"]["required"] == ["input"]
    texts = definition["description"].split("\n\n")
    assert (texts[0], texts[2]) == ("Edits", "The text must match this grammar (lark):\nstart: X")
    (free,) = decoded([{"type": "custom", "name": "note"}]).definitions
    assert free["description"].startswith("Call this tool with the free text")


def test_the_local_shell_is_a_function():
    (definition,) = decoded([{"type": "local_shell"}]).definitions
    assert (definition["name"], definition["input_schema"]["required"]) == (
        "local_shell",
        ["command"],
    )


def test_a_namespace():
    inner = [function("read"), {"type": "custom", "name": "write"}, {"type": "mcp"}]
    tool = {"type": "namespace", "name": "files", "description": "Files.", "tools": inner}
    made = decoded([tool, {"type": "namespace", "name": "none"}])
    read, write = made.definitions
    assert (read["name"], read["description"]) == ("files__read", "files: Files.")
    assert made.kind_of("files__read") == ToolKind("function", "read", "files")
    assert made.kind_of(write["name"]) == ToolKind("custom", "write", "files")
    assert made.dropped == ["tools.mcp", "tools.empty namespace"]


def test_unsupported_tools_are_left_out():
    tools = [{"type": "web_search"}, {"type": "tool_search"}, function(""), {"type": "custom"}]
    made = decoded([*tools, {"type": "namespace", "name": "a", "tools": [{"type": "namespace"}]}])
    assert made.definitions == []
    assert made.dropped == [
        *("tools.web_search", "tools.tool_search", "tools.function", "tools.custom"),
        "tools.namespace",
    ]


@pytest.mark.parametrize("tool", [function(), {"type": "web_search"}])
def test_a_repeated_tool_is_sent_once(tool):
    made = decoded([tool, tool], search=True)
    assert (len(made.definitions), made.dropped) == (1, [])


@pytest.mark.parametrize("order", [1, -1])
def test_the_clients_own_tool_precedes_the_search_of_that_name(order):
    made = decoded([{"type": "web_search"}, function("web_search")][::order], search=True)
    assert [json.loads(msgspec.json.encode(each)) for each in made.definitions] == [
        {"name": "web_search", "input_schema": SCHEMA}
    ]
    assert made.dropped == ["tools.web_search"]


def test_a_name_that_was_not_sent_is_a_function():
    assert decoded([]).kind_of("made_up") == ToolKind("function", "made_up")


@pytest.mark.parametrize(
    ("name", "namespace", "expected"),
    [
        ("f", None, "f"),
        ("f", "ns", "ns__f"),
        ("f", "mcp__x__", "mcp__x__f"),
        ("a b", None, "a_b_c8687a08"),
    ],
)
def test_sent_names(name, namespace, expected):
    assert sent_name(name, namespace) == expected
