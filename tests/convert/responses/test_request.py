"""Conversion of whole requests to the Responses API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ccproxy.convert.common.request_cache import ConversationCache
from ccproxy.convert.responses.request import to_responses
from ccproxy.errors import Problem
from ccproxy.protocol.messages import read_request
from ccproxy.providers.quirks import Quirks, Target
from tests.asking import (
    PDF,
    PNG,
    SIGNER,
    assistant,
    encode,
    image,
    pdf,
    request,
    result,
    system,
    text,
    thinking,
    tool,
    use,
    user,
)
from tests.responses_rules import violations

REASONING: dict[str, Any] = {
    "tool_ids": "responses",
    "sampling": False,
    "reasoning": "effort",
    "efforts": ("none", "low", "medium", "high", "xhigh"),
    "encrypted_reasoning": True,
    "reasoning_summary": True,
    "output_parts": True,
    "pdf": "file",
}


def target(model="up-1", **quirks):
    return Target(
        provider="acme",
        model=model,
        api="responses",
        endpoint="e1",
        quirks=Quirks(**{**REASONING, **quirks}),
    )


def ask(*messages, to=None, cache=None, **fields):
    """Convert the request, and check the result against the rules of the API."""
    read = read_request(encode(request(*messages, **fields)))
    converted = to_responses(read, to or target(), signer=SIGNER, cache=cache)
    body = json.loads(converted.body)
    assert violations(body) == []
    return body


def items(*messages, **fields):
    return ask(*messages, **fields)["input"]


def message(role, content):
    return {"type": "message", "role": role, "content": content}


def call(call_id, name="Read", **arguments):
    text = json.dumps(arguments, separators=(",", ":"))
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": text}


def output(call_id, content="done"):
    return {"type": "function_call_output", "call_id": call_id, "output": content}


# The body.


def test_the_smallest_request_is_stateless():
    assert ask(user("Hi"), to=target(reasoning="none")) == {
        "model": "up-1",
        "input": [message("user", "Hi")],
        "store": False,
        "max_output_tokens": 1024,
    }


def test_the_system_prompt_is_the_first_item_and_not_instructions():
    body = ask(user("Hi"), system=[text("Be brief."), text("Be kind.")])
    assert body["input"][0] == message("system", "Be brief.\n\nBe kind.")
    assert "instructions" not in body
    developer = ask(user("Hi"), system="Be brief.", to=target(system_role="developer"))
    assert developer["input"][0]["role"] == "developer"


def test_claude_codes_attribution_is_left_out():
    prompt = [text("x-anthropic-billing-header: cc_version=2; cch=1;"), text("Rules.")]
    assert items(user("Hi"), system=prompt)[0] == message("system", "Rules.")


@pytest.mark.parametrize(("max_tokens", "expected"), [(32_000, 32_000), (16, 16), (1, 16)])
def test_the_limit_is_at_least_the_minimum_of_the_api(max_tokens, expected):
    assert ask(user("Hi"), max_tokens=max_tokens)["max_output_tokens"] == expected


def test_unsupported_fields_are_left_out():
    body = ask(
        user("Hi"),
        stop_sequences=["END"],
        top_k=4,
        temperature=0.2,
        metadata={"user_id": "u" * 200},
        context_management={"edits": []},
        service_tier="auto",
    )
    assert not body.keys() & {"stop", "top_k", "temperature", "metadata", "service_tier"}


def test_sampling_reaches_models_that_do_not_reason():
    body = ask(user("Hi"), temperature=0.2, top_p=0.9, to=target(reasoning="none", sampling=True))
    assert (body["temperature"], body["top_p"]) == (0.2, 0.9)
    assert "include" not in body, "encrypted reasoning is refused by models without any"


@pytest.mark.parametrize(
    ("thinking", "effort", "reasoning"),
    [
        (None, None, None),
        ({"type": "adaptive"}, "high", {"effort": "high", "summary": "auto"}),
        ({"type": "adaptive"}, "max", {"effort": "xhigh", "summary": "auto"}),
        ({"type": "adaptive"}, None, {"effort": "medium", "summary": "auto"}),
        ({"type": "disabled"}, None, {"effort": "none"}),
        ({"type": "enabled", "budget_tokens": 2_000}, None, {"effort": "low", "summary": "auto"}),
        ({"type": "enabled", "budget_tokens": 31_999}, None, {"effort": "high", "summary": "auto"}),
        (None, "low", {"effort": "low"}),
    ],
)
def test_effort(thinking, effort, reasoning):
    fields = {} if thinking is None else {"thinking": thinking}
    if effort:
        fields["output_config"] = {"effort": effort}
    body = ask(user("Hi"), **fields)
    assert body.get("reasoning") == reasoning
    assert body["include"] == ["reasoning.encrypted_content"]


def test_a_model_that_cannot_stop_reasoning_gets_its_lowest_effort():
    to = target(efforts=("medium", "high"), always_reasons=True)
    assert ask(user("Hi"), to=to, thinking={"type": "disabled"})["reasoning"] == {
        "effort": "medium"
    }


def test_the_effort_of_a_later_message_applies():
    late = {**system("Be brief."), "output_config": {"effort": "low"}}
    body = ask(user("Hi"), late, thinking={"type": "adaptive"}, output_config={"effort": "high"})
    assert body["reasoning"]["effort"] == "low"


def test_a_schema_for_the_answer():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    body = ask(user("Hi"), output_config={"format": {"type": "json_schema", "schema": schema}})
    assert body["text"] == {
        "format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": False}
    }


def test_the_cache_key_is_a_hash_of_the_session():
    def key(user_id):
        to = target(cache_key=True)
        return ask(user("Hi"), to=to, metadata={"user_id": user_id})["prompt_cache_key"]

    session = "0d1f0b7e-1111-2222-3333-444455556666"
    new = json.dumps({"device_id": "d" * 64, "account_uuid": "", "session_id": session})
    other = new.replace("0d1f", "ffff")
    assert key(new) == key(new.replace("ddd", "eee"))
    assert key(new) != key(other)
    assert session not in key(new)
    assert key(f"user_{'d' * 64}_account__session_{session}") == key(new)


def test_the_auto_mode_classifier_gets_no_reasoning():
    fields = {"stop_sequences": ["</block>"], "max_tokens": 64}
    assert ask(user("Hi"), **fields)["reasoning"] == {"effort": "none"}
    always = ask(user("Hi"), to=target(efforts=("low",), always_reasons=True), **fields)
    assert always["reasoning"] == {"effort": "low"}
    assert always["max_output_tokens"] >= 4_096


@pytest.mark.parametrize(
    ("efforts", "sent"),
    [
        pytest.param(("none", "default"), {"effort": "none"}, id="Groq's Qwen"),
        pytest.param(("high", "low"), {"effort": "low"}, id="in any order"),
        pytest.param(("default",), None, id="only the default"),
        pytest.param((), None, id="none"),
    ],
)
def test_disabled_thinking_is_the_lowest_effort(efforts, sent):
    body = ask(user("Hi"), to=target(efforts=efforts), thinking={"type": "disabled"})
    assert body.get("reasoning") == sent


# Content.


def test_an_empty_answer_between_a_call_and_its_result():
    use = {"type": "tool_use", "id": "c1", "name": "Read", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "c1", "content": "done"}
    turns = [("user", "Hi"), ("assistant", [use]), ("assistant", []), ("user", [result])]
    sent = items(*({"role": role, "content": content} for role, content in turns))
    assert sent[1:] == [call("c1"), output("c1")]


def test_text_as_a_list_is_the_same_item_as_the_text():
    """Claude Code sends the last message as a list, and earlier ones as text."""
    marked = user(text("Hi", cache_control={"type": "ephemeral"}))
    assert items(marked) == items(user("Hi"))


def test_files_of_a_provider_that_names_them_by_url_in_chat():
    url = {"type": "document", "source": {"type": "url", "url": "https://e.org/a.pdf"}}
    (item,) = items(user(pdf(title="report"), pdf(), url), to=target(pdf="document_url"))
    data = f"data:application/pdf;base64,{PDF}"
    assert item["content"] == [
        {"type": "input_file", "filename": "report.pdf", "file_data": data},
        {"type": "input_file", "filename": "document.pdf", "file_data": data},
        {"type": "input_text", "text": "[document: https://e.org/a.pdf]"},
    ]


def test_images_and_files():
    url = {"type": "image", "source": {"type": "url", "url": "https://e.org/b.png"}}
    (item,) = items(user("Look", image(), url, pdf(title="report")))
    assert item["content"] == [
        {"type": "input_text", "text": "Look"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
        {"type": "input_image", "image_url": "https://e.org/b.png"},
        {
            "type": "input_file",
            "filename": "report.pdf",
            "file_data": f"data:application/pdf;base64,{PDF}",
        },
    ]


def test_the_assistants_text_is_a_string():
    assert items(user("1"), assistant(text("2"), text("3")), user("4"))[1:3] == [
        message("assistant", "2"),
        message("assistant", "3"),
    ]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message_stays_at_its_place_after_the_outputs(role):
    matches = items(
        user("Go"),
        assistant(use("a")),
        system("Be brief."),
        user(result("a")),
        to=target(system_role=role),
    )
    assert matches[1:] == [call("a"), output("a"), message(role, "Be brief.")]


# Calls.


def test_outputs_follow_their_calls_in_the_order_of_the_calls():
    matches = items(
        user("Go"),
        assistant("I look.", use("a", path="x"), use("b", "Bash", command="ls")),
        user("Before", result("b", "B"), result("a", "A"), "after"),
    )
    assert matches[1:6] == [
        message("assistant", "I look."),
        call("a", path="x"),
        call("b", "Bash", command="ls"),
        output("a", "A"),
        output("b", "B"),
    ]
    assert [part["text"] for part in matches[6]["content"]] == ["Before", "after"]


def test_a_call_without_a_result_gets_one_and_a_result_without_a_call_becomes_text():
    matches = items(user("Go"), assistant(use("a")), user(result("lost", "late"), "on"))
    assert matches[1:3] == [call("a"), output("a", "[no result]")]
    assert "late" in matches[3]["content"][0]["text"]


def test_a_failed_result_is_marked():
    matches = items(user("Go"), assistant(use("a")), user(result("a", "exit 2", is_error=True)))
    assert matches[-1] == output("a", "Error: exit 2")


def test_an_image_in_a_result_is_part_of_the_output():
    display = result("a", [text("a picture"), image()])
    matches = items(user("Go"), assistant(use("a")), user(display))
    assert matches[-1]["output"] == [
        {"type": "input_text", "text": "a picture"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
    ]
    failed = items(user("Go"), assistant(use("a")), user({**display, "is_error": True}))
    assert failed[-1]["output"][0]["text"] == "Error: a picture"


def test_an_image_follows_the_output_where_lists_are_refused():
    matches = items(
        user("Go"),
        assistant(use("a")),
        user(result("a", [text("a picture"), image()])),
        to=target(output_parts=False),
    )
    assert matches[2] == output("a", "a picture\n[image follows]")
    assert matches[3]["content"][0]["type"] == "input_image"


@pytest.mark.parametrize("call_id", ["t" * 65, "t" * 80 + "x", "with space", "ü", "srvtoolu:1"])
def test_ids_that_do_not_fit_are_replaced_on_both_sides(call_id):
    twin = call_id + "2"
    matches = items(
        user("Go"),
        assistant(use(call_id), use(twin)),
        user(result(call_id, "1"), result(twin, "2")),
    )
    first, second = (item["call_id"] for item in matches if item["type"] == "function_call")
    assert first != second
    assert matches[-2:] == [output(first, "1"), output(second, "2")]


# Tools.


def test_tools_are_flat_and_not_strict():
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    extras: dict[str, Any] = {"cache_control": {"type": "ephemeral"}, "eager_input_streaming": True}
    (outgoing,) = ask(user("Hi"), tools=[tool(schema=schema, **extras)])["tools"]
    assert outgoing == {
        "type": "function",
        "name": "Read",
        "description": "Read it",
        "parameters": schema,
        "strict": False,
    }
    assert ask(user("Hi"), tools=[tool(strict=True)])["tools"][0]["strict"] is True


def test_the_placeholder_of_tool_search_is_left_out():
    placeholder = tool("DeferredToolPlaceholder", defer_loading=True)
    tools = ask(user("Hi"), tools=[tool(), placeholder, tool("Found", defer_loading=True)])["tools"]
    assert [each["name"] for each in tools] == ["Read", "Found"]


@pytest.mark.parametrize(
    ("choice", "fields"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "Read"}, {"tool_choice": {"type": "function", "name": "Read"}}),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
    ],
)
def test_tool_choice(choice, fields):
    body = ask(user("Hi"), tools=[tool()], tool_choice=choice)
    chosen = {name: body[name] for name in ("tool_choice", "parallel_tool_calls") if name in body}
    assert chosen == fields


SEARCH = {"type": "web_search_20250305", "name": "web_search", "allowed_domains": ["e.org"]}


def test_the_web_search_is_the_providers_own():
    to = target(web_search=True)
    body = ask(user("Hi"), to=to, tools=[{**SEARCH, "user_location": {"city": "Bern"}}])
    assert body["tools"] == [
        {
            "type": "web_search",
            "filters": {"allowed_domains": ["e.org"]},
            "user_location": {"city": "Bern"},
        }
    ]
    assert "web_search_call.action.sources" in body["include"]
    assert "tools" not in ask(user("Hi"), tools=[SEARCH])


@pytest.mark.parametrize(
    ("tools", "forced"),
    [
        ([SEARCH], "required"),
        (
            [tool(), SEARCH],
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]},
        ),
    ],
)
def test_the_web_search_can_be_forced(tools, forced):
    choice = {"type": "tool", "name": "web_search"}
    body = ask(user("Hi"), to=target(web_search=True), tools=tools, tool_choice=choice)
    assert body["tool_choice"] == forced


def test_a_search_of_the_provider_is_not_sent_back():
    use_id = "srvtoolu_ws_1"
    blocks = [
        {"type": "server_tool_use", "id": use_id, "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": use_id, "content": []},
        text("Found."),
    ]
    assert items(user("1"), assistant(*blocks), user("2"))[1:] == [
        message("assistant", "Found."),
        message("user", "2"),
    ]


# Rules about successive requests.

TURNS = [
    user("Go"),
    assistant(thinking("Hm"), text("I look."), use("a", path="x")),
    user(result("a", "A"), "and more"),
    system("Be brief."),
    assistant(use("b"), use("c")),
    user(result("c", "C"), result("b", [text("B"), image()])),
    assistant("Answer."),
    user("Next"),
    assistant(use("d")),
    user(result("d", "D")),
]


@pytest.mark.parametrize("cached", [False, True])
def test_a_request_begins_with_the_input_of_the_one_before(cached):
    cache = ConversationCache() if cached else None
    before: list[Any] = []
    for count in (1, 4, 6, 8, 10):
        matches = items(*TURNS[:count], cache=cache, system="Rules.", tools=[tool()])
        assert matches[: len(before)] == before
        assert matches == items(*TURNS[:count], system="Rules.", tools=[tool()])
        before = matches


def test_phases_follow_from_the_order():
    matches = items(*TURNS[:8], to=target(message_phase=True))
    phases = [item["phase"] for item in matches if item.get("role") == "assistant"]
    assert phases == ["commentary", "final_answer"]


# Rare forms.


def test_schemas_that_are_nested_too_deeply_are_refused():
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(400):
        schema = {"type": "object", "properties": {"a": schema}}
    read = read_request(encode(request(user("Hi"), tools=[tool(schema=schema)])))
    with pytest.raises(Problem, match="nested too deeply"):
        to_responses(read, target(schema="gemini"), signer=SIGNER)


def test_errors_name_the_message():
    with pytest.raises(Problem, match=r"^messages\.1\.content\.0\.text: Field required$"):
        ask(user("Hi"), assistant({"type": "text"}))


def test_a_request_of_system_messages_gets_a_user_message():
    assert items(system("Rules."))[-1]["role"] == "user"


def test_a_system_message_without_text_is_left_out():
    assert items(user("Hi"), system()) == items(user("Hi"))


def test_a_later_system_message_becomes_user_text_where_only_the_first_is_accepted():
    matches = items(user("Hi"), system("Be brief."), to=target(system_messages="first"))
    assert matches[-1] == message("user", "<system-reminder>\nBe brief.\n</system-reminder>")


def test_a_cache_mark_of_the_system_prompt_does_not_change_it():
    marked = text("Rules.", cache_control={"type": "ephemeral"})
    for to in (target(), target(cache_control=True)):
        assert items(user("Hi"), system=[marked], to=to)[0] == message("system", "Rules.")


def test_a_search_of_another_provider_is_sent_as_text():
    foreign = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    output_items = items(user("1"), assistant(foreign, text("Found.")), user("2"))
    assert output_items[1]["content"] == "[used web_search: {}]"
    assert output_items[2]["content"] == "Found."


def test_reasoning_between_a_remark_and_its_call_has_no_phase():
    matches = items(
        user("Go"),
        assistant(text("I look."), use("a")),
        user(result("a", "A")),
        to=target(message_phase=True),
    )
    assert [item.get("phase") for item in matches[1:]] == ["commentary", None, None]


def test_a_stream_is_asked_for_without_padding():
    body = ask(user("Hi"), stream=True, to=target(obfuscation=True))
    assert (body["stream"], body["stream_options"]) == (True, {"include_obfuscation": False})


def test_tools_are_left_out_where_that_is_the_only_way_to_forbid_them():
    to = target(tool_choices=("auto",))
    body = ask(user("Hi"), to=to, tools=[tool()], tool_choice={"type": "none"})
    assert not body.keys() & {"tools", "tool_choice"}


def test_an_image_of_a_failed_tool_is_marked():
    failed = result("a", [image()], is_error=True)
    (mark, picture) = items(user("Go"), assistant(use("a")), user(failed))[-1]["output"]
    assert mark["text"].startswith("Error: ")
    assert picture["type"] == "input_image"


def test_a_result_of_several_texts_is_one_text():
    several = result("a", [text("one"), text("two")])
    matches = items(user("Go"), assistant(use("a")), user(several))
    assert isinstance(matches[-1]["output"], str)


def test_a_large_set_of_tools_is_converted_again_with_the_same_result():
    tools = [
        tool(f"t{number}", {"type": "object", "description": "x" * 9000}) for number in range(120)
    ]
    assert ask(user("Hi"), tools=tools) == ask(user("Hi"), tools=tools)


@pytest.mark.parametrize(
    ("kind", "expected"), [("any", "required"), ("auto", "auto"), ("none", "none")]
)
def test_a_choice_among_searches_only(kind, expected):
    to = target(web_search=True)
    body = ask(user("Hi"), to=to, tools=[SEARCH], tool_choice={"type": kind})
    assert body.get("tool_choice") == expected


def test_strict_tools_stay_strict():
    body = ask(user("Hi"), tools=[{**tool(), "strict": True}])
    assert body["tools"][0]["strict"] is True


def test_a_function_precedes_the_search_of_that_name():
    function = {"name": "web_search", "input_schema": {"type": "object"}}
    body = ask(user("Hi"), to=target(web_search=True), tools=[SEARCH, function])
    assert [tool["type"] for tool in body["tools"]] == ["function"]


def test_a_search_without_domains_has_no_filter():
    search = {"type": "web_search_20250305", "name": "web_search"}
    body = ask(user("Hi"), to=target(web_search=True), tools=[search])
    assert body["tools"] == [{"type": "web_search"}]
