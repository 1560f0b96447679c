"""Tests of tool definitions and tool_choice."""

from __future__ import annotations

import re

import pytest

from ccproxy.errors import Problem
from tests.asking import ask, assistant, result, target, tool, use, user
from tests.traced import kept_by

ANY = {"type": "any"}
READ = {"type": "tool", "name": "Read"}


def converted_tools(*tools, **quirks):
    """Return the functions for *tools*."""
    body = ask(tools=list(tools), to=target(**quirks)).body
    return [each["function"] for each in body.get("tools", [])]


# Definitions...


def test_a_tool_is_a_function():
    schema = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    assert converted_tools(tool("Read", schema)) == [
        {"name": "Read", "description": "Read it", "parameters": schema}
    ]


@pytest.mark.parametrize(
    "field",
    [
        pytest.param({"cache_control": {"type": "ephemeral"}}, id="cache_control"),
        pytest.param({"defer_loading": True}, id="defer_loading"),
        pytest.param({"eager_input_streaming": True}, id="eager_input_streaming"),
        pytest.param({"strict": True}, id="strict"),
        pytest.param({"input_examples": [{}]}, id="input_examples"),
        pytest.param({"allowed_callers": ["direct"]}, id="allowed_callers"),
        pytest.param({"type": "custom"}, id="type custom"),
        pytest.param({"next_years_field": {"x": 1}}, id="unknown"),
    ],
)
def test_fields_of_anthropics_are_left_out(field):
    assert converted_tools(tool("Read", **field)) == converted_tools(tool("Read"))


def test_dropped_fields_of_tools_are_recorded():
    first = tool("Read", strict=True, input_examples=[{}], cache_control={"type": "ephemeral"})
    second = tool("Write", strict=False, defer_loading=True)
    removed = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
    assert ask(tools=[first, second, removed]).converted.dropped == (
        "tools.*.strict",
        "tools.*.input_examples",
        "tools.*.cache_control",
        "tools.web_search",
    )


@pytest.mark.parametrize(
    "description",
    [pytest.param(None, id="null"), pytest.param(7, id="a number")],
)
def test_a_description_that_is_not_a_string_is_left_out(description):
    (function,) = converted_tools({**tool(), "description": description})
    assert "description" not in function


@pytest.mark.parametrize(
    "schema",
    [pytest.param({}, id="empty"), pytest.param(None, id="null")],
)
def test_every_tool_has_an_object_schema(schema):
    (function,) = converted_tools({"name": "f", "input_schema": schema})
    assert function["parameters"] == {"type": "object", "properties": {}}


def test_a_tool_without_a_schema_has_no_parameters():
    (function,) = converted_tools({"name": "f"})
    assert function["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("settings", "expected", "dropped"),
    [
        pytest.param(
            [tool("Late", defer_loading=True)], ["Late"], (), id="a deferred tool with a schema"
        ),
        pytest.param(
            [tool("DeferredToolPlaceholder", defer_loading=True), tool("Read")],
            ["Read"],
            ("tools.DeferredToolPlaceholder",),
            id="the placeholder of tool search",
        ),
        pytest.param(
            [{"name": "Late", "defer_loading": True}, tool("Read")],
            ["Read"],
            ("tools.Late",),
            id="a deferred tool without a schema",
        ),
        pytest.param(
            [{"type": "web_search_20250305", "name": "web_search", "max_uses": 8}, tool("Read")],
            ["Read"],
            ("tools.web_search",),
            id="a server tool",
        ),
        pytest.param(
            [{"type": "mcp_toolset", "mcp_server_name": "x"}, tool("Read")],
            ["Read"],
            ("tools.mcp_toolset",),
            id="a toolset without a name",
        ),
        pytest.param(
            [{"type": "invented_20300101", "name": "x"}, tool("Read")],
            ["Read"],
            ("tools.x",),
            id="an unknown type",
        ),
        pytest.param(
            [{"type": "invented_20300101", **tool("x")}],
            ["x"],
            (),
            id="an unknown type with a schema",
        ),
        pytest.param(
            [tool("Read"), tool("Read"), tool("Write")],
            ["Read", "Write"],
            ("tools.Read",),
            id="the second of one name",
        ),
        pytest.param(
            [{"type": "web_search_20250305", "name": "web_search"}],
            [],
            ("tools.web_search",),
            id="only a server tool: no tools at all",
        ),
        pytest.param([], [], (), id="no tools"),
    ],
)
def test_which_tools_are_sent(settings, expected, dropped):
    outcome = ask(tools=settings)
    names = [each["function"]["name"] for each in outcome.body.get("tools", [])]
    assert names == expected
    assert outcome.converted.dropped == dropped
    assert ("tools" in outcome.body) == bool(expected)


