"""Responses requests as Messages requests."""

from __future__ import annotations

import itertools
import json

import pytest

from ccproxy.convert.common.thinking import Signer
from ccproxy.convert.openai_clients.messages_form import MessagesForm
from ccproxy.convert.openai_clients.sealed_reasoning import ReasoningSeal
from ccproxy.errors import Problem
from ccproxy.protocol.messages import read_request
from ccproxy.protocol.responses_request import read_responses_request
from ccproxy.providers.quirks import Target

SIGNER = Signer(b"key")
CHAT = ReasoningSeal(SIGNER, Target(provider="p", model="m"))
DIRECT = ReasoningSeal(SIGNER, Target(provider="p", model="m", api="messages"))
SIGNED = CHAT.seal_item("x", [])
USER = {"role": "user", "content": "Hi"}


def form(seal=CHAT, *, search=False, **fields):
    request = read_responses_request(json.dumps({"model": "m", "input": "Hi", **fields}).encode())
    return MessagesForm(request, seal=seal, max_tokens=1000, with_search=search)


def converted(seal=CHAT, **fields):
    made = form(seal, **fields)
    read_request(made.body)  # the Messages API accepts it
    return json.loads(made.body)


def call(call_id="c1", **fields):
    item = {"type": "function_call", "call_id": call_id, "name": "f", "arguments": '{"a": 1}'}
    return {**item, **fields}


def output(call_id="c1", **fields):
    item = {"type": "function_call_output", "call_id": call_id, "output": f"of {call_id}"}
    return {**item, **fields}


def reasoning(*texts, encrypted=SIGNED):
    summary = [{"type": "summary_text", "text": text} for text in texts]
    return {"type": "reasoning", "summary": summary, "encrypted_content": encrypted}


def script(messages):
    """Return each message as one line: the role's initial, then its blocks."""
    return [f"{each['role'][0]}: {_blocks(each['content'])}" for each in messages]


def _blocks(blocks):
    return ", ".join(_block(block) for block in blocks)


def _block(block):
    match block["type"]:
        case "text":
            return block["text"]
        case "thinking":
            return f"({block['thinking']})"
        case "tool_use":
            return f"{block['id']} {block['name']} {json.dumps(block['input'])}"
        case "tool_result":
            content = block["content"]
            display = content if isinstance(content, str) else f"[{_blocks(content)}]"
            return f"{block['tool_use_id']} = {display}"
        case kind:
            return kind


