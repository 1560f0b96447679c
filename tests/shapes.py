"""
Turns of a model in each provider's format, streamed and whole.

A `Turn` is the content; a `Shape` describes how a provider sends it: the field of the reasoning,
the form of call IDs, calls in one or several chunks, the last chunk and the position of the usage.
The shapes follow recorded answers; see `tests/convert/test_provider_shapes.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.provider import Answer, Call, raw, stream
from tests.replies import data_line

SEALED = "gAAAA-sealed"
"""Data that only OpenRouter can read."""
SIGNED = "U0lHTkVE"
"""Data that only Gemini can read."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Thinking, text and calls of a turn; calls are pairs of name and arguments."""

    thought: str = ""
    text: str = ""
    calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Shape:
    """
    The form in which a provider sends a turn.

    Attributes:
        model: A model of the preset.
        reasoning: The field of the reasoning; `tags`, `parts`, `both` (OpenRouter's two copies
            and a sealed one) and `details` are not fields. Empty: no reasoning is shown.
        ids: `new` in every turn, `repeated` from turn to turn, `name:number`, `empty` or `none`.
        index: Whether the index of calls counts, is always 0, or is missing.
        whole_calls: Whether the arguments of a call are sent in one piece.
        finish: The finish_reason of a turn with calls.
        usage: `behind` is after the end without choices, `beside` is in the last chunk, `choice`
            is in the choice, and `x_groq` in that field.
        signed: Whether the first call has a thought signature.
        comments: Whether SSE comments separate the chunks.
    """

    model: str
    reasoning: str = "reasoning_content"
    ids: str = "new"
    index: str = "counted"
    whole_calls: bool = False
    finish: str = "tool_calls"
    usage: str = "behind"
    signed: bool = False
    comments: bool = False


SHAPES: Mapping[str, Shape] = {
    "openai": Shape(model="gpt-5.2", reasoning=""),
    "azure": Shape(model="gpt-5.2", reasoning=""),
    "kimi": Shape(model="kimi-k3", ids="name:number", usage="choice"),
    "zai": Shape(model="glm-5.3", whole_calls=True, usage="beside"),
    "bigmodel": Shape(model="glm-5.3", whole_calls=True, usage="beside"),
    "minimax": Shape(model="MiniMax-M3", reasoning="details", ids="new"),
    "gemini": Shape(
        model="gemini-3.1-pro-preview",
        reasoning="",
        ids="empty",
        index="zero",
        whole_calls=True,
        finish="stop",
        signed=True,
    ),
    "deepseek": Shape(model="deepseek-v4-pro", usage="beside", comments=True),
    "qwen": Shape(model="qwen3.8-max"),
    "modelscope": Shape(model="Qwen/Qwen3-235B-A22B"),
    "doubao": Shape(model="doubao-seed-2-1-pro-260915"),
    "openrouter": Shape(model="anthropic/claude-sonnet-5.5", reasoning="both", comments=True),
    "requesty": Shape(model="anthropic/claude-opus-5-5"),
    "groq": Shape(model="openai/gpt-oss-120b", reasoning="reasoning", usage="x_groq"),
    "cerebras": Shape(model="gpt-oss-120b", reasoning="reasoning"),
    "mistral": Shape(
        model="magistral-medium-latest", reasoning="parts", index="none", whole_calls=True
    ),
    "xai": Shape(model="grok-4.5", whole_calls=True),
    "nim": Shape(model="qwen/qwen3-235b", ids="repeated", reasoning="tags"),
    "copilot": Shape(model="claude-sonnet-5.5", reasoning=""),
    "ollama": Shape(model="qwen3:8b", reasoning="reasoning", ids="none", whole_calls=True),
    "lmstudio": Shape(model="qwen/qwen3-coder-30b", reasoning="tags", ids="repeated"),
    "vllm": Shape(model="Qwen/Qwen3-30B", reasoning="reasoning", ids="repeated"),
    "sglang": Shape(model="default", ids="repeated"),
    "llamacpp": Shape(model="default", reasoning="tags", ids="none"),
}
"""The shapes by preset."""

Counted = dict[str, Any]


def shows_thinking(preset: str) -> bool:
    """Return True if the provider shows its reasoning."""
    return bool(SHAPES[preset].reasoning)


def plays(preset: str, *turns: Turn) -> list[Callable[[Call], Answer]]:
    """Return a script that answers with *turns*, streamed or whole as requested."""
    return [_player(SHAPES[preset], turn, number) for number, turn in enumerate(turns)]


def _player(shape: Shape, turn: Turn, number: int) -> Callable[[Call], Answer]:
    def play(call: Call) -> Answer:
        if call.streams:
            return stream(*streamed(shape, turn, number))
        return raw(json.dumps(whole(shape, turn, number), ensure_ascii=False))

    return play


# A stream...


