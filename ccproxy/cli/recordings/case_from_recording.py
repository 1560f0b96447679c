"""A test case made of a recorded exchange, without its private text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ccproxy.cli.recordings.placeholders import Placeholders, placeholder
from ccproxy.errors import CcproxyError

if TYPE_CHECKING:
    from ccproxy.store.recordings import RecordedCall, Recording


def case_from_recording(recording: Recording) -> dict[str, Any]:
    """
    Return the case: the client's request, the provider's answer, and what the client got.

    Raises:
        CcproxyError: If the exchange was not one request to the provider with an answer.

    """
    if len(recording.calls) != 1 or recording.error:
        text = f"{recording.id} is not one answered request to the provider"
        raise CcproxyError(f"{text}\n  fix: choose another one: ccproxy record {recording.label}")
    placeholders = Placeholders()
    (call,) = recording.calls
    request = json.loads(placeholders.json(_text(call.asked)))
    request["model"] = call.model
    upstream = _upstream(call, placeholders)
    message = _message(_text(recording.answer), placeholders, is_stream=recording.stream)
    return {
        "id": recording.id,
        "title": f"recorded with {recording.provider or 'an unknown provider'}, {call.model}",
        "source": "ccproxy record --case",
        "kind": "stream" if call.is_stream else "response",
        "provider": recording.provider,
        "api": call.api,
        "tier": "should",
        "input": {"request": request, "upstream": [upstream]},
        "expect": {"ok": True, "calls": [1, 1], "msg": list(_assertions(message))},
    }


def _upstream(call: RecordedCall, placeholders: Placeholders) -> dict[str, Any]:
    if not call.is_stream:
        headers = {"Content-Type": "application/json"}
        return {
            "status": call.status,
            "headers": headers,
            "raw": placeholders.json(_text(call.data)),
        }
    stream = placeholders.events(_text(call.data)).encode()
    chunks: list[str] = []
    start = 0
    for piece in call.pieces:
        end = start + len(piece.data)
        while end < len(stream) and stream[end] & 0xC0 == 0x80:  # within a character
            end += 1
        chunks.append(stream[start:end].decode("utf-8", "replace"))
        start = end
    headers = {"Content-Type": "text/event-stream"}
    return {"status": call.status, "headers": headers, "chunks": [each for each in chunks if each]}


def _message(answer: str, placeholders: Placeholders, *, is_stream: bool) -> dict[str, Any]:
    """Return the client's message with placeholders."""
    if not is_stream:
        message: dict[str, Any] = json.loads(placeholders.json(answer))
        for block, original in zip(message["content"], json.loads(answer)["content"], strict=True):
            if block["type"] == "tool_use":  # a string in the provider's answer
                text = json.dumps(original["input"], ensure_ascii=False)
                block["input"] = json.loads(placeholder(text))
        return message
    message = {"content": []}
    pieces: list[str] = []
    for line in answer.splitlines():
        if not line.startswith("data:"):
            continue
        event = json.loads(placeholders.json(line.removeprefix("data:")))
        match event.get("type"):
            case "content_block_start":
                message["content"].append(event["content_block"])
                pieces = []
            case "content_block_delta":
                pieces += [
                    event["delta"].get(name, "") for name in ("text", "thinking", "partial_json")
                ]
            case "content_block_stop":
                _finish(message["content"][-1], "".join(pieces))
            case "message_delta":
                message |= event["delta"]
    return message


def _finish(block: dict[str, Any], text: str) -> None:
    match block["type"]:
        case "text" | "thinking" as field:
            block[field] = text
        case "tool_use":
            block["input"] = json.loads(text or "{}")


def _assertions(message: dict[str, Any]) -> Iterator[list[Any]]:
    yield ["stop_reason", "==", message.get("stop_reason")]
    yield ["content.@len", "==", len(message["content"])]
    for index, block in enumerate(message["content"]):
        path = f"content[{index}]"
        yield [f"{path}.type", "==", block["type"]]
        for field in ("text", "thinking", "name", "input"):
            if field in block:
                yield [f"{path}.{field}", "==", block[field]]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
