"""Tests of refusals from which direct mode learns."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ccproxy.convert.common.refused_features import MAX_OPAQUE, LearnedRefusals
from ccproxy.convert.direct.learning import Lessons
from ccproxy.errors import Problem
from tests.messages import prompt

FLAGS = {"defer_loading": True, "strict": True}
TOOL = {"name": "Read", "description": "d", "input_schema": {}, **FLAGS}
FIELDS: dict[str, Any] = {
    "context_management": {"edits": []},
    "output_config": {"effort": "low"},
    "thinking": {"type": "adaptive"},
    "safeguards": [],
    "tools": [TOOL],
}


def refused(text, status=400):
    return Problem("invalid_request_error", text, status=status)


def encoded(**fields):
    return json.dumps(prompt(**fields)).encode()


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("context_management: Extra inputs are not permitted", {"context_management"}),
        ("Unknown field: output_config", {"output_config"}),
        ("Unsupported parameter 'safeguards'", {"safeguards"}),
        ("output_config.effort: Extra inputs are not permitted", {"output_config"}),
        ("thinking.type: Input should be 'enabled' or 'disabled'", {"thinking"}),
        (
            "context_management: Extra inputs are not permitted, safeguards: Extra inputs are not "
            "permitted",
            {"context_management", "safeguards"},
        ),
        ("This model does not support output_config with thinking", {"output_config"}),
    ],
)
def test_the_named_field_is_removed_for_this_model(text, missing):
    lessons = Lessons()
    body = encoded(**FIELDS)
    rest = json.loads(lessons.learn(refused(text), body, "m") or b"")
    assert set(prompt(**FIELDS)) - set(rest) == missing
    assert json.loads(lessons.apply(body, "m")) == rest
    assert lessons.apply(body, "other") == body


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(refused("context_management: not permitted", 401), id="not a 400"),
        pytest.param(refused("something is wrong with you"), id="nothing named"),
        pytest.param(refused("messages: not supported"), id="the conversation itself"),
        pytest.param(refused("model: unknown"), id="the model"),
        pytest.param(refused("metadata: not permitted"), id="a field that was not sent"),
        pytest.param(refused("context_management is lovely"), id="a sentence that refuses nothing"),
    ],
)
def test_other_refusals_teach_nothing(problem):
    lessons = Lessons()
    body = encoded(**FIELDS)
    assert lessons.learn(problem, body, "m") is None
    assert lessons.apply(body, "m") == body


def test_a_field_of_a_tool_is_removed_from_all_tools():
    lessons = Lessons()
    body = encoded(tools=[TOOL, {**TOOL, "name": "Write"}])
    problem = refused("tools.0.custom.defer_loading: Extra inputs are not permitted")
    rest = json.loads(lessons.learn(problem, body, "m") or b"")
    assert [sorted(tool) for tool in rest["tools"]] == [
        ["description", "input_schema", "name", "strict"]
    ] * 2
    assert json.loads(lessons.apply(body, "m")) == rest
    plain = encoded()
    assert lessons.apply(plain, "m") == plain


def thought(signature, kind="thinking"):
    field = "signature" if kind == "thinking" else "data"
    return {"type": kind, "thinking": "hm", field: signature}


def conversation(*blocks):
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": list(blocks)},
        {"role": "user", "content": "b"},
    ]
    return json.dumps({**prompt(), "messages": messages}).encode()


TEXT = {"type": "text", "text": "thinking aloud"}
BAD_SIGNATURE = refused("messages.1.content.0: Invalid `signature` in `thinking` block")


@pytest.mark.parametrize("kind", ["thinking", "redacted_thinking"])
def test_foreign_thinking_is_removed_and_own_thinking_kept(kind):
    lessons = Lessons()
    body = conversation(thought("old", kind), TEXT)
    rest = json.loads(lessons.learn(BAD_SIGNATURE, body, "m") or b"")
    assert rest["messages"][1]["content"] == [TEXT]
    later = json.loads(lessons.apply(conversation(thought("old", kind), thought("new")), "other"))
    assert later["messages"][1]["content"] == [thought("new")]


def test_a_turn_with_only_thinking_keeps_its_place():
    rest = json.loads(Lessons().learn(BAD_SIGNATURE, conversation(thought("old")), "m") or b"")
    assert rest["messages"][1]["content"] == [{"type": "text", "text": "(thinking omitted)"}]


def test_own_signatures_are_suspected_first():
    """The session returns to its native endpoint after turns with another provider."""
    lessons = Lessons()
    body = conversation(thought("native"), thought("ccproxy1.AAAA"), TEXT)
    rest = lessons.learn(BAD_SIGNATURE, body, "m") or b""
    assert json.loads(rest)["messages"][1]["content"] == [thought("native"), TEXT]
    again = lessons.learn(BAD_SIGNATURE, rest, "m") or b""
    assert json.loads(again)["messages"][1]["content"] == [TEXT]
    assert lessons.learn(BAD_SIGNATURE, again, "m") is None


def test_a_signature_that_is_known_to_be_foreign_cannot_be_the_reason_again():
    lessons = Lessons()
    body = conversation(thought("old"), TEXT)
    assert lessons.learn(BAD_SIGNATURE, body, "m") is not None
    assert lessons.learn(BAD_SIGNATURE, lessons.apply(body, "m"), "m") is None


def test_the_number_of_remembered_signatures_is_bounded():
    lessons = Lessons()
    many = [thought(f"s{number}") for number in range(MAX_OPAQUE + 5)]
    lessons.learn(BAD_SIGNATURE, conversation(*many), "m")
    stored = json.loads(lessons.apply(conversation(*many), "m"))["messages"][1]["content"]
    assert len(stored) == 5


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"messages":3,"thinking":1}',
        b'{"messages":[3,{"content":[3,{"type":4},"thinking"]}]}',
        b'{"tools":{"a":1}}',
    ],
)
def test_unusual_bodies_do_no_harm(body):
    lessons = Lessons()
    assert lessons.learn(BAD_SIGNATURE, body, "m") is None
    lessons.learn(refused("tools.0.strict: not permitted"), encoded(tools=[TOOL]), "m")
    assert lessons.apply(body, "m") == body


def test_stored_features_never_remove_required_fields():
    learned = LearnedRefusals()
    learned.add("messages", "m", ["messages", "x"])
    assert "messages" in json.loads(Lessons(learned).apply(encoded(), "m"))


# System messages in the conversation.

LATE_SYSTEM = {
    "messages": [
        {"role": "user", "content": "hello"},
        {"role": "system", "content": "The date changed."},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": [{"type": "text", "text": "go on"}]},
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
    ]
}


@pytest.mark.parametrize(
    "text",
    [
        "Jinja Exception: System message must be at the beginning.",
        "messages.1.role: Input should be 'user' or 'assistant'",
        "Only user and assistant roles are supported!",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        'Unexpected role "system"',
    ],
)
def test_late_system_messages_become_reminders_of_the_user(text):
    lessons = Lessons()
    body = encoded(**LATE_SYSTEM)
    rest = json.loads(lessons.learn(refused(text), body, "m") or b"")
    texts = [
        (message["role"], [block["text"] for block in message["content"]])
        for message in rest["messages"]
    ]
    assert texts == [
        ("user", ["hello", "<system-reminder>\nThe date changed.\n</system-reminder>"]),
        ("assistant", ["Hi"]),
        ("user", ["go on", "<system-reminder>\nBe brief.\n</system-reminder>"]),
    ]
    assert json.loads(lessons.apply(body, "m")) == rest
    assert lessons.apply(body, "other") == body


def test_results_precede_a_reminder():
    call = {"type": "tool_use", "id": "t", "name": "Read", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": "text"}
    messages = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": [call]},
        {"role": "system", "content": "The date changed."},
        {"role": "user", "content": [result]},
    ]
    body = encoded(messages=messages)
    rest = json.loads(Lessons().learn(refused('Unexpected role "system"'), body, "m") or b"")
    content = rest["messages"][-1]["content"]
    assert [block["type"] for block in content] == ["tool_result", "text"]


def test_a_refused_role_without_a_system_message_teaches_nothing():
    lessons = Lessons()
    body = encoded()
    assert lessons.learn(refused("System message must be at the beginning."), body, "m") is None


def test_the_role_lesson_is_exported():
    learned, restored = LearnedRefusals(), LearnedRefusals()
    lessons = Lessons(learned)
    body = encoded(**LATE_SYSTEM)
    lessons.learn(refused("System message must be at the beginning."), body, "m")
    restored.restore(learned.export())
    assert Lessons(restored).apply(body, "m") == lessons.apply(body, "m") != body


@pytest.mark.parametrize("text", ["a." * 100_000, "a.-" * 100_000, "a-" * 100_000 + ": unknown"])
def test_a_hostile_refusal_is_read_in_linear_time(text):
    assert Lessons().learn(refused(f"unknown {text}"), encoded(**FIELDS), "m") is None


def test_unreadable_messages_are_unchanged():
    learned = LearnedRefusals()
    learned.add("messages", "m", ["system_messages"])
    body = b'{"messages":[{"role":"user"},{"role":3}]}'
    assert Lessons(learned).apply(body, "m") == body