ASSISTANT = {"type": "message", "role": "assistant", "content": "Hello"}
PARTS = {"role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]}
REFUSAL = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
CUSTOM = {"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": 'a "b"'}
SHELL = {
    "type": "local_shell_call",
    "call_id": "c1",
    "action": {"type": "exec", "command": ["ls"], "timeout_ms": None, "env": {}},
}
FOUND = {"type": "tool_search_output", "call_id": "c1", "tools": []}
SEARCH = {"type": "tool_search_call", "call_id": "c1", "arguments": {"query": "x"}}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        pytest.param([USER, ASSISTANT, USER], ["u: Hi", "a: Hello", "u: Hi"], id="texts"),
        pytest.param([USER, PARTS, USER], ["u: Hi", "a: Hello", "u: Hi"], id="parts"),
        pytest.param([USER, REFUSAL, USER], ["u: Hi", "a: No", "u: Hi"], id="a refusal is text"),
        pytest.param(
            [{"role": "user", "content": [{"type": "input_text", "text": "Look"}, IMAGE]}],
            ["u: Look, image"],
            id="an image",
        ),
        pytest.param(
            [USER, {"role": "developer", "content": "Now"}, USER],
            ["u: Hi", "s: Now", "u: Hi"],
            id="a later developer message stays in its place",
        ),
        pytest.param(
            [USER, reasoning("A", "B"), ASSISTANT, call(), call("c2"), output("c2"), output()],
            [
                "u: Hi",
                'a: (A\n\nB), Hello, c1 f {"a": 1}, c2 f {"a": 1}',
                "u: c1 = of c1, c2 = of c2",
            ],
            id="one message of the assistant, its results in the order of the calls",
        ),
        pytest.param(
            [USER, call(), output(), call("c2"), output("c2")],
            ["u: Hi", 'a: c1 f {"a": 1}', "u: c1 = of c1", 'a: c2 f {"a": 1}', "u: c2 = of c2"],
            id="calls one after the other",
        ),
        pytest.param(
            [USER, call(), {"role": "developer", "content": "Now"}, output()],
            ["u: Hi", 'a: c1 f {"a": 1}', "u: c1 = of c1", "s: Now"],
            id="a result follows its call, also with others in between",
        ),
        pytest.param(
            [USER, call(), USER],
            ["u: Hi", 'a: c1 f {"a": 1}', "u: c1 = (no output)", "u: Hi"],
            id="a call without a result",
        ),
        pytest.param(
            [USER, output("c9"), output("c8", output=[{"type": "input_text", "text": "x"}])],
            ["u: Hi", "u: Result of an earlier call: of c9", "u: x"],
            id="results without a call are text",
        ),
        pytest.param(
            [USER, call(), output(), call(), output(output="again")],
            ["u: Hi", 'a: c1 f {"a": 1}', "u: c1 = of c1", 'a: c1 f {"a": 1}', "u: c1 = again"],
            id="an ID that is used again",
        ),
        pytest.param(
            [USER, reasoning("A"), USER], ["u: Hi", "u: Hi"], id="reasoning that nothing follows"
        ),
        pytest.param(
            [USER, reasoning("A", encrypted="gAAAA"), ASSISTANT],
            ["u: Hi", "a: (A), Hello"],
            id="the text of foreign reasoning",
        ),
        pytest.param(
            [USER, {"type": "reasoning", "encrypted_content": "gAAAA"}, ASSISTANT],
            ["u: Hi", "a: Hello"],
            id="foreign reasoning without text",
        ),
        pytest.param(
            [USER, call(arguments=""), call("c2", arguments="{"), output(), output("c2")],
            ["u: Hi", 'a: c1 f {}, c2 f {"arguments": "{"}', "u: c1 = of c1, c2 = of c2"],
            id="arguments that are not an object",
        ),
        pytest.param(
            [USER, call("x y"), output("x y")],
            [
                "u: Hi",
                'a: call_887fcea6a80333c6c02ae7e7 f {"a": 1}',
                "u: call_887fcea6a80333c6c02ae7e7 = of x y",
            ],
            id="an ID that the Messages API refuses",
        ),
        pytest.param(
            [USER, call(namespace="mcp__x"), output(output=None)],
            ["u: Hi", 'a: c1 mcp__x__f {"a": 1}', "u: c1 = "],
            id="a namespace",
        ),
        pytest.param(
            [USER, CUSTOM, output(type="custom_tool_call_output", output={"a": 1})],
            ["u: Hi", 'a: c1 patch {"input": "a \\"b\\""}', 'u: c1 = {"a": 1}'],
            id="a custom tool",
        ),
        pytest.param(
            [USER, SHELL, output(type="local_shell_call_output")],
            ["u: Hi", 'a: c1 local_shell {"command": ["ls"]}', "u: c1 = of c1"],
            id="the local shell",
        ),
        pytest.param(
            [USER, {**SHELL, "action": None}],
            ["u: Hi", "a: c1 local_shell {}", "u: c1 = (no output)"],
            id="the local shell without an action",
        ),
        pytest.param(
            [USER, SEARCH, FOUND],
            ["u: Hi", 'a: c1 tool_search {"query": "x"}', "u: c1 = No tool was found."],
            id="a search for tools",
        ),
        pytest.param(
            [USER, {"type": "agent_message", "content": [{"type": "input_text", "text": "Go"}]}],
            ["u: Hi", "u: Go"],
            id="a message of another agent",
        ),
        pytest.param(
            [USER, {"role": "user", "content": [{"type": "input_audio"}]}],
            ["u: Hi"],
            id="a part of an unknown type",
        ),
        pytest.param(
            [{"role": "developer", "content": "Be brief"}],
            ["u: Be brief"],
            id="instructions only",
        ),
        pytest.param([reasoning("A")], ["u: Continue."], id="nothing to answer"),
    ],
)
def test_the_conversation(items, expected):
    assert script(converted(input=items)["messages"]) == expected


