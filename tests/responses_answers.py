"""Builders for answers of the Responses API: items, whole responses and their event streams."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

Json = dict[str, Any]

USAGE: Json = {
    "input_tokens": 31,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 38,
}
PIECE = 5
"""The number of characters in a delta."""


# Items...


def message(*texts: str, **more: Any) -> Json:
    parts = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": parts,
        **more,
    }


def refusal(words: str) -> Json:
    return message(content=[{"type": "refusal", "refusal": words}])


def reasoning(*summary: str, encrypted: str | None = None, **more: Any) -> Json:
    parts = [{"type": "summary_text", "text": text} for text in summary]
    content = {} if encrypted is None else {"encrypted_content": encrypted}
    return {"type": "reasoning", "id": "rs_1", "summary": parts, **content, **more}


def open_reasoning(text: str) -> Json:
    return reasoning(content=[{"type": "reasoning_text", "text": text}])


def call(name: str, arguments: Any, *, call_id: str = "call_1", **more: Any) -> Json:
    """Return a function call; *arguments* is encoded as JSON unless it is a string."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {
        "type": "function_call",
        "id": "fc_1",
        "call_id": call_id,
        "name": name,
        "arguments": text,
        "status": "completed",
        **more,
    }


def search(query: str, *urls: str) -> Json:
    sources = [{"type": "url", "url": url} for url in urls]
    action = {"type": "search", "query": query, "sources": sources}
    return {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": action}


# ...whole responses...


def response(*items: Json, status: str = "completed", **more: Any) -> Json:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_790_000_000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": "up-1",
        "output": list(items),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": USAGE,
        **more,
    }


def incomplete(*items: Json, reason: str = "max_output_tokens") -> Json:
    return response(*items, status="incomplete", incomplete_details={"reason": reason})


def failed(code: str, text: str) -> Json:
    return response(status="failed", error={"code": code, "message": text}, usage=None)


# ...and their streams.


def event(kind: str, **fields: Any) -> Json:
    return {"type": kind, **fields}


def events_of(whole: Json) -> list[Json]:
    """Return the events of the stream that ends with the response *whole*, like OpenAI's."""
    begun = {**whole, "status": "in_progress", "output": [], "usage": None, "error": None}
    events = [event("response.created", response=begun)]
    events.append(event("response.in_progress", response=begun))
    for index, item in enumerate(whole["output"]):
        events += item_events(item, index)
    events.append(event(f"response.{whole['status']}", response=whole))
    return numbered(events)


def numbered(events: Iterable[Json]) -> list[Json]:
    return [{**each, "sequence_number": number} for number, each in enumerate(events)]


def item_events(item: Json, index: int) -> list[Json]:
    """Return the events of one item, from added to done."""
    location = {"output_index": index}
    inner = {"item_id": item["id"], **location}
    parts = {
        "message": _message_events,
        "reasoning": _reasoning_events,
        "function_call": _call_events,
    }.get(item["type"], _no_events)
    begun = {**item, "status": "in_progress", **_EMPTY.get(item["type"], {})}
    begun.pop("encrypted_content", None)
    return [
        event("response.output_item.added", item=begun, **location),
        *parts(item, inner),
        event("response.output_item.done", item=item, **location),
    ]


_EMPTY: dict[str, Json] = {
    "message": {"content": []},
    "reasoning": {"summary": [], "content": None},
    "function_call": {"arguments": ""},
}


def pieces(text: str) -> list[str]:
    return [text[start : start + PIECE] for start in range(0, len(text), PIECE)]


def _no_events(_item: Json, _inner: Json) -> Iterator[Json]:
    yield from ()


def _message_events(item: Json, inner: Json) -> Iterator[Json]:
    for number, part in enumerate(item["content"]):
        kind = "refusal" if part["type"] == "refusal" else "output_text"
        field = "refusal" if kind == "refusal" else "text"
        location = {**inner, "content_index": number}
        extra = {} if kind == "refusal" else {"logprobs": []}
        empty = {**part, field: ""}
        yield event("response.content_part.added", part=empty, **location)
        for delta in pieces(part[field]):
            yield event(f"response.{kind}.delta", delta=delta, **location, **extra)
        yield event(f"response.{kind}.done", **{field: part[field]}, **location, **extra)
        yield event("response.content_part.done", part=part, **location)


def _reasoning_events(item: Json, inner: Json) -> Iterator[Json]:
    for number, part in enumerate(item["summary"]):
        location = {**inner, "summary_index": number}
        yield event("response.reasoning_summary_part.added", part={**part, "text": ""}, **location)
        for delta in pieces(part["text"]):
            yield event("response.reasoning_summary_text.delta", delta=delta, **location)
        yield event("response.reasoning_summary_text.done", text=part["text"], **location)
        yield event("response.reasoning_summary_part.done", part=part, **location)
    for number, part in enumerate(item.get("content") or ()):
        location = {**inner, "content_index": number}
        yield event("response.content_part.added", part={**part, "text": ""}, **location)
        for delta in pieces(part["text"]):
            yield event("response.reasoning_text.delta", delta=delta, **location)
        yield event("response.reasoning_text.done", text=part["text"], **location)
        yield event("response.content_part.done", part=part, **location)


def _call_events(item: Json, inner: Json) -> Iterator[Json]:
    for delta in pieces(item["arguments"]):
        yield event("response.function_call_arguments.delta", delta=delta, **inner)
    done = {"arguments": item["arguments"], "name": item["name"]}
    yield event("response.function_call_arguments.done", **done, **inner)


def sse(events: Iterable[Json]) -> bytes:
    """Return the bytes in which a provider streams *events*."""
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (each["type"].encode(), json.dumps(each).encode())
        for each in events
    )
