"""Tests of the conversion of whole requests."""

from __future__ import annotations

import json
import random

import pytest

from ccproxy.convert.chat.request import to_chat
from ccproxy.errors import Problem
from ccproxy.protocol.messages import read_request
from tests.asking import (
    PNG,
    SIGNER,
    ask,
    assistant,
    encode,
    image,
    request,
    result,
    system,
    target,
    text,
    thinking,
    tool,
    use,
    user,
)
from tests.guard.counts import calls_of

# The body.


def test_the_smallest_request():
    assert ask(user("Hi"), to=target("gpt-4.1")).body == {
        "model": "gpt-4.1",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 1024,
    }


@pytest.mark.parametrize("stream", [True, False, None])
def test_stream(stream):
    outcome = ask(stream=stream)
    assert outcome.converted.stream is outcome.body.get("stream", False) is bool(stream)
    assert outcome.body.get("stream_options") == ({"include_usage": True} if stream else None)


def test_stream_options_are_left_out_if_refused():
    assert "stream_options" not in ask(stream=True, to=target(stream_options=False)).body


def test_chunks_are_not_padded():
    outcome = ask(stream=True, to=target(obfuscation=True))
    assert outcome.body["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert "stream_options" not in ask(to=target(obfuscation=True)).body
    assert (
        "stream_options"
        not in ask(stream=True, to=target(obfuscation=True, stream_options=False)).body
    )


@pytest.mark.parametrize(
    ("stream", "tools", "expected"),
    [
        pytest.param(True, [tool()], True, id="a stream with tools"),
        pytest.param(False, [tool()], None, id="no stream"),
        pytest.param(True, [], None, id="no tools"),
    ],
)
def test_tool_stream(stream, tools, expected):
    outcome = ask(stream=stream, tools=tools, to=target(tool_stream=True))
    assert outcome.body.get("tool_stream") is expected


def test_extra_fields_are_in_every_request():
    extra = {"provider": {"order": ["a"]}, "max_tokens": 7}
    body = ask(to=target(extra_body=extra)).body
    assert body["provider"] == {"order": ["a"]}
    assert body["max_tokens"] == 7


# Dropped fields.


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("context_management", {"edits": []}, id="context_management"),
        pytest.param("safeguards", [{"type": "dangerous_tool_use"}], id="safeguards"),
        pytest.param("service_tier", "auto", id="service_tier"),
        pytest.param("container", "c", id="container"),
        pytest.param("mcp_servers", [{"url": "x"}], id="mcp_servers"),
        pytest.param("speed", "fast", id="speed"),
        pytest.param("inference_geo", "eu", id="inference_geo"),
        pytest.param("betas", ["x"], id="betas"),
        pytest.param("cache_control", {"type": "ephemeral"}, id="cache_control"),
        pytest.param("diagnostics", {"previous_message_id": "m"}, id="diagnostics"),
        pytest.param("fallbacks", 5, id="a value of any type"),
    ],
)
def test_anthropic_only_fields_are_dropped(field, value):
    outcome = ask(**{field: value})
    assert field not in outcome.body
    assert outcome.converted.dropped == (field,)


def test_unknown_fields_are_ignored():
    assert ask(next_years_field={"a": [1]}).body == ask().body


def test_null_fields_are_not_recorded_as_dropped():
    assert ask(context_management=None, service_tier=None).converted.dropped == ()


# A whole turn of Claude Code.

TURN = {
    "model": "claude-opus-5-5",
    "max_tokens": 32000,
    "stream": True,
    "temperature": 1,
    "thinking": {"type": "adaptive", "display": "updates"},
    "output_config": {"effort": "high"},
    "metadata": {"user_id": "u" * 190},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "system": [
        text("x-anthropic-billing-header: cc_version=2.1.240.abc; cc_entrypoint=cli;"),
        text("You are Claude Code.", cache_control={"type": "ephemeral"}),
        text("Env: linux"),
    ],
    "tools": [
        tool("Bash"),
        tool("DeferredToolPlaceholder", defer_loading=True),
        tool("Read", cache_control={"type": "ephemeral"}),
        tool("mcp__plugin__" + "take_a_screenshot_" * 4, defer_loading=True),
    ],
    "messages": [
        user("<system-reminder>ctx</system-reminder>", text("fix", cache_control={})),
        {"role": "system", "content": "Deferred tools: …", "output_config": {"effort": "high"}},
        assistant(
            thinking("look first"),
            "I'll look.",
            use("toolu_A", "Read", file_path="/a.py"),
            use("toolu_B", "mcp__plugin__" + "take_a_screenshot_" * 4),
        ),
        user(
            result("toolu_B", [text("page"), image()]),
            result("toolu_A", "     1→print(1)", cache_control={"type": "ephemeral"}),
            "<system-reminder>todo</system-reminder>",
        ),
        assistant(thinking("now run"), use("toolu_C", "Bash", command="pytest -q")),
        user(result("toolu_C", "2 failed", is_error=True)),
        {"role": "system", "content": [text("The date changed.")]},
    ],
}

