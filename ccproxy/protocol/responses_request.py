"""
Requests from clients of the Responses API.

Only the fields that conversion reads are decoded; strings stay `Raw`. Unknown fields, items and
tools are never an error, because the API grows.

Source: the `openai` package, `openai/types/responses/response_create_params.py`, and the requests
of Codex CLI 0.171.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw

from ccproxy.errors import Problem
from ccproxy.protocol.lenient_json import replace_lone_surrogates
from ccproxy.protocol.literals import (
    ABSENT,
    BRACKET,
    QUOTE,
    invalid_request,
    is_present,
    is_string,
    read,
)
from ccproxy.protocol.messages import MAX_BLOCKS, MAX_MESSAGES, check_model


class InputItem(msgspec.Struct, gc=False):
    """One item of `input`; which fields are set depends on `type`."""

    type: str = "message"
    role: str = ""
    content: Raw = ABSENT
    call_id: str | None = None
    name: str = ""
    namespace: str | None = None
    arguments: Raw = ABSENT
    """JSON in a string; an object in a `tool_search_call`."""
    input: Raw = ABSENT
    """The free text of a custom tool call."""
    action: Raw = ABSENT
    """The command of a `local_shell_call`."""
    output: Raw = ABSENT
    summary: Raw = ABSENT
    encrypted_content: str | None = None
    reasoning: ReasoningConfig | None = None
    """The new settings in a `configuration_update`."""
    tools: list[ToolDefinition] = []
    """The tools that an `additional_tools` or a `tool_search_output` adds."""


class InputPart(msgspec.Struct, gc=False):
    """One part of a message's content or of an output."""

    type: str = ""
    text: Raw = ABSENT
    refusal: Raw = ABSENT
    image_url: Any = None
    file_id: Any = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None


class ToolDefinition(msgspec.Struct, gc=False):
    """A tool of any type; a namespace contains others."""

    type: str = ""
    name: str = ""
    description: str | None = None
    parameters: Raw = ABSENT
    strict: bool | None = None
    format: dict[str, Any] | None = None
    """The grammar of a custom tool's input."""
    execution: str | None = None
    """The side that runs a `tool_search`, such as "client"."""
    filters: dict[str, Any] | None = None
    user_location: dict[str, Any] | None = None
    tools: list[ToolDefinition] = []


class ReasoningConfig(msgspec.Struct, gc=False):
    """The reasoning that the client requests."""

    effort: str | None = None
    summary: str | None = None


class TextConfig(msgspec.Struct, gc=False):
    """The required format of the answer."""

    format: dict[str, Raw] | None = None
    verbosity: str | None = None


class ResponsesRequest(msgspec.Struct, gc=False):
    """A request; `input` is a string or a list of items, see `items_of`."""

    model: str
    input: Raw = ABSENT
    instructions: Raw = ABSENT
    tools: list[ToolDefinition] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    reasoning: ReasoningConfig | None = None
    text: TextConfig | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool | None = None
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    user: str | None = None


class ResponsesOutline(msgspec.Struct, gc=False):
    """The fields that are read from every request, even from one that is forwarded unconverted."""

    model: str
    stream: bool | None = None
    store: bool | None = None
    # References to stored data.
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    background: bool | None = None


_OUTLINE = msgspec.json.Decoder(ResponsesOutline)
_REQUEST = msgspec.json.Decoder(ResponsesRequest)
_ITEMS = msgspec.json.Decoder(list[InputItem])
_PARTS = msgspec.json.Decoder(list[InputPart])
_LARGE: Final = 4 * 1024 * 1024
"""Bytes; the parts of smaller requests need not be counted."""


def read_responses_outline(body: bytes) -> ResponsesOutline:
    """
    Read the outline of a request.

    Raises:
        Problem: If *body* is not a request, or refers to stored data.
    """
    outline = read(_OUTLINE, replace_lone_surrogates(body))
    check_model(outline.model)
    _check_stateless(outline)
    return outline


def read_responses_request(body: bytes) -> ResponsesRequest:
    """
    Read a whole request for conversion.

    Raises:
        Problem: With the path of the invalid field.
    """
    request = read(_REQUEST, replace_lone_surrogates(body))
    if len(body) > _LARGE and body.count(b'"type"') > MAX_BLOCKS:
        text = f"input: at most {MAX_BLOCKS:,} items and parts are allowed"
        raise Problem("request_too_large", text)
    return request


def items_of(request: ResponsesRequest) -> list[InputItem]:
    """
    Decode the items of the input; a string is one user message.

    Raises:
        Problem: If the input is neither a string nor a list of items, or is empty.
    """
    if is_string(request.input):
        return [InputItem(role="user", content=request.input)]
    if not is_present(request.input):
        raise invalid_request("Field required", "input")
    items = read(_ITEMS, request.input, "input")
    if not items:
        raise invalid_request("at least one item is required", "input")
    if len(items) > MAX_MESSAGES:
        raise invalid_request(f"at most {MAX_MESSAGES:,} items are allowed", "input")
    return items


def parts_of(content: Raw, *path: str | int) -> list[InputPart]:
    """Decode a `content` or `output` field; a string is returned as one text part."""
    opening = memoryview(content)[0] if content is not ABSENT else 0
    if opening == QUOTE:
        return [InputPart("input_text", content)]
    if opening == BRACKET:
        return read(_PARTS, content, *path)
    if not is_present(content):
        return []
    raise invalid_request("Input should be a valid string or list of parts", *path)


def _check_stateless(outline: ResponsesOutline) -> None:
    """
    Refuse a request that refers to stored data.

    Raises:
        Problem: With OpenAI's wording, which makes clients send the whole conversation.
    """
    if outline.previous_response_id:
        text = (
            f"Previous response with id '{outline.previous_response_id}' not found. This proxy "
            "stores no responses: send the whole conversation"
        )
        raise Problem("invalid_request_error", text)
    if outline.store or outline.background or outline.conversation:
        text = (
            "this proxy stores no responses: set store to false, leave out background and "
            "conversation, and send the whole conversation"
        )
        raise Problem("invalid_request_error", text)
    if outline.prompt:
        raise invalid_request("this proxy stores no prompt templates", "prompt")
