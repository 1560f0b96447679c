"""The rules of a strict Chat Completions server; api.openai.com answers 400 to a violation."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

FIELDS = {
    "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens",
    "messages", "metadata", "model", "n", "parallel_tool_calls", "presence_penalty",
    "prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "response_format",
    "safety_identifier", "seed", "service_tier", "stop", "store", "stream", "stream_options",
    "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
}  # fmt: skip
MESSAGE_FIELDS = {"content", "name", "refusal", "role", "tool_call_id", "tool_calls"}
ROLES = {"assistant", "developer", "system", "tool", "user"}
PARTS = {
    "assistant": {"text", "refusal"},
    "user": {"text", "image_url", "file", "input_audio"},
}
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
REASONING = frozenset({"reasoning_content"})
"""The proxy sends these to servers without a preset until one rejects them."""
IMAGE = re.compile(r"https?://|data:image/(png|jpeg|gif|webp);base64,")


def violations(body: Mapping[str, Any], *, tolerated: Collection[str] = ()) -> list[str]:
    """Return everything in *body* that would be rejected, except *tolerated* fields of messages."""
    result = list(_check_fields(body))
    names = [tool["function"]["name"] for tool in body.get("tools", ())]
    result += _check_tools(body.get("tools"), names)
    result += _check_choice(body.get("tool_choice"), names)
    if not body.get("messages"):
        return [*result, "messages must not be empty"]
    for index, message in enumerate(body["messages"]):
        result += [f"messages[{index}]: {fault}" for fault in _check_message(message, tolerated)]
    return [*result, *_check_pairing(body["messages"])]


def _check_fields(body: Mapping[str, Any]) -> Iterator[str]:
    for name in body.keys() - FIELDS:
        yield f"unknown field {name}"
    if not isinstance(body.get("model"), str):
        yield "no model"
    if "max_tokens" in body and "max_completion_tokens" in body:
        yield "max_tokens and max_completion_tokens together"
    if "stream_options" in body and not body.get("stream"):
        yield "stream_options without stream"
    if len(body.get("stop") or ()) > 4 and not isinstance(body["stop"], str):
        yield "more than 4 stop sequences"
    if not 0 <= (body.get("temperature") or 0) <= 2:
        yield "temperature out of range"
    for value in (body.get("metadata") or {}).values():
        if not isinstance(value, str) or len(value) > 512:
            yield "metadata values must be strings of at most 512 characters"


def _check_tools(tools: Any, names: Sequence[str]) -> Iterator[str]:
    if tools is not None and not tools:
        yield "tools must not be empty"
    if len(set(names)) < len(names):
        yield "two tools have one name"
    for tool in tools or ():
        function = tool["function"]
        if tool.keys() - {"type", "function"} or tool["type"] != "function":
            yield f"not a function tool: {sorted(tool)}"
        if function.keys() - {"name", "description", "parameters", "strict"}:
            yield f"unknown field in function {sorted(function)}"
        if not TOOL_NAME.fullmatch(function["name"]):
            yield f"tool name {function['name']!r}"
        if function.get("parameters", {"type": "object"}).get("type") != "object":
            yield f"parameters of {function['name']} are no object"


def _check_choice(choice: Any, names: Sequence[str]) -> Iterator[str]:
    if choice is None:
        return
    if not names:
        yield "tool_choice without tools"
    elif isinstance(choice, str):
        if choice not in {"auto", "none", "required"}:
            yield f"tool_choice {choice!r}"
    elif choice["function"]["name"] not in names:
        yield "tool_choice names a tool that is not offered"


def _check_message(message: Mapping[str, Any], tolerated: Collection[str] = ()) -> Iterator[str]:
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        yield f"role {role!r}"
    if unknown := message.keys() - MESSAGE_FIELDS - set(tolerated):
        yield f"unknown fields {sorted(unknown)}"
    if content is None and not (role == "assistant" and message.get("tool_calls")):
        yield "no content"
    if isinstance(content, list):
        if not content:
            yield "content is an empty list"
        for part in content:
            yield from _check_part(part, PARTS.get(str(role), {"text"}))
    for call in message.get("tool_calls") or ():
        yield from _check_call(call)


def _check_part(part: Mapping[str, Any], allowed: set[str]) -> Iterator[str]:
    kind = part["type"]
    if kind not in allowed:
        yield f"a part of type {kind}"
    if kind == "text" and (part.keys() - {"type", "text"} or not isinstance(part["text"], str)):
        yield f"a text part with {sorted(part)}"
    if kind == "image_url" and not IMAGE.match(part["image_url"]["url"]):
        yield f"image_url {part['image_url']['url'][:40]!r}"


def _check_call(call: Mapping[str, Any]) -> Iterator[str]:
    if not call.get("id") or call.get("type") != "function":
        yield f"malformed tool call {call}"
    if not TOOL_NAME.fullmatch(call["function"]["name"]):
        yield f"a call of {call['function']['name']!r}"
    try:
        arguments = json.loads(call["function"]["arguments"])
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        yield f"arguments are no JSON object: {call['function']['arguments'][:60]!r}"


def _check_pairing(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the tool calls without a tool message directly after them, and stray tool messages."""
    waiting: list[str] = []
    for index, message in enumerate([*messages, {"role": "end"}]):
        if message["role"] == "tool":
            if message.get("tool_call_id") not in waiting:
                yield f"messages[{index}] answers no call: {message.get('tool_call_id')}"
            else:
                waiting.remove(message["tool_call_id"])
            continue
        if waiting:
            yield f"no answer to {waiting} before messages[{index}]"
        waiting = [call["id"] for call in message.get("tool_calls") or ()]