@pytest.mark.parametrize(
    ("kind", "name", "properties"),
    [
        pytest.param("bash_20250124", "bash", {"command", "restart"}, id="bash"),
        pytest.param(
            "text_editor_20250728",
            "str_replace_based_edit_tool",
            {"command", "path", "old_str", "new_str", "view_range"},
            id="text editor",
        ),
        pytest.param("memory_20250818", "memory", {"command", "path", "new_path"}, id="memory"),
        pytest.param("computer_20250124", "computer", {"action", "coordinate"}, id="computer"),
    ],
)
def test_tools_defined_by_type_get_description_and_schema(kind, name, properties):
    (function,) = converted_tools({"type": kind, "name": name})
    assert function["name"] == name
    assert len(function["description"]) > 10
    assert properties <= function["parameters"]["properties"].keys()
    assert all(field["type"] for field in function["parameters"]["properties"].values())


def test_a_tool_defined_by_type_keeps_its_own_schema():
    (function,) = converted_tools(
        {"type": "bash_20250124", **tool("bash", {"properties": {"x": {}}})}
    )
    assert function["parameters"]["properties"] == {"x": {}}


def test_schemas_are_in_the_providers_dialect():
    schema = {"$schema": "x", "type": "object", "properties": {"a": {"const": "b"}}}
    assert converted_tools(tool("f", schema), schema="gemini")[0]["parameters"]["properties"] == {
        "a": {"type": "string", "enum": ["b"]}
    }
    assert converted_tools(tool("f", schema))[0]["parameters"]["properties"] == {
        "a": {"const": "b"}
    }


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["mcp__" + "x" * 80 + "_a", "mcp__" + "x" * 80 + "_b"], id="long"),
        pytest.param(["files.read", "files/read", "files_read"], id="strange"),
    ],
)
def test_names_are_mapped_back(names):
    outcome = ask(tools=[tool(name) for name in names])
    used = [each["function"]["name"] for each in outcome.body["tools"]]
    assert len(set(used)) == len(names)
    back = [outcome.converted.tool_names.get(name, name) for name in used]
    assert back == names
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in used)


def test_valid_names_are_not_in_the_table():
    assert ask(tools=[tool("Read")]).converted.tool_names == {}


@pytest.mark.parametrize(
    ("tools", "complaint"),
    [
        pytest.param({"name": "x"}, "tools: Input should be a valid list", id="no list"),
        pytest.param(["x"], "tools.0: Input should be a valid dictionary", id="no object"),
        pytest.param(
            [tool("a"), {"name": 7}], "tools.1.name: Input should be a valid string", id="name"
        ),
        pytest.param([tool("")], "tools.0.name: Field required", id="no name"),
        pytest.param(
            [{"name": "f", "input_schema": [1]}],
            "tools.0.input_schema: Input should be a valid dictionary",
            id="schema",
        ),
    ],
)
def test_errors(tools, complaint):
    with pytest.raises(Problem) as caught:
        ask(tools=tools)
    assert caught.value.message == complaint


# tool_choice.