SHAPES = [
    pytest.param({}, id="plain"),
    pytest.param(
        {"max_tokens_field": "max_completion_tokens", "sampling": False, "tool_ids": "forty"},
        id="gpt",
    ),
    pytest.param(
        {
            "reasoning": "thinking_type",
            "history": "reasoning_content",
            "history_required": True,
            "images": False,
            "flat_text": True,
        },
        id="deepseek",
    ),
    pytest.param(
        {
            "system_messages": "first",
            "user_after_tool": False,
            "tool_ids": "nine",
            "schema": "no_meta",
            "stream_options": False,
            "prefill": "prefix",
        },
        id="mistral",
    ),
    pytest.param({"schema": "gemini", "thought_signatures": True}, id="gemini"),
    pytest.param(
        {
            "reasoning": "minimax",
            "reasoning_split": True,
            "history": "reasoning_details",
            "temperature_range": (0.01, 1.0),
        },
        id="minimax",
    ),
    pytest.param(
        {"reasoning": "openrouter", "cache_control": True, "top_k": True}, id="openrouter"
    ),
    pytest.param({"reasoning": "enable_thinking", "history": "think_tags"}, id="qwen"),
    pytest.param({"tool_choices": ("auto",), "tool_stream": True}, id="glm"),
]


def turn(**quirks):
    fields = {key: value for key, value in TURN.items() if key not in ("model", "messages")}
    return ask(*TURN["messages"], to=target(**quirks), **fields)


@pytest.mark.parametrize("quirks", SHAPES)
def test_a_whole_turn(quirks):
    outcome = turn(**quirks)
    dump = json.dumps(outcome.body, ensure_ascii=False)
    assert outcome.messages[0]["role"] == "system"
    assert "x-anthropic" not in dump
    assert "EpAbForeign" not in dump
    assert "2 failed" in dump
    assert "<system-reminder>todo</system-reminder>" in dump
    assert "The date changed." in dump
    assert len(outcome.body["tools"]) == 3
    (renamed,) = outcome.converted.tool_names
    assert outcome.body["tools"][2]["function"]["name"] == renamed
    first = next(message for message in outcome.messages if message["role"] == "assistant")
    assert first["tool_calls"][1]["function"]["name"] == renamed
    assert outcome.converted.known_ids == {"toolu_A", "toolu_B", "toolu_C"}
    assert "context_management" in outcome.converted.dropped
    assert "tools.DeferredToolPlaceholder" in outcome.converted.dropped


def test_the_order_of_a_whole_turn():
    outcome = turn()
    assert outcome.roles == ("system user system assistant tool tool user assistant tool system")
    assert outcome.messages[6]["content"][0]["image_url"]["url"].endswith(PNG)


@pytest.mark.parametrize("quirks", SHAPES)
def test_the_same_request_gives_the_same_bytes(quirks):
    assert turn(**quirks).converted.body == turn(**quirks).converted.body


# Invariants.


def test_a_request_is_not_changed_by_its_conversion():
    read = read_request(encode(TURN))
    bodies = [to_chat(read, target(), signer=SIGNER).body for _ in range(2)]
    assert bodies[0] == bodies[1]


def test_a_lone_surrogate_does_not_reach_the_provider():
    raw = rb'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"cut \ud83d end"}]}'
    body = to_chat(read_request(raw), target(), signer=SIGNER).body
    assert json.loads(body)["messages"][0]["content"] == "cut \ufffd end"


@pytest.mark.parametrize(
    "field",
    [
        pytest.param('"tools":[{"name":"f","input_schema":{"a":%s}}]', id="schema"),
        pytest.param(
            '"output_config":{"format":{"type":"json_schema","schema":{"a":%s}}}', id="form"
        ),
        pytest.param('"tools":[{"name":"f","input_schema":%s}]', id="schema of lists"),
    ],
)
@pytest.mark.parametrize("depth", [300, 900, 50_000])
def test_deeply_nested_json_raises_only_problems(field, depth):
    bomb = field.replace("%s", '{"properties":{"a":' * depth + "{}" + "}}" * depth)
    raw = f'{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"a"}}],{bomb}}}'
    try:
        read = read_request(raw.encode())
        converted = to_chat(read, target(schema="gemini"), signer=SIGNER)
    except Problem as problem:
        complaint = problem.message
    else:
        complaint = ""
        assert json.loads(converted.body)["model"] == "m"
    assert complaint == "" or "nested too deeply" in complaint