def streamed(shape: Shape, turn: Turn, number: int) -> list[bytes]:
    """Return the lines of a streamed turn, without `[DONE]`; *number* counts the turns."""
    lines: list[bytes] = []
    for delta in _deltas(shape, turn, number):
        if shape.comments:
            lines.append(b": keep-alive\n\n")
        lines.append(data_line(_chunk({"index": 0, "delta": delta, "finish_reason": None})))
    finish = {"index": 0, "delta": {}, "finish_reason": _finish(shape, turn)}
    lines += map(data_line, _end(shape, finish, _usage(turn)))
    return lines


def _end(shape: Shape, finish: dict[str, Any], usage: Counted) -> list[dict[str, Any]]:
    if shape.usage == "choice":
        return [_chunk({**finish, "usage": usage})]
    if shape.usage == "beside":
        return [{**_chunk(finish), "usage": usage}]
    if shape.usage == "x_groq":
        return [{**_chunk(finish), "x_groq": {"id": "req_1", "usage": usage}}]
    return [_chunk(finish), {**_chunk(finish), "choices": [], "usage": usage}]


def _chunk(choice: dict[str, Any]) -> dict[str, Any]:
    return {"id": "c", "object": "chat.completion.chunk", "model": "up", "choices": [choice]}


def _deltas(shape: Shape, turn: Turn, number: int) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": ""}
    if turn.thought and shape.reasoning:
        if shape.reasoning == "tags":
            yield {"content": "<think>"}
        for piece in _halves(turn.thought):
            yield _thinking(shape, piece)
        if shape.reasoning == "both":
            sealed = {"type": "reasoning.encrypted", "data": SEALED, "index": 1}
            yield {"content": "", "reasoning_details": [sealed]}
        if shape.reasoning == "tags":
            yield {"content": "</think>\n\n"}
    for piece in _halves(turn.text):
        yield {"content": piece}
    for location, call in enumerate(_calls(shape, turn, number)):
        yield from _pieces(shape, call, location)


def _thinking(shape: Shape, piece: str) -> dict[str, Any]:
    detail = {"type": "reasoning.text", "text": piece, "index": 0, "format": "unknown"}
    match shape.reasoning:
        case "tags":
            return {"content": piece}
        case "parts":
            part = {"type": "thinking", "thinking": [{"type": "text", "text": piece}]}
            return {"content": [part]}
        case "details":
            return {"content": "", "reasoning_content": piece, "reasoning_details": [detail]}
        case "both":
            return {"content": "", "reasoning": piece, "reasoning_details": [detail]}
    return {"content": None, shape.reasoning: piece}


def _pieces(shape: Shape, call: dict[str, Any], position: int) -> Iterator[dict[str, Any]]:
    numbers = {"counted": {"index": position}, "zero": {"index": 0}, "none": {}}[shape.index]
    if shape.whole_calls:
        yield {"tool_calls": [{**numbers, **call}]}
        return
    function = call["function"]
    yield {"tool_calls": [{**numbers, **call, "function": {**function, "arguments": ""}}]}
    for piece in _halves(function["arguments"]):
        yield {"tool_calls": [{**numbers, "function": {"arguments": piece}}]}


# ...a whole answer...


def whole(shape: Shape, turn: Turn, number: int) -> dict[str, Any]:
    """Return the body of a turn that is not streamed."""
    calls = _calls(shape, turn, number)
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or None}
    if turn.thought and shape.reasoning:
        message |= _thought(shape, turn)
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "finish_reason": _finish(shape, turn)}
    body = {"id": "c", "object": "chat.completion", "model": "up", "choices": [choice]}
    return {**body, "usage": _usage(turn)}


def _thought(shape: Shape, turn: Turn) -> dict[str, Any]:
    if shape.reasoning == "tags":
        return {"content": f"<think>{turn.thought}</think>\n\n{turn.text}"}
    output = _thinking(shape, turn.thought)
    if shape.reasoning == "parts":
        return {"content": [*output["content"], {"type": "text", "text": turn.text}]}
    if shape.reasoning == "both":
        sealed = {"type": "reasoning.encrypted", "data": SEALED, "index": 1}
        output["reasoning_details"].append(sealed)
    return {name: value for name, value in output.items() if name != "content"}


# ...and the common parts.


def _calls(shape: Shape, turn: Turn, number: int) -> list[dict[str, Any]]:
    calls = []
    for location, (name, arguments) in enumerate(turn.calls):
        made = {
            "new": {"id": f"call_{number}_{location}"},
            "repeated": {"id": f"call_{location}"},
            "name:number": {"id": f"functions.{name}:{location}"},
            "empty": {"id": ""},
            "none": {},
        }[shape.ids]
        function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
        signed = {"extra_content": {"google": {"thought_signature": SIGNED}}}
        more = signed if shape.signed and not location else {}
        calls.append({**made, "type": "function", "function": function, **more})
    return calls


def _finish(shape: Shape, turn: Turn) -> str:
    return shape.finish if turn.calls else "stop"


def _usage(turn: Turn) -> Counted:
    return {
        "prompt_tokens": 900 + len(turn.text),
        "completion_tokens": 40,
        "total_tokens": 940 + len(turn.text),
        "prompt_tokens_details": {"cached_tokens": 512},
    }


def _halves(text: str) -> list[str]:
    middle = len(text) // 2
    return [half for half in (text[:middle], text[middle:]) if half]
