"""Tests of refusals that a worker remembers, and of quirks that avoid them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ccproxy.convert.common.refused_features import (
    MAX_OPAQUE,
    LearnedRefusals,
    adapted,
    refused_features,
)
from ccproxy.errors import ProviderRefusal
from ccproxy.providers.quirks import Quirks
from tests.asking import ask, assistant, image, result, target, thinking, tool, use, user

SCHEMA = {"type": "json_schema", "schema": {"type": "object", "properties": {}}}
FIELDS = {
    "model": "m",
    "messages": [],
    "max_tokens": 1,
    "stream": True,
    "stream_options": {"include_usage": True},
    "reasoning_effort": "xhigh",
    "prompt_cache_key": "k",
    "parallel_tool_calls": False,
    "response_format": {},
    "tool_choice": "required",
    "temperature": 1,
    "stop": ["x"],
    "user": "u",
    "thinking": {"type": "enabled"},
}


def features(text, *, status=400, parameter="", quirks=None, **fields):
    refusal = ProviderRefusal(status=400, text=text, codes=frozenset(), parameter=parameter)
    body = json.dumps({**FIELDS, **fields}).encode()
    return refused_features(status, refusal, body, quirks or Quirks(history="reasoning_content"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Unrecognized request argument supplied: reasoning_effort", "reasoning_effort"),
        ("Unsupported parameter: 'prompt_cache_key' is not supported", "prompt_cache_key"),
        ("stream_options: Extra inputs are not permitted", "stream_options"),
        (
            "[{'loc': ('body', 'parallel_tool_calls')}] extra fields not permitted",
            "parallel_tool_calls",
        ),
        ("property 'thinking' is unsupported", "thinking"),
        ("'response_format' is not supported by this model", "response_format"),
        ("This model does not support parameter `stop`", "stop"),
        ("Invalid tool_choice: only auto is supported", "tool_choice"),
        ("messages.1.reasoning_content: Extra inputs are not permitted", "thinking_history"),
        ("'messages.2' : property 'reasoning_content' is unsupported", "thinking_history"),
        ("tool_choice 'specified' is incompatible with thinking", "forced_choice_with_thinking"),
        ("'max_tokens' is not supported. Use 'max_completion_tokens' instead.", "max_tokens"),
        ("This response_format json_schema is not supported, use json_object", "json_schema"),
        (
            "Invalid value: 'reasoning_effort'. Supported values are: 'low', 'medium' and 'high'.",
            "efforts=low,medium,high",
        ),
        ("the user must stop the stream, which is invalid", None),
        ("The messages are invalid", None),
        ("Something else went wrong with reasoning_effort", None),
        ("model: not supported", None),
    ],
)
def test_a_refusal_names_a_feature(text, expected):
    assert features(text) == (frozenset() if expected is None else {expected})


def test_the_parameter_of_the_error_takes_precedence():
    assert features("Invalid value", parameter="thinking.type") == {"thinking"}


@pytest.mark.parametrize(
    "text",
    [
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Jinja Exception: After the optional system message, roles must alternate",
    ],
)
def test_templates_with_alternating_roles_are_recognized_in_server_errors(text):
    assert features(text, status=500) == {"message_order"}


@pytest.mark.parametrize("status", [401, 403, 404, 429, 502, 503])
def test_other_statuses_name_nothing(status):
    assert features("reasoning_effort is not supported", status=status) == frozenset()


def test_a_feature_that_is_avoided_already_is_not_named_again():
    quirks = Quirks(images=False)
    assert features("image input is not supported", quirks=quirks) == frozenset()


def test_reading_a_refusal_is_bounded():
    assert features("'a" * 1_000_000 + "unsupported") == frozenset()


def converted_with(learned, *messages, quirks=None, **fields):
    to = adapted(target(**(quirks or {})), learned)
    return ask(*messages, to=to, **fields)


def learned_from(*names):
    learned = LearnedRefusals()
    learned.add("chat", "m", names)
    return learned


def test_a_refused_image_becomes_a_note():
    outcome = converted_with(learned_from("images"), user("Look", image()))
    assert "image omitted" in json.dumps(outcome.messages)


def test_refused_thinking_in_the_history_is_dropped():
    turns = [user("a"), assistant(thinking("Hm"), use("t1")), user(result("t1"))]
    quirks = {"history": "reasoning_content", "history_required": True}
    assert "Hm" in json.dumps(converted_with(LearnedRefusals(), *turns, quirks=quirks).messages)
    outcome = converted_with(learned_from("thinking_history"), *turns, quirks=quirks)
    assert "reasoning_content" not in json.dumps(outcome.messages)


def test_a_refused_format_becomes_an_instruction():
    config = {"output_config": {"format": SCHEMA}}
    learned = learned_from("json_schema")
    assert converted_with(learned, **config).body["response_format"] == {"type": "json_object"}
    learned.add("chat", "m", ["response_format"])
    outcome = converted_with(learned, **config)
    assert "response_format" not in outcome.body
    assert "JSON schema" in outcome.prompt


def test_supported_efforts_replace_the_refused_one():
    outcome = converted_with(
        learned_from("efforts=low,medium"),
        quirks={"reasoning": "explicit_effort"},
        output_config={"effort": "max"},
    )
    assert outcome.body["reasoning_effort"] == "medium"


@pytest.mark.parametrize(
    ("feature", "field"),
    [
        ("reasoning_effort", "reasoning_effort"),
        ("parallel_tool_calls", "parallel_tool_calls"),
        ("stream_options", "stream_options"),
        ("tool_choice", "tool_choice"),
        ("prompt_cache_key", "prompt_cache_key"),
    ],
)
def test_a_refused_field_is_not_sent(feature, field):
    fields = {
        "stream": True,
        "tools": [tool()],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "output_config": {"effort": "high"},
        "metadata": {"user_id": "x"},
    }
    quirks = {"reasoning": "explicit_effort", "cache_key": True}
    assert field in converted_with(LearnedRefusals(), quirks=quirks, **fields).body
    outcome = converted_with(learned_from(feature), quirks=quirks, **fields)
    assert field not in outcome.body


def test_facts_apply_to_their_model_and_dialect():
    learned = learned_from("images")
    assert adapted(target("n"), learned) == target("n")
    assert learned.features("responses", "m") == ()


def test_a_measured_quirk_replaces_a_refusal():
    learned = LearnedRefusals()
    learned.add("chat", "m", ("tool_choice", "stop", "logprobs"))
    learned.add("chat", "other", ("stop",))
    learned.remove_measured("chat", "m", {"tool_choices", "max_tools"})
    assert set(learned.features("chat", "m")) == {"stop", "logprobs"}
    assert set(learned.features("chat", "other")) == {"stop"}


def test_facts_are_exported_and_restored():
    learned = learned_from("images", "thinking")
    learned.add_opaque(["a", "b"])
    learned.set_api("n", "responses")
    again = LearnedRefusals()
    again.restore(json.loads(json.dumps(learned.export())))
    assert again.export() == learned.export()
    assert again.api("n") == "responses"
    again.forget()
    assert again.export() == LearnedRefusals().export()


@pytest.mark.parametrize("data", [[], {}, {"features": 1, "opaque": [], "apis": {}}])
def test_invalid_data_is_refused(data):
    with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
        LearnedRefusals().restore(data)


def test_everything_is_bounded():
    learned = LearnedRefusals()
    assert not learned.add("chat", "m", [str(number) for number in range(1000)])
    learned.add_opaque(map(str, range(MAX_OPAQUE + 5)))
    assert len(learned.opaque) == MAX_OPAQUE
    models = [f"m{number}" for number in range(300)]
    for model in models:
        learned.add("chat", model, ["images"])
        learned.set_api(model, "responses")
    restored = LearnedRefusals()
    restored.restore(learned.export() | {"apis": dict.fromkeys(models, "responses")})
    for one in (learned, restored):
        assert list(one.export()["features"]["chat"]) == list(one.export()["apis"]) == models[-256:]


def test_the_same_refusal_is_learned_once():
    learned = LearnedRefusals()
    assert learned.add("chat", "m", ["images"])
    assert not learned.add("chat", "m", ["images"])
    assert learned.set_api("m", "responses")
    assert not learned.set_api("m", "responses")


def test_a_model_without_learned_facts_is_not_exported():
    learned = LearnedRefusals()
    assert not learned.add("chat", "m", [])
    assert learned.export()["features"] == {}


def test_fields_are_removed_in_chat_only():
    """Their paths differ in the Responses API, which has its own way to learn them."""
    learned = LearnedRefusals()
    learned.add("chat", "m", ["user", "images"])
    learned.add("responses", "m", ["user", "images"])
    assert adapted(target(), learned).quirks.refused_fields == ("user",)
    assert adapted(replace(target(), api="responses"), learned).quirks.refused_fields == ()