@pytest.mark.parametrize(
    "number",
    [
        pytest.param("1" * 400, id="long"),
        pytest.param("-1" + "0" * 30, id="negative"),
        pytest.param("1.5e300", id="great"),
        pytest.param("1e-999", id="tiny"),
    ],
)
def test_numbers_of_any_size_in_arguments_are_copied(number):
    raw = (
        '{"model":"m","max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"tool_use",'
        f'"id":"t","name":"f","input":{{"n":{number}}}}}]}}]}}'
    )
    outgoing = json.loads(to_chat(read_request(raw.encode()), target(), signer=SIGNER).body)
    assert outgoing["messages"][0]["tool_calls"][0]["function"]["arguments"] == f'{{"n":{number}}}'


def long_session(size):
    """Return a body like Claude Code's after some turns: 20 tools, 60 messages, *size* bytes."""
    dice = random.Random(7)
    words = 'def class "path" return\n  naïve → {"x": 1} read the file\t' * 4

    def prose(length):
        start = dice.randrange(100)
        return (words * (length // len(words) + 2))[start : start + length]

    properties = {f"p{i}": {"type": "string", "description": prose(100)} for i in range(6)}
    schema = {"$schema": "x", "type": "object", "properties": properties}
    tools = [{**tool(f"Tool{i}", schema), "description": prose(1500)} for i in range(20)]
    per = max(200, (size - 65_000) // 60)
    turns = []
    for i in range(29):
        turns.append(assistant(prose(200), use(f"toolu_{i:022}", "Edit", old=prose(per // 2))))
        turns.append(user(result(f"toolu_{i:022}", prose(per) if i % 2 else [text(prose(per))])))
    system = [text(prose(200)), text(prose(14_000))]
    return request(user(prose(400)), *turns, user("continue"), system=system, tools=tools)


def test_the_calls_for_a_session_do_not_grow_with_its_texts():
    short, long = (encode(long_session(size)) for size in (148_000, 600_000))
    requests = [read_request(body) for body in (short, long)]
    to_chat(requests[0], target(), signer=SIGNER)
    calls = [
        calls_of(lambda request=request: to_chat(request, target(), signer=SIGNER))
        for request in requests
    ]
    assert len(long) > 0.85 * 600_000
    assert calls[1] <= calls[0] + 10
    assert calls[0] < 2_200


# Headers and the prompt cache.

COPILOT = {"vision_header": "Copilot-Vision-Request", "initiator_header": "X-Initiator"}
TOOL_TURN = [user("go"), assistant(use("t1")), user(result("t1", "x"))]


@pytest.mark.parametrize(
    ("messages", "initiator"),
    [
        pytest.param([user("go")], "user", id="the user's prompt"),
        pytest.param([user("go"), system("now")], "user", id="a system message after it"),
        pytest.param(TOOL_TURN, "agent", id="a tool result"),
        pytest.param([*TOOL_TURN, assistant("ok"), user("next")], "user", id="the next prompt"),
        pytest.param([user("go"), assistant("{")], "agent", id="a prefill"),
    ],
)
def test_the_initiator_is_the_user_only_for_the_users_own_text(messages, initiator):
    outcome = ask(*messages, to=target(**COPILOT))
    assert outcome.converted.headers == {"X-Initiator": initiator}


@pytest.mark.parametrize(
    ("messages", "is_sent"),
    [
        pytest.param([user("a", image())], True, id="an image"),
        pytest.param(
            [user("a"), assistant(use("t1")), user(result("t1", [image()]))], True, id="in a result"
        ),
        pytest.param([user('{"type":"image_url"')], False, id="a text about images"),
    ],
)
def test_images_need_a_header_at_some_providers(messages, is_sent):
    headers = ask(*messages, to=target(**COPILOT)).converted.headers
    assert (headers.get("Copilot-Vision-Request") == "true") is is_sent
    assert ask(*messages).converted.headers == {}


def test_a_provider_that_routes_by_session_gets_its_hash_in_a_header():
    to = target(session_header="x-session")
    headers = ask(metadata={"user_id": "user_1_session_2"}, to=to).converted.headers
    again = ask(user("b"), metadata={"user_id": "user_1_session_2"}, to=to).converted.headers
    assert headers == again
    assert len(headers["x-session"]) == 32
    assert ask(to=to).converted.headers == {}


def test_the_cache_key_is_that_of_the_session():
    def key(user_id):
        body = ask(metadata={"user_id": user_id}, to=target(cache_key=True)).body
        return body["prompt_cache_key"]

    one = key('{"device_id":"d","session_id":"s1"}')
    assert one == key('{"session_id": "s1", "device_id": "other"}')
    assert one != key('{"device_id":"d","session_id":"s2"}')
    assert key("user_ab_account__session_11-22") == key("user_cd_account__session_11-22")
    assert len(one) <= 64
    assert "s1" not in one
    assert "prompt_cache_key" not in ask(metadata={"user_id": "x"}).body


def test_a_refused_field_that_is_absent_is_not_reported():
    converted = ask(user("Hi"), to=target(refused_fields=("user", "stop"))).converted
    assert converted.dropped == ()
