"""
The rules of a strict provider for Chat Completions requests.

`violations` lists everything that a provider with the given quirks would reject. The rules follow
the documentation and error messages of providers and do not depend on the converter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from ccproxy.providers.quirks import Quirks

NAME = re.compile(r"[a-zA-Z0-9_-]+")
NINE = re.compile(r"[a-zA-Z0-9]{9}")

KNOWN_KEYS = {
    *("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop"),
    *("tools", "tool_choice", "parallel_tool_calls", "stream", "stream_options", "response_format"),
}
REASONING_KEYS = {
    "none": set(),
    "effort": {"reasoning_effort"},
    "thinking_type": {"thinking", "reasoning_effort"},
    "enable_thinking": {"enable_thinking", "thinking_budget"},
    "openrouter": {"reasoning"},
    "minimax": {"thinking"},
    "template_kwargs": {"chat_template_kwargs"},
    "explicit_effort": {"reasoning_effort"},
}
HISTORY_KEYS = {"reasoning_content", "reasoning", "reasoning_details"}
HISTORY_FIELDS = {"both_fields": {"reasoning_content", "reasoning"}}
DISABLED = (
    {"thinking": {"type": "disabled"}},
    {"enable_thinking": False},
    {"reasoning": {"enabled": False}},
    {"reasoning_effort": "none"},
    {"reasoning_effort": "minimal"},
)
ANTHROPIC_KEYS = {
    *("tool_use_id", "input_schema", "is_error", "signature", "defer_loading", "output_config"),
    *("context_management", "stop_sequences", "eager_input_streaming", "media_type"),
}
PART_TYPES = {"text", "image_url", "file", "document_url"}


def violations(body: dict[str, Any], *, quirks: Quirks) -> list[str]:
    """Return the faults of the request *body*; empty if a strict provider accepts it."""
    return [
        *_top_level(body, quirks),
        *_limits(body, quirks),
        *_tools(body, quirks),
        *_order(body["messages"], quirks),
        *_alternation(body["messages"], quirks),
        *(
            f"messages[{index}]: {complaint}"
            for index, message in enumerate(body["messages"])
            for complaint in _message(message, quirks)
        ),
        *_prefill(body["messages"], quirks),
    ]


# The body...


def _top_level(body: dict[str, Any], quirks: Quirks) -> Iterator[str]:
    names = KNOWN_KEYS | REASONING_KEYS[quirks.reasoning] | set(quirks.extra_body)
    names |= {"top_k"} if quirks.top_k else set()
    names |= {"tool_stream"} if quirks.tool_stream else set()
    names |= {"reasoning_split"} if quirks.reasoning_split else set()
    names |= {quirks.user_field} if quirks.user_field != "none" else set()
    names |= {"prompt_cache_key"} if quirks.cache_key else set()
    names -= set(quirks.refused_fields)
    for key in body.keys() - names:
        yield f"unknown key {key}"
    if "stream_options" in body and not (body.get("stream") and quirks.stream_options):
        yield "stream_options is refused"
    form = body.get("response_format", {}).get("type")
    if form not in (None, quirks.response_format):
        yield f"response_format {form} is refused"
    if form and body.get("stream") and not quirks.response_format_streams:
        yield "response_format together with stream is refused"
    if form and _thinks(body, quirks) and not quirks.format_with_thinking:
        yield "response_format while thinking is refused"
    if "chat_template_kwargs" in body and not quirks.template_kwargs:
        yield "chat_template_kwargs is refused"
    if max(len(body.get(name, "")) for name in (quirks.user_field, "prompt_cache_key")) > 64:
        yield "the user's name is too long"
    if body.get("reasoning_effort") not in (None, *quirks.efforts) and quirks.efforts:
        yield f"reasoning_effort {body['reasoning_effort']} is refused"
    if body.get("thinking", {}).get("type") == "disabled" and quirks.always_reasons:
        yield "thinking cannot be disabled"


def _limits(body: dict[str, Any], quirks: Quirks) -> Iterator[str]:
    fields = {"max_tokens", "max_completion_tokens"} & body.keys()
    if fields != {quirks.max_tokens_field}:
        yield f"the limit is called {quirks.max_tokens_field}, got {fields}"
    if any(body[field] < 1 for field in fields):
        yield "the limit is below 1"
    rests = quirks.sampling_without_effort and body.get("reasoning_effort", "none") == "none"
    if not quirks.sampling and not rests and {"temperature", "top_p"} & body.keys():
        yield "sampling parameters are refused"
    lowest, highest = quirks.temperature_range
    if not lowest <= body.get("temperature", lowest) <= highest:
        yield "temperature is out of range"
    stops = body.get("stop")
    if stops is not None and not (quirks.stop and 0 < len(stops) <= quirks.max_stops):
        yield "stop is refused"


# ...its tools...


def _tools(body: dict[str, Any], quirks: Quirks) -> Iterator[str]:
    tools = body.get("tools")
    if tools is None:
        for key in {"tool_choice", "parallel_tool_calls", "tool_stream"} & body.keys():
            yield f"{key} without tools"
        return
    if not tools:
        yield "an empty list of tools"
    names = [tool["function"]["name"] for tool in tools]
    if len(set(names)) != len(names):
        yield "two tools of one name"
    for tool in tools:
        yield from _tool(tool, quirks)
    yield from _choice(body.get("tool_choice"), names, quirks)
    is_forced = body.get("tool_choice") not in (None, "auto", "none")
    if is_forced and _thinks(body, quirks) and not quirks.forced_choice_with_thinking:
        yield "a forced tool_choice while thinking is refused"
    if "parallel_tool_calls" in body and not quirks.parallel_tool_calls:
        yield "parallel_tool_calls is refused"


def _thinks(body: dict[str, Any], quirks: Quirks) -> bool:
    """Return True if the model thinks, by default or on request."""
    if quirks.always_reasons:
        return True
    if quirks.reasoning in ("none", "explicit_effort"):
        return False
    switch = body.get("chat_template_kwargs", {}).get("enable_thinking")
    is_disabled = switch is False or any(off.items() <= body.items() for off in DISABLED)
    can_be_disabled = quirks.reasoning not in ("effort", "template_kwargs") or (
        quirks.reasoning == "template_kwargs" and quirks.template_kwargs
    )
    return can_be_disabled and not is_disabled


def _tool(tool: dict[str, Any], quirks: Quirks) -> Iterator[str]:
    function = tool["function"]
    if tool.keys() != {"type", "function"} or tool["type"] != "function":
        yield f"not a function: {tool}"
    if function.keys() - {"name", "description", "parameters"}:
        yield f"unknown keys in {function}"
    yield from _name(function["name"], quirks)
    parameters = function.get("parameters", {})
    if parameters.get("type") != "object" or not isinstance(parameters.get("properties"), dict):
        yield f"not an object schema: {parameters}"
    for keyword in {"anyOf", "oneOf", "allOf", "enum", "not", "$ref", "$schema"} & set(parameters):
        yield f"{keyword} at the root of a schema"


def _name(name: str, quirks: Quirks) -> Iterator[str]:
    if not NAME.fullmatch(name) or len(name) > quirks.tool_name_length:
        yield f"bad tool name {name!r}"


def _choice(choice: Any, names: list[str], quirks: Quirks) -> Iterator[str]:
    if isinstance(choice, dict):
        if "function" not in quirks.tool_choices or choice["function"]["name"] not in names:
            yield f"tool_choice {choice} is refused"
    elif choice is not None:
        term = "required" if choice == quirks.required_word else choice
        if term not in quirks.tool_choices:
            yield f"tool_choice {choice} is refused"


# ...the order of its messages, and...


def _order(messages: list[dict[str, Any]], quirks: Quirks) -> Iterator[str]:
    if not messages:
        yield "no messages"
    open_ids: list[str] = []
    observed: set[str] = set()
    before = None
    for index, message in enumerate(messages):
        role = message["role"]
        if role == "tool":
            if message["tool_call_id"] not in open_ids:
                yield f"messages[{index}]: a tool message without its call"
            else:
                open_ids.remove(message["tool_call_id"])
        elif open_ids:
            yield f"messages[{index}]: calls {open_ids} have no result before it"
            open_ids = []
        if before == "tool" and role not in ("tool", "assistant") and not quirks.user_after_tool:
            yield f"messages[{index}]: unexpected role {role} after role tool"
        if role == "system" and index and quirks.system_messages == "first":
            yield f"messages[{index}]: a second system message"
        ids = [call["id"] for call in message.get("tool_calls", ())]
        if observed & set(ids) or len(set(ids)) < len(ids):
            yield f"messages[{index}]: an id is used twice"
        observed |= set(ids)
        open_ids += ids
        before = role
    if open_ids:
        yield f"calls {open_ids} have no result"


def _alternation(messages: list[dict[str, Any]], quirks: Quirks) -> Iterator[str]:
    roles = [message["role"] for message in messages]
    if quirks.merge_user_messages and ("user", "user") in pairwise(roles):
        yield "roles must alternate"


def _prefill(messages: list[dict[str, Any]], quirks: Quirks) -> Iterator[str]:
    flagged = [bool({"prefix", "partial"} & message.keys()) for message in messages]
    expected = quirks.prefill != "plain" and messages[-1]["role"] == "assistant"
    if any(flagged[:-1]) or flagged[-1] != expected:
        yield "the flag of a prefill is on the wrong message"


# ...each message.


def _message(message: dict[str, Any], quirks: Quirks) -> Iterator[str]:
    role = message["role"]
    if role not in ("system", "user", "assistant", "tool"):
        yield f"unknown role {role}"
    for key in _deep_keys({key: value for key, value in message.items() if key != "tool_calls"}):
        if key in ANTHROPIC_KEYS or (key == "cache_control" and not quirks.cache_control):
            yield f"Anthropic's key {key}"
    if role != "assistant" and message.keys() - {"role", "content", "tool_call_id"}:
        yield f"unknown keys {sorted(message)}"
    for key in HISTORY_KEYS & message.keys():
        if key not in HISTORY_FIELDS.get(quirks.history, {quirks.history}):
            yield f"{key} is refused"
    yield from _marks(message)
    yield from _content(message, quirks)
    for call in message.get("tool_calls", ()):
        yield from _call(call, quirks)
    if message.get("tool_calls") == []:
        yield "an empty list of calls"


def _content(message: dict[str, Any], quirks: Quirks) -> Iterator[str]:
    content = message["content"]
    if not content:
        if not message.get("tool_calls"):
            yield "no content"
        if content is None and not quirks.null_content:
            yield "content is null"
    elif not isinstance(content, str):
        yield from _parts(message, content, quirks)


def _parts(message: dict[str, Any], content: list[dict[str, Any]], quirks: Quirks) -> Iterator[str]:
    kinds = {part["type"] for part in content}
    if message["role"] == "assistant" and quirks.history == "thinking_parts":
        kinds -= {"thinking"}
    elif message["role"] in ("assistant", "tool") and not quirks.cache_control:
        yield "content is not a string"
    if kinds - PART_TYPES or (message["role"] == "tool" and kinds != {"text"}):
        yield f"unexpected parts {kinds}"
    if "image_url" in kinds and not quirks.images:
        yield "an image for a model that does not see"
    marked = any("cache_control" in part for part in content)
    only_text = all(part["type"] == "text" for part in content)
    if only_text and quirks.flat_text and not marked:
        yield "text in parts"
    for part in content:
        if part["type"] == "text" and not (isinstance(part["text"], str) and part["text"]):
            yield f"an empty text part: {part}"
        if part["type"] == "text" and ";base64," in str(part["text"]):
            yield "base64 in text"
        if part["type"] == "image_url" and not part["image_url"]["url"]:
            yield "an image without an address"


def _call(call: dict[str, Any], quirks: Quirks) -> Iterator[str]:
    if call["type"] != "function" or call["function"].keys() != {"name", "arguments"}:
        yield f"not a function call: {call}"
    yield from _name(call["function"]["name"], quirks)
    if not isinstance(json.loads(call["function"]["arguments"]), dict):
        yield "the arguments are no object"
    fits = {
        "any": call["id"],
        "forty": 0 < len(call["id"]) <= 40,
        "nine": NINE.fullmatch(call["id"]),
        "functions": call["id"].startswith(f"functions.{call['function']['name']}:"),
    }
    if not fits[quirks.tool_ids]:
        yield f"bad id {call['id']!r}"
    if "extra_content" in call and not quirks.thought_signatures:
        yield "a thought signature is refused"


def _marks(message: dict[str, Any]) -> Iterator[str]:
    content = message["content"]
    for part in content if isinstance(content, list) else ():
        if part.get("cache_control", {}).keys() - {"type", "ttl"}:
            yield f"unknown keys in cache_control: {part}"


def _deep_keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from _deep_keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _deep_keys(inner)