@pytest.mark.parametrize(
    ("choice", "sent_choice"),
    [
        pytest.param({"type": "auto"}, "auto", id="auto"),
        pytest.param(ANY, "required", id="any"),
        pytest.param(READ, {"type": "function", "function": {"name": "Read"}}, id="tool"),
        pytest.param({"type": "none"}, "none", id="none"),
        pytest.param({"type": "tool", "name": "Gone"}, "auto", id="a tool that is not there"),
        pytest.param({"type": "next_year"}, "auto", id="unknown"),
        pytest.param(None, None, id="null"),
    ],
)
def test_choice(choice, sent_choice):
    outcome = ask(tools=[tool("Read")], tool_choice=choice)
    assert outcome.body.get("tool_choice") == sent_choice
    assert outcome.roles == "user"


def test_no_tool_choice_is_sent_by_default():
    outcome = ask(tools=[tool("Read")])
    assert not {"tool_choice", "parallel_tool_calls"} & outcome.body.keys()


@pytest.mark.parametrize(
    "tools",
    [
        pytest.param(None, id="no tools"),
        pytest.param([], id="an empty list"),
        pytest.param([{"type": "web_search_20250305", "name": "web_search"}], id="none left"),
    ],
)
@pytest.mark.parametrize("kind", ["auto", "any", "none"])
def test_choice_needs_tools(tools, kind):
    choice = {"type": kind, "disable_parallel_tool_use": True}
    outcome = ask(tools=tools, tool_choice=choice)
    assert not {"tool_choice", "parallel_tool_calls", "tools"} & outcome.body.keys()


@pytest.mark.parametrize(
    ("names", "choice", "sent_choice", "words"),
    [
        pytest.param(("auto",), ANY, "auto", "calling one of the tools", id="any, only auto known"),
        pytest.param(("auto",), READ, "auto", "calling the tool Read", id="tool, only auto known"),
        pytest.param(("auto", "none"), ANY, "auto", "one of the tools", id="any without required"),
        pytest.param((), ANY, None, "calling one of the tools", id="nothing known"),
        pytest.param(("auto",), {"type": "auto"}, "auto", "", id="auto needs no instruction"),
        pytest.param((), {"type": "auto"}, None, "", id="auto is the default anyway"),
    ],
)
def test_an_instruction_replaces_unsupported_choices(names, choice, sent_choice, words):
    outcome = ask(
        tools=[tool("Read")], tool_choice=choice, system="prompt", to=target(tool_choices=names)
    )
    assert outcome.body.get("tool_choice") == sent_choice
    assert words in outcome.prompt
    assert outcome.prompt.startswith("prompt")


def test_a_named_tool_is_forced_by_sending_only_that_tool():
    choices = ("auto", "required", "none")
    outcome = ask(
        tools=[tool("Bash"), tool("Read"), tool("Edit")],
        tool_choice=READ,
        to=target(tool_choices=choices),
    )
    assert outcome.body["tool_choice"] == "required"
    assert [each["function"]["name"] for each in outcome.body["tools"]] == ["Read"]


THINKS = {"reasoning": "thinking_type", "forced_choice_with_thinking": False}


@pytest.mark.parametrize("choice", [ANY, READ])
@pytest.mark.parametrize(
    ("quirks", "thinking", "is_forced", "words"),
    [
        pytest.param(THINKS, None, True, "", id="default thinking is disabled"),
        pytest.param(THINKS, {"type": "disabled"}, True, "", id="disabled thinking"),
        pytest.param(
            THINKS, {"type": "adaptive"}, False, "Answer by calling", id="requested thinking stays"
        ),
        pytest.param(
            {**THINKS, "always_reasons": True}, None, False, "Answer by calling", id="always"
        ),
        pytest.param(
            {**THINKS, "reasoning": "none"}, None, True, "", id="a model without thinking"
        ),
        pytest.param({"reasoning": "thinking_type"}, None, True, "", id="no conflict"),
    ],
)
def test_a_forced_choice_excludes_thinking(choice, quirks, thinking, is_forced, words):
    fields = {} if thinking is None else {"thinking": thinking}
    outcome = ask(
        tools=[tool("Read")], tool_choice=choice, system="Act.", to=target(**quirks), **fields
    )
    assert (outcome.body.get("tool_choice") not in ("auto", None)) is is_forced
    assert words in outcome.prompt
    is_disabled = outcome.body.get("thinking") == {"type": "disabled"}
    assert is_disabled is (is_forced and quirks is THINKS)


