"""
Answers of a scripted model, rendered for one of the APIs, whole or as a stream.

`tests/provider.py` is the server that sends them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests import responses_answers as responses
from tests.responses_answers import events_of, sse

JsonPart = dict[str, Any] | str | bytes
"""A piece of an event stream: a JSON chunk, or exact text or bytes."""

USAGE = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
CHAT_ID = "chatcmpl-scripted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A model's answer."""

    text: str
    reasoning: str
    tool_calls: tuple[dict[str, Any], ...]
    usage: Mapping[str, Any] | None
    finish: str


def chunk(content: str | None = None, *, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """Return a Chat Completions chunk for `stream()`; keywords become fields of the delta."""
    if content is not None:
        delta["content"] = content
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": CHAT_ID, "object": "chat.completion.chunk", "model": "up", "choices": [choice]}


def tool_call(name: str, arguments: Any, *, call_id: str | None = "call_1") -> dict[str, Any]:
    """Return one entry of *tool_calls*; *arguments* is encoded as JSON unless it is a string."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call: dict[str, Any] = {"type": "function", "function": {"name": name, "arguments": text}}
    return call if call_id is None else {"id": call_id, **call}


def data_line(chunk: dict[str, Any]) -> bytes:
    """Encode a chunk as an SSE event."""
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


def whole(reply: Reply, path: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Render *reply* as the response body of the API at *path*."""
    if path.endswith("/count_tokens"):
        return {"input_tokens": (reply.usage or USAGE)["prompt_tokens"]}
    if path.endswith("/messages"):
        return _message(reply, request)
    if path.endswith("/responses"):
        return _response(reply, request)
    return _chat_completion(reply, request)


def streamed(reply: Reply, path: str, request: Mapping[str, Any]) -> Iterator[JsonPart]:
    """Render *reply* as the stream of the API at *path*, without `[DONE]`."""
    if path.endswith("/messages"):
        return _message_events(reply, request)
    if path.endswith("/responses"):
        return (sse([each]) for each in events_of(_response(reply, request)))
    return _chat_chunks(reply, request)


# Chat Completions.


def _chat_completion(reply: Reply, request: Mapping[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        message["tool_calls"] = list(reply.tool_calls)
    choice = {"index": 0, "message": message, "finish_reason": reply.finish}
    body = {
        "id": CHAT_ID,
        "object": "chat.completion",
        "model": request.get("model"),
        "choices": [choice],
    }
    return body if reply.usage is None else {**body, "usage": reply.usage}


def _chat_chunks(reply: Reply, request: Mapping[str, Any]) -> Iterator[JsonPart]:
    yield chunk("", role="assistant")
    for thought in _halves(reply.reasoning):
        yield chunk(reasoning_content=thought)
    for text in _halves(reply.text):
        yield chunk(text)
    for index, tool in enumerate(reply.tool_calls):
        function = tool["function"]
        head = {**tool, "index": index, "function": {**function, "arguments": ""}}
        yield chunk(tool_calls=[head])
        for fragment in _halves(function["arguments"]):
            yield chunk(tool_calls=[{"index": index, "function": {"arguments": fragment}}])
    yield chunk(finish=reply.finish)
    if reply.usage is not None and (request.get("stream_options") or {}).get("include_usage"):
        yield {**chunk(), "choices": [], "usage": reply.usage}


def _halves(text: str) -> list[str]:
    middle = len(text) // 2
    return [half for half in (text[:middle], text[middle:]) if half]


# Responses.


def _response(reply: Reply, request: Mapping[str, Any]) -> dict[str, Any]:
    items: list[dict[str, Any]] = []
    if reply.reasoning:
        items.append(responses.reasoning(reply.reasoning, encrypted="gAAAAscripted"))
    if reply.text:
        items.append(responses.message(reply.text))
    for tool in reply.tool_calls:
        function = tool["function"]
        call_id = tool.get("id", "call_1")
        items.append(responses.call(function["name"], function["arguments"], call_id=call_id))
    usage = reply.usage or USAGE
    numbers = {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": usage.get("prompt_tokens_details", {"cached_tokens": 0}),
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["prompt_tokens"] + usage["completion_tokens"],
    }
    answer = (
        responses.incomplete(*items) if reply.finish == "length" else responses.response(*items)
    )
    return {**answer, "model": request.get("model"), "usage": numbers}


# Messages.

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def _message(reply: Reply, request: Mapping[str, Any]) -> dict[str, Any]:
    blocks: list[dict[str, Any]] = []
    if reply.reasoning:
        blocks.append({"type": "thinking", "thinking": reply.reasoning, "signature": "c2lnbmVk"})
    if reply.text:
        blocks.append({"type": "text", "text": reply.text})
    for tool in reply.tool_calls:
        function = tool["function"]
        arguments = json.loads(function["arguments"])
        identity = {"id": tool.get("id", "toolu_1"), "name": function["name"]}
        blocks.append({"type": "tool_use", **identity, "input": arguments})
    usage = reply.usage or USAGE
    return {
        "id": f"msg_scripted_{len(request.get('messages', ()))}",
        "type": "message",
        "role": "assistant",
        "model": request.get("model"),
        "content": blocks,
        "stop_reason": _STOP_REASONS[reply.finish],
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
        },
    }


def _message_events(reply: Reply, request: Mapping[str, Any]) -> Iterator[JsonPart]:
    message = _message(reply, request)
    blocks, stop_reason = message["content"], message["stop_reason"]
    yield _event("message_start", message={**message, "content": [], "stop_reason": None})
    for index, block in enumerate(blocks):
        empty, deltas = _block_in_deltas(block)
        yield _event("content_block_start", index=index, content_block=empty)
        for delta in deltas:
            yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    end = {"stop_reason": stop_reason, "stop_sequence": None}
    yield _event("message_delta", delta=end, usage=message["usage"])
    yield _event("message_stop")


def _block_in_deltas(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    match block["type"]:
        case "text":
            texts = _halves(block["text"])
            return {**block, "text": ""}, [{"type": "text_delta", "text": text} for text in texts]
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
            return {**block, "thinking": "", "signature": ""}, deltas
    fragments = _halves(json.dumps(block["input"]))
    deltas = [{"type": "input_json_delta", "partial_json": text} for text in fragments]
    return {**block, "input": {}}, deltas


def _event(name: str, **fields: Any) -> str:
    return f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n"