def test_a_compaction_of_another_provider_is_reported_to_the_model():
    item = {"type": "compaction", "encrypted_content": "gAAAA"}
    messages = converted(input=[item, USER])["messages"]
    assert "summarized by another provider" in messages[0]["content"][0]["text"]


def test_instructions_and_the_first_developer_messages_are_the_system_prompt():
    items = [{"role": "developer", "content": "B"}, {"role": "system", "content": "C"}, USER]
    system = converted(instructions="A", input=items)["system"]
    assert [block["text"] for block in system] == ["A", "B", "C"]


def test_the_conversion_only_appends():
    items = [
        USER,
        reasoning("A"),
        ASSISTANT,
        call(),
        output(),
        PARTS,
        USER,
        call("c2"),
        output("c2"),
    ]
    ends = [1, 5, 6, 7, 9]
    requests = [converted(input=items[:end])["messages"] for end in ends]
    for shorter, longer in itertools.pairwise(requests):
        assert longer[: len(shorter)] == shorter


def test_an_item_reference_is_refused():
    with pytest.raises(Problem, match=r"input\.1: this proxy stores no items"):
        form(input=[USER, {"type": "item_reference", "id": "msg_1"}])


def test_omitted_fields_are_reported():
    made = form(
        input=[USER, {"type": "web_search_call"}, {"role": "user", "content": [{"type": "x"}]}],
        tools=[{"type": "file_search"}],
        text={"verbosity": "low"},
    )
    expected = ("input.web_search_call", "input.content.x", "text.verbosity", "tools.file_search")
    assert made.dropped == expected


FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}
OTHER = {"type": "custom", "name": "g"}
FORMAT = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, {"max_tokens": 1000, "model": "m"}, id="the default limit"),
        pytest.param({"max_output_tokens": 7}, {"max_tokens": 7}, id="the client's limit"),
        pytest.param(
            {"stream": True, "temperature": 0.5, "top_p": 0.1},
            {"stream": True, "temperature": 0.5, "top_p": 0.1},
            id="parameters",
        ),
        pytest.param(
            {"prompt_cache_key": "s"}, {"metadata": {"user_id": "s"}}, id="the session's cache"
        ),
        pytest.param({"user": "u"}, {"metadata": {"user_id": "u"}}, id="the user"),
        pytest.param({"reasoning": {}}, {"thinking": None}, id="no preference for reasoning"),
        pytest.param(
            {"reasoning": {"effort": "none"}}, {"thinking": {"type": "disabled"}}, id="no reasoning"
        ),
        pytest.param(
            {"reasoning": {"summary": "auto"}},
            {"thinking": {"type": "adaptive"}, "output_config": None},
            id="a summary",
        ),
        pytest.param(
            {"reasoning": {"effort": "minimal"}},
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
            id="minimal effort",
        ),
        pytest.param(
            {"reasoning": {"effort": "xhigh"}, "text": {"format": FORMAT}},
            {
                "output_config": {
                    "format": {"type": "json_schema", "schema": {"type": "object"}},
                    "effort": "xhigh",
                }
            },
            id="effort and format",
        ),
        pytest.param(
            {
                "reasoning": {"effort": "low"},
                "input": [
                    USER,
                    {"type": "configuration_update", "reasoning": {"effort": "high"}},
                    {"type": "configuration_update", "reasoning": {}},
                ],
            },
            {"output_config": {"effort": "high"}},
            id="effort that changes in the conversation",
        ),
        pytest.param(
            {"text": {"format": {"type": "json_object"}}},
            {"system": [{"type": "text", "text": "Answer with one JSON object and nothing else."}]},
            id="any JSON object",
        ),
        pytest.param({"text": {"format": {"type": "text"}}}, {"output_config": None}, id="text"),
        pytest.param({"tool_choice": "required"}, {"tool_choice": None}, id="no tools"),
        pytest.param(
            {"tools": [FUNCTION], "tool_choice": "required"},
            {"tool_choice": {"type": "any"}},
            id="any tool",
        ),
        pytest.param(
            {"tools": [FUNCTION], "tool_choice": "none"},
            {"tool_choice": {"type": "none"}},
            id="no tool",
        ),
        pytest.param(
            {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "f"}},
            {"tool_choice": {"type": "tool", "name": "f"}},
            id="one tool",
        ),
        pytest.param(
            {"tools": [{"type": "local_shell"}], "tool_choice": {"type": "local_shell"}},
            {"tool_choice": {"type": "tool", "name": "local_shell"}},
            id="the shell",
        ),
        pytest.param(
            {"tools": [FUNCTION], "tool_choice": {"type": "mcp"}},
            {"tool_choice": None},
            id="a hosted tool that is not sent",
        ),
        pytest.param(
            {"tools": [FUNCTION], "parallel_tool_calls": False},
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            id="one call at a time",
        ),
    ],
)
def test_fields(fields, expected):
    made = converted(**fields)
    assert {name: made.get(name) for name in expected} == expected