def test_the_instruction_contains_the_sent_name():
    name = "mcp__" + "x" * 80
    outcome = ask(
        tools=[tool(name)],
        tool_choice={"type": "tool", "name": name},
        to=target(tool_choices=("auto",)),
    )
    assert outcome.body["tools"][0]["function"]["name"] in outcome.prompt


def test_a_chosen_tool_has_its_sent_name():
    name = "mcp__" + "x" * 80
    outcome = ask(tools=[tool(name)], tool_choice={"type": "tool", "name": name})
    chosen = outcome.body["tool_choice"]["function"]["name"]
    assert chosen == outcome.body["tools"][0]["function"]["name"] != name


def test_another_value_for_required():
    outcome = ask(tools=[tool()], tool_choice=ANY, to=target(required_word="any"))
    assert outcome.body["tool_choice"] == "any"


def test_tools_are_not_sent_if_none_is_unsupported():
    outcome = ask(
        user("a"),
        assistant(use("t")),
        user(result("t")),
        tools=[tool()],
        tool_choice={"type": "none"},
        to=target(tool_choices=("auto",), tool_stream=True),
        stream=True,
    )
    assert not {"tools", "tool_choice", "tool_stream"} & outcome.body.keys()
    assert outcome.roles == "user assistant tool"


@pytest.mark.parametrize("kind", ["auto", "any", "tool"])
def test_parallel_calls_are_disabled(kind):
    choice = {"type": kind, "name": "Read", "disable_parallel_tool_use": True}
    assert ask(tools=[tool()], tool_choice=choice).body["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    ("choice", "quirks", "dropped"),
    [
        pytest.param({"disable_parallel_tool_use": False}, {}, (), id="not requested"),
        pytest.param(
            {"disable_parallel_tool_use": True},
            {"parallel_tool_calls": False},
            ("tool_choice.disable_parallel_tool_use",),
            id="refused",
        ),
    ],
)
def test_parallel_calls_are_enabled_by_default(choice, quirks, dropped):
    outcome = ask(tools=[tool()], tool_choice={"type": "auto", **choice}, to=target(**quirks))
    assert "parallel_tool_calls" not in outcome.body
    assert outcome.converted.dropped == dropped


# Conversion happens once.


def test_tools_are_cached_per_dialect():
    settings = tool("f", {"type": "object", "properties": {"a": {"const": "b"}}})
    plain, gemini = converted_tools(settings), converted_tools(settings, schema="gemini")
    assert plain != gemini
    assert converted_tools(settings) == plain
    assert converted_tools(settings, schema="gemini") == gemini


def test_names_and_dropped_paths_of_cached_tools_are_recorded():
    tools = [tool("a.b"), {"type": "web_search_20250305", "name": "web_search"}]
    first, second = ask(tools=tools).converted, ask(tools=tools).converted
    assert first.tool_names == second.tool_names != {}
    assert first.dropped == second.dropped == ("tools.web_search",)


# The cache.


@pytest.mark.parametrize(
    "tools",
    [
        pytest.param(
            lambda n: [tool(f"t{each}", description="x" * 2**18) for each in (n, 2, 3, 4, 5)],
            id="a long list",
        ),
        pytest.param(
            lambda n: [tool("t", {"type": "object", "title": f"{n}" + "x" * 2**20})],
            id="a large schema",
        ),
    ],
)
def test_only_small_tool_lists_are_cached(tools):
    def work():
        for number in range(20):
            ask(tools=tools(number))

    assert kept_by(work) < 2**20
