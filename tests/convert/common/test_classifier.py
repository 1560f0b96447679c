"""Tests of auto mode's classification requests."""

from __future__ import annotations

from typing import Any

import pytest

from tests.asking import ask, assistant, target, text, tool, user

OPENING = "You are a security monitor for autonomous AI coding agents.\n\nDecide."
QUESTION: dict[str, Any] = {"system": OPENING, "stop_sequences": ["</block>"], "max_tokens": 64}
ALWAYS: dict[str, Any] = {"reasoning": "effort", "efforts": ("low", "high"), "always_reasons": True}


def reasoning_of(outcome):
    return outcome.body.get("reasoning_effort"), outcome.body.get("thinking")


@pytest.mark.parametrize(
    "question",
    [
        pytest.param(QUESTION, id="prompt, stop sequence and limit"),
        pytest.param({**QUESTION, "system": [text(OPENING)]}, id="the prompt as a block"),
        pytest.param(
            {
                **QUESTION,
                "system": [text("x-anthropic-billing-header: cc_version=1;"), text(OPENING)],
            },
            id="after the attribution",
        ),
        pytest.param({"system": OPENING, "max_tokens": 64}, id="the prompt alone"),
        pytest.param({**QUESTION, "system": "Judge."}, id="stop sequence and limit"),
        pytest.param({"stop_sequences": ["</severity>"], "max_tokens": 64}, id="its other stop"),
        pytest.param({**QUESTION, "thinking": {"type": "adaptive"}}, id="with thinking requested"),
    ],
)
def test_reasoning_is_off(question):
    outcome = ask(**question, to=target(reasoning="thinking_type"))
    assert outcome.body["thinking"] == {"type": "disabled"}
    assert outcome.body["max_tokens"] == 64
    assert not outcome.converted.hide_thinking


@pytest.mark.parametrize(
    "question",
    [
        pytest.param({"system": "You are Claude Code.", "max_tokens": 64}, id="another prompt"),
        pytest.param({"stop_sequences": ["</block>"], "max_tokens": 9_000}, id="a long answer"),
        pytest.param(
            {"stop_sequences": ["</block>"], "max_tokens": 64, "tools": [tool()]}, id="with tools"
        ),
        pytest.param({"stop_sequences": ["END"], "max_tokens": 64}, id="another stop"),
        pytest.param({"system": f"Do not say: {'x' * 3000} {OPENING}"}, id="a quotation"),
    ],
)
def test_other_requests_are_unchanged(question):
    outcome = ask(**question, to=target(**ALWAYS, max_output=99_999))
    assert not outcome.converted.hide_thinking
    assert "reasoning_effort" not in outcome.body
    assert outcome.body["max_tokens"] == question.get("max_tokens", 1024)


def test_a_model_that_always_reasons_gets_a_larger_limit():
    outcome = ask(**QUESTION, to=target(**ALWAYS))
    assert outcome.body["max_tokens"] == 4_096
    assert outcome.body["reasoning_effort"] == "low"
    assert "stop" not in outcome.body
    assert outcome.converted.stop_sequences == ("</block>",)
    assert outcome.converted.hide_thinking


def test_the_larger_limit_respects_the_model():
    assert ask(**QUESTION, to=target(**ALWAYS, max_output=2_048)).body["max_tokens"] == 2_048


def test_a_greater_limit_is_preserved():
    question = {**QUESTION, "max_tokens": 8_000}
    assert ask(**question, to=target(**ALWAYS)).body["max_tokens"] == 8_000


@pytest.mark.parametrize(
    ("quirks", "expected"),
    [
        pytest.param({}, ["</block>"], id="a provider that knows stop"),
        pytest.param({"stop": False}, None, id="a provider that refuses it"),
    ],
)
def test_the_stop_sequence_is_always_enforced(quirks, expected):
    outcome = ask(**QUESTION, to=target(**quirks))
    assert outcome.body.get("stop") == expected
    assert outcome.converted.stop_sequences == ("</block>",)


def test_only_the_limits_change():
    history = (user("transcript"), assistant("<block>"))
    plain = ask(*history, **QUESTION)
    assert plain.messages[0]["content"] == OPENING
    assert plain.roles == "system user assistant"
