"""
The rules of the Responses API for requests.

Each rule is a documented 400 of OpenAI's, or a limit of `openai/types/responses/`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

FIELDS = frozenset(
    (
        "include",
        "input",
        "max_output_tokens",
        "model",
        "parallel_tool_calls",
        "prompt_cache_key",
        "reasoning",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_p",
    )
)
ITEM_FIELDS = {
    "message": {"type", "role", "content", "phase"},
    "function_call": {"type", "call_id", "name", "arguments"},
    "function_call_output": {"type", "call_id", "output"},
    "reasoning": {"type", "summary", "encrypted_content"},
}
PART_FIELDS = {
    "input_text": {"type", "text"},
    "input_image": {"type", "image_url"},
    "input_file": {"type", "filename", "file_data"},
}
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def violations(body: Json) -> list[str]:
    """Return the reasons for which OpenAI would reject *body*."""
    return [*_limits(body), *_items(body["input"]), *_pairs(body["input"]), *_tools(body)]


def _limits(body: Json) -> Iterator[str]:
    if unknown := set(body) - FIELDS:
        yield f"unknown parameters {sorted(unknown)}"
    if body.get("max_output_tokens", 16) < 16:
        yield "max_output_tokens below 16"
    if len(body.get("prompt_cache_key", "")) > 64:
        yield "prompt_cache_key over 64 characters"
    if body.get("store") is not False:
        yield "the request would be stored"
    if "cache_control" in json.dumps(body):
        yield "cache_control"


def _items(items: list[Json]) -> Iterator[str]:
    if not items:
        yield "no input"
    for position, item in enumerate(items):
        kind = item.get("type", "none")
        if set(item) - ITEM_FIELDS.get(kind, set()):
            yield f"{position}: fields {sorted(item)} of {kind}"
        follower = items[position + 1] if position + 1 < len(items) else {}
        if kind == "reasoning" and not _is_answer(follower):
            yield f"{position}: reasoning without its following item"
        content = item.get("content", item.get("output"))
        if content in ("", [], None) and kind not in ("function_call", "reasoning"):
            yield f"{position}: empty content"
        yield from _parts(content if isinstance(content, list) else [], item, position)


def _is_answer(item: Json) -> bool:
    return item.get("type") in ("reasoning", "function_call") or item.get("role") == "assistant"


def _parts(parts: list[Json], item: Json, position: int) -> Iterator[str]:
    if parts and item.get("role") == "assistant":
        yield f"{position}: a list as content of the assistant"
    for part in parts:
        if set(part) != PART_FIELDS.get(part["type"]):
            yield f"{position}: part {sorted(part)} of type {part['type']}"
        if part["type"] == "input_image" and not isinstance(part["image_url"], str):
            yield f"{position}: image_url is not a string"
        if part["type"] == "input_file" and not part["file_data"].startswith("data:"):
            yield f"{position}: file_data is no data URI"


def _pairs(items: list[Json]) -> Iterator[str]:
    open_calls: list[str] = []
    observed: set[str] = set()
    for item in items:
        call_id = item.get("call_id", "")
        if item["type"] == "function_call":
            if call_id in observed or not NAME.fullmatch(call_id):
                yield f"call_id {call_id!r} is repeated or not allowed"
            if not isinstance(json.loads(item["arguments"]), dict):
                yield f"arguments of {call_id} are no object"
            observed.add(call_id)
            open_calls.append(call_id)
        elif item["type"] == "function_call_output":
            if call_id not in open_calls:
                yield f"no call for the output {call_id!r}"
            else:
                open_calls.remove(call_id)
        elif open_calls and item.get("role") not in ("assistant", None):
            yield f"a message before the outputs of {open_calls}"
    if open_calls:
        yield f"no output for {open_calls}"


def _tools(body: Json) -> Iterator[str]:
    tools = body.get("tools", [])
    names = [tool["name"] for tool in tools if tool["type"] == "function"]
    if len(set(names)) != len(names) or not all(map(NAME.fullmatch, names)):
        yield f"tool names {names}"
    for tool in tools:
        if tool["type"] == "function" and not isinstance(tool.get("strict"), bool):
            yield f"strict of {tool['name']} is left out, which means true"
    if "tool_choice" in body and not tools:
        yield "tool_choice without tools"
