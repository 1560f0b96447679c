"""
Tests of sessions that change their provider.

An answer in the format of every preset is converted for the client. The client sends it back, and
it is converted for every other preset. The result must be valid for a strict provider.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import pytest

from ccproxy.convert.chat.relay import ChatRelay
from ccproxy.convert.chat.request import to_chat
from ccproxy.convert.common.message_writer import AnswerContext
from ccproxy.convert.common.thinking import Signer
from ccproxy.protocol.messages import read_request
from ccproxy.providers.presets import load_presets
from ccproxy.providers.quirks import Target
from ccproxy.routing.tiers import ModelMap
from tests.chat_rules import violations
from tests.grammar import assemble
from tests.shapes import SEALED, SHAPES, SIGNED, Turn, shows_thinking, streamed

SIGNER = Signer(b"the fleet's key")
TOOL = {"name": "Read", "input_schema": {"type": "object", "properties": {"path": {}}}}
FIRST = Turn(thought="First I read.", calls=(("Read", {"path": "a"}), ("Read", {"path": "b"})))
SECOND = Turn(thought="Now the other.", text="One moment.", calls=(("Read", {"path": "ü"}),))
LAST = Turn(thought="I know it.", text="It is done.")
TURNS = (FIRST, SECOND, LAST)

TEXT_FORMS = {"reasoning_content", "reasoning", "both_fields", "think_tags", "thinking_parts"}


@cache
def target(preset: str) -> Target:
    """Return the target of the shape's model."""
    model = SHAPES[preset].model
    names = load_presets()[preset]
    card = ModelMap(big=model, middle=model, small=model, cards=names.cards()).card(model)
    return Target(provider=preset, model=model, quirks=card.quirks)


def answer_of(preset: str, turn: Turn, number: int, known_ids: frozenset[str]) -> dict[str, Any]:
    """Return the client's message for *turn* by *preset*'s model."""
    context = AnswerContext(
        message_id=f"msg_{preset}_{number}",
        model="claude-opus-5-5",
        target=target(preset),
        signer=SIGNER,
        known_ids=known_ids,
    )
    relay = ChatRelay(context)
    read = [relay.feed(line) for line in streamed(SHAPES[preset], turn, number)]
    message = assemble(b"".join([*read, relay.feed(b"data: [DONE]\n\n"), relay.close()]))
    return {"role": "assistant", "content": message["content"]}


def with_results(message: dict[str, Any]) -> dict[str, Any]:
    """Return the client's next message, with a result for every call."""
    ids = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
    results = [
        {"type": "tool_result", "tool_use_id": name, "content": f"of {name}"} for name in ids
    ]
    return {"role": "user", "content": results or "Go on."}


@cache
def history(*presets: str) -> list[dict[str, Any]]:
    """Return a conversation with turns of *presets*, one after the other."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Read them."}]
    names: frozenset[str] = frozenset()
    for number, (preset, turn) in enumerate(zip(presets, TURNS, strict=True)):
        message = answer_of(preset, turn, number, names)
        names |= {block["id"] for block in message["content"] if block["type"] == "tool_use"}
        messages += [message, with_results(message)]
    return messages


def request_for(messages: list[dict[str, Any]], preset: str, **fields: Any) -> dict[str, Any]:
    """Return the request for *preset*."""
    body = {"model": "claude-opus-5-5", "max_tokens": 900, "messages": messages, "tools": [TOOL]}
    body |= {"thinking": {"type": "adaptive"}, "stream": True, **fields}
    request = read_request(json.dumps(body).encode())
    body = json.loads(to_chat(request, target(preset), signer=SIGNER).body)
    assert violations(body, quirks=target(preset).quirks) == []
    return body


@cache
def continued(first: str, then: str) -> dict[str, Any]:
    """Return the request for *then* after a session with *first*."""
    return request_for(history(first, first, first), then)


def assistants(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [message for message in body["messages"] if message["role"] == "assistant"]


PAIRS = [(first, second) for first in SHAPES for second in SHAPES]


def offenders(check: Callable[[str, str], None], pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Return the pairs of presets for which *check* fails, with the reason."""
    failed = []
    for first, second in pairs:
        try:
            check(first, second)
        except AssertionError as error:
            failed.append(f"{first} -> {second}: {str(error).splitlines()[:1]}")
    return failed


