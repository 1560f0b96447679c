"""
Make a test case from a recorded exchange, without its private text.

The case's request is the Messages request that was converted. For a client of the Responses API, it
is the Messages form of the client's request, and the expected message is derived from the response.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ccproxy.cli.recordings.placeholders import Placeholders, placeholder
from ccproxy.errors import CcproxyError

if TYPE_CHECKING:
    from ccproxy.store.recordings import RecordedCall, Recording

_RESPONSES = "/responses"


def case_from_recording(recording: Recording) -> dict[str, Any]:
    """
    Return the case: the client's request, the provider's answer and the client's answer.

    Raises:
        CcproxyError: If the exchange was not exactly one answered request to the provider, or was
            passed on unconverted in one of OpenAI's APIs.
    """
    fix = f"  fix: choose another recording: ccproxy record {recording.label}"
    if len(recording.calls) != 1 or recording.error:
        text = f"{recording.id} is not a single answered request to the provider"
        raise CcproxyError(f"{text}\n{fix}")
    (call,) = recording.calls
    if call.passed and call.api != "messages":
        text = f"{recording.id} was passed on without conversion"
        raise CcproxyError(f"{text}\n{fix}")
    try:
        return _case(recording, call, Placeholders())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        text = f"no case can be made of {recording.id}: its answer has an unexpected form"
        raise CcproxyError(f"{text}\n{fix}") from error


def _case(recording: Recording, call: RecordedCall, placeholders: Placeholders) -> dict[str, Any]:
    request = json.loads(placeholders.json(_text(call.asked)))
    request["model"] = call.model
    upstream = _upstream(call, placeholders)
    message = _expected(recording, call, placeholders)
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
        while end < len(stream) and stream[end] & 0xC0 == 0x80:  # keep characters whole
            end += 1
        chunks.append(stream[start:end].decode("utf-8", "replace"))
        start = end
    headers = {"Content-Type": "text/event-stream"}
    return {"status": call.status, "headers": headers, "chunks": [each for each in chunks if each]}


def _expected(
    recording: Recording, call: RecordedCall, placeholders: Placeholders
) -> dict[str, Any]:
    """Return the expected message, with placeholders."""
    answer = _text(recording.answer)
    if call.api == "messages" and not call.is_stream:
        message: dict[str, Any] = json.loads(placeholders.json(_text(call.data)))
        return message
    if recording.path.endswith(_RESPONSES):
        return _message_of_response(answer, placeholders)
    return _message(answer, placeholders, is_stream=recording.stream)


def _message_of_response(answer: str, placeholders: Placeholders) -> dict[str, Any]:
    """Return the message from which *answer*, a whole or streamed response, was converted."""
    lines = _data(answer)
    last: dict[str, Any] = json.loads(placeholders.json(lines[-1] if lines else answer))
    response = last.get("response", last)
    content = [block for item in response["output"] for block in _blocks(item)]
    is_call = any(block["type"] == "tool_use" for block in content)
    end = "max_tokens" if response["status"] == "incomplete" else "end_turn"
    return {"content": content, "stop_reason": "tool_use" if is_call else end}


def _blocks(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    match item["type"]:
        case "reasoning":
            texts = (part["text"] for part in item["summary"])
            yield {"type": "thinking", "thinking": "".join(texts)}
        case "message":
            yield {"type": "text", "text": "".join(part["text"] for part in item["content"])}
        case "function_call":
            arguments = json.loads(item["arguments"] or "{}")
            yield {"type": "tool_use", "name": item["name"], "input": arguments}


def _message(answer: str, placeholders: Placeholders, *, is_stream: bool) -> dict[str, Any]:
    if not is_stream:
        message: dict[str, Any] = json.loads(placeholders.json(answer))
        for block, original in zip(message["content"], json.loads(answer)["content"], strict=True):
            if block["type"] == "tool_use":  # its input is a JSON string in the provider's answer
                text = json.dumps(original["input"], ensure_ascii=False)
                block["input"] = json.loads(placeholder(text))
        return message
    message = {"content": []}
    pieces: list[str] = []
    for data in _data(answer):
        event = json.loads(placeholders.json(data))
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


def _data(stream: str) -> list[str]:
    lines = stream.split("\n")  # not splitlines(): JSON may contain other line separators
    return [line.removeprefix("data:") for line in lines if line.startswith("data:")]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