def test_the_web_search_can_be_chosen_if_the_provider_has_one():
    search = {"type": "web_search_preview"}
    body = form(search=True, tools=[{"type": "web_search"}], tool_choice=search).body
    assert json.loads(body)["tool_choice"] == {"type": "tool", "name": "web_search"}


def test_only_the_allowed_tools_are_sent():
    choice = {"type": "allowed_tools", "mode": "required", "tools": [OTHER]}
    made = converted(tools=[FUNCTION, OTHER], tool_choice=choice)
    assert [tool["name"] for tool in made["tools"]] == ["g"]
    assert made["tool_choice"] == {"type": "any"}


def test_a_choice_between_no_tools_is_omitted():
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "file_search"}]}
    made = converted(tools=[FUNCTION], tool_choice=choice)
    assert made.keys().isdisjoint(("tools", "tool_choice"))


def test_the_choice_of_no_tool_has_no_field_for_parallel_calls():
    """The API refuses the field, and direct mode would then omit every tool_choice."""
    made = converted(tools=[FUNCTION], tool_choice="none", parallel_tool_calls=False)
    assert made["tool_choice"] == {"type": "none"}


def test_tools_that_are_added_later():
    items = [{"type": "additional_tools", "tools": [OTHER]}, USER]
    items += [SEARCH, {**FOUND, "tools": [{**FUNCTION, "name": "h"}]}]
    made = converted(tools=[FUNCTION], input=items)
    assert [tool["name"] for tool in made["tools"]] == ["f", "g", "h"]
    assert made["messages"][-1]["content"][0]["content"] == "Tools loaded: h"


def test_a_direct_provider_gets_its_own_thinking_only():
    own = reasoning("A", encrypted=DIRECT.seal_thinking("sig"))
    hidden = {"type": "reasoning", "encrypted_content": DIRECT.seal_redacted("data")}
    items = [USER, own, hidden, reasoning("B", encrypted="gAAAA"), ASSISTANT]
    blocks = converted(DIRECT, input=items)["messages"][1]["content"]
    assert blocks[:2] == [
        {"type": "thinking", "thinking": "A", "signature": "sig"},
        {"type": "redacted_thinking", "data": "data"},
    ]
    assert [block["type"] for block in blocks[2:]] == ["text"]