def accepts_thinking(preset: str, producer: str) -> bool:
    """Return True if *preset* accepts the thinking of *producer* in tool turns."""
    quirks = target(preset).quirks
    if quirks.history == "reasoning_details":
        return quirks.unsigned_thinking or producer == preset
    return quirks.history in TEXT_FORMS


def test_a_session_continues_at_another_provider():
    def check(first: str, then: str) -> None:
        body = continued(first, then)
        calls = [call for message in assistants(body) for call in message.get("tool_calls", ())]
        results = [message for message in body["messages"] if message["role"] == "tool"]
        paths = [json.loads(call["function"]["arguments"])["path"] for call in calls]
        assert paths == ["a", "b", "ü"]
        assert [result["tool_call_id"] for result in results] == [call["id"] for call in calls]
        assert len({call["id"] for call in calls}) == 3
        text = json.dumps(body["messages"], ensure_ascii=False)
        assert "It is done." in text
        assert "ccproxy1." not in text, "signatures are never sent"

    assert offenders(check, PAIRS) == []


def test_thinking_is_sent_only_where_it_is_accepted():
    def check(first: str, then: str) -> None:
        text = json.dumps(continued(first, then)["messages"])
        for turn in TURNS:
            in_scope = bool(turn.calls) or target(then).quirks.history_scope == "all"
            assert (turn.thought in text) is (accepts_thinking(then, first) and in_scope)

    assert offenders(check, [pair for pair in PAIRS if shows_thinking(pair[0])]) == []


def test_opaque_reasoning_is_sent_only_to_its_producer():
    def check(sealed: str, then: str) -> None:
        text = json.dumps(continued(sealed, then)["messages"])
        assert (SEALED in text) is (sealed == then == "openrouter")
        assert (SIGNED in text) is (sealed == then == "gemini")

    assert offenders(check, [pair for pair in PAIRS if pair[0] in ("openrouter", "gemini")]) == []


def test_a_session_that_returns_to_its_provider():
    """Opaque reasoning is sent back to its producer even after answers by another model."""

    def check(home: str, between: str) -> None:
        body = request_for(history(home, between, home), home)
        first = assistants(body)[0]
        if home == "gemini":
            assert first["tool_calls"][0]["extra_content"]["google"]["thought_signature"] == SIGNED
        elif home == "openrouter":
            assert [detail.get("data") for detail in first["reasoning_details"]] == [None, SEALED]
            assert first["reasoning_details"][0]["text"] == FIRST.thought
        else:
            assert FIRST.thought in json.dumps(first)
        if target(home).quirks.history_required:
            assert all("reasoning_content" in message for message in assistants(body)[:2])

    homes = ("openrouter", "gemini", "kimi", "deepseek", "minimax", "mistral")
    assert offenders(check, [pair for pair in PAIRS if pair[0] in homes]) == []


@pytest.mark.parametrize("then", SHAPES)
def test_thinking_signed_by_anthropic(then):
    """After a change from direct to chat mode, the text is sent, but the signature is not."""
    thought = {"type": "thinking", "thinking": "Opus thought.", "signature": "EqoBCkgIARABGAIiQL"}
    hidden = {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"}
    call = {"type": "tool_use", "id": "toolu_01A", "name": "Read", "input": {"path": "a"}}
    message = {"role": "assistant", "content": [thought, hidden, call]}
    body = request_for([{"role": "user", "content": "q"}, message, with_results(message)], then)
    text = json.dumps(body["messages"])
    assert "EqoBCkg" not in text
    assert "EmwKAhgB" not in text
    assert ("Opus thought." in text) is accepts_thinking(then, "anthropic")


@pytest.mark.parametrize("then", SHAPES)
def test_the_beginning_keeps_its_bytes(then):
    """A later turn only appends to the request, so that prompt caches work."""
    full = history("kimi", "gemini", "openrouter")
    earlier = request_for(full[:3], then)["messages"]
    later = request_for(full, then)["messages"]
    assert later[: len(earlier)] == earlier


@pytest.mark.parametrize("then", [name for name in SHAPES if target(name).quirks.history_required])
@pytest.mark.parametrize("off", [{"type": "disabled"}, None])
def test_a_history_without_thinking_is_accepted(then, off):
    messages = history("openai", "gemini", "copilot")
    body = request_for(messages, then, thinking=off)
    fields = ["reasoning_content" in message for message in assistants(body)[:2]]
    assert fields == [off is None] * 2
