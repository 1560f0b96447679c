"""Chat Completions answers for conversion tests, and a short notation for events."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ccproxy.convert.common.message_writer import AnswerContext
from ccproxy.convert.common.thinking import Signer
from ccproxy.protocol import chat
from ccproxy.providers.quirks import Quirks, Target

SIGNER = Signer(b"a key for tests")
USAGE = {"prompt_tokens": 31, "completion_tokens": 7, "total_tokens": 38}


def context(*, quirks: dict[str, Any] | None = None, **more: Any) -> AnswerContext:
    """Return the context of an answer; *more* replaces its fields, *quirks* the default quirks."""
    fields: dict[str, Any] = {
        "message_id": "msg_test",
        "model": "claude-test",
        "target": Target(provider="acme", model="up-1", quirks=Quirks(**(quirks or {}))),
        "signer": SIGNER,
        "input_estimate": 11,
    }
    return AnswerContext(**(fields | more))


def say(content: Any = None, **delta: Any) -> dict[str, Any]:
    """Return a chunk with content; keywords are fields of its delta."""
    if content is not None:
        delta["content"] = content
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def call(arguments: Any = None, **more: Any) -> dict[str, Any]:
    """Return a chunk with one piece of a tool call; `name` belongs to the function."""
    function = {"arguments": arguments} if arguments is not None else {}
    if "name" in more:
        function["name"] = more.pop("name")
    return say(tool_calls=[{**more, "function": function}])


def end(reason: str | None = "stop", *, usage: Any = None, **choice: Any) -> dict[str, Any]:
    """Return the chunk with the finish_reason."""
    chunk: dict[str, Any] = {
        "id": "c",
        "choices": [{"index": 0, "delta": {}, "finish_reason": reason, **choice}],
    }
    return chunk if usage is None else {**chunk, "usage": usage}


def whole(
    content: Any = None, *, finish: str | None = "stop", usage: Any = None, **message: Any
) -> dict[str, Any]:
    """Return a whole completion."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content, **message},
        "finish_reason": finish,
    }
    return {"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage or USAGE}


def parsed(chunk: dict[str, Any]) -> chat.Chunk:
    """Return *chunk* in the form that the converter receives."""
    return chat.decode(json.dumps(chunk).encode())


def sse(chunks: Iterable[dict[str, Any] | str], *, done: bool = True) -> bytes:
    """Return the bytes in which a provider streams *chunks*."""
    lines = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]
    return b"".join(b"data: %b\n\n" % line.encode() for line in [*lines, *["[DONE]"] * done])


def screenplay(events: Iterable[dict[str, Any]]) -> list[str]:
    """Return each event as one short line: index, `+ delta`, `.` for a stop, `!` for signatures."""
    lines = []
    for event in events:
        match event["type"]:
            case "content_block_start":
                block = event["content_block"]
                name = f" {block['id']} {block['name']}" if block["type"] == "tool_use" else ""
                lines.append(f"{event['index']} {block['type']}{name}")
            case "content_block_delta":
                (kind, value) = event["delta"].values()
                output = "!" if kind == "signature_delta" else f"+ {value}"
                lines.append(f"{event['index']} {output}")
            case "content_block_stop":
                lines.append(f"{event['index']} .")
            case "message_delta":
                lines.append(event["delta"]["stop_reason"])
            case other:
                lines.append(other)
    return lines
