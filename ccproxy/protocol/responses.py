"""
Wire types of OpenAI's Responses API: stream events, output items and whole responses.

Only the fields that conversion reads are decoded. Containers are typed; leaves are `Any`, because
servers send nearly anything there (null, "", objects instead of strings), and their readers check
the type. A whole answer is a `Response`; a stream ends with an event that contains one.

Source: the `openai` package, `openai/types/responses/`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ccproxy.protocol.json_splice import NOT_JSON
from ccproxy.protocol.lenient_json import check_objects, decode_leniently


class Item(msgspec.Struct, gc=False):
    """One entry of `output`: a message, a function call, reasoning or a hosted tool's call."""

    type: Any = None
    id: Any = None
    status: Any = None
    content: Any = None
    """Parts of a message (`output_text`, `refusal`) or of open reasoning (`reasoning_text`)."""
    summary: Any = None
    """Parts of a reasoning summary (`summary_text`)."""
    encrypted_content: Any = None
    call_id: Any = None
    name: Any = None
    arguments: Any = None
    input: Any = None
    """The free text of a custom tool call."""
    action: Any = None
    """The action of a `web_search_call`."""


class IncompleteDetails(msgspec.Struct, gc=False):
    """The reason why a response ended early."""

    reason: Any = None


class Response(msgspec.Struct, gc=False):
    """A whole answer, or its state in the first and the last event of a stream."""

    status: Any = None
    output: list[Item] | None = None
    usage: Any = None
    incomplete_details: IncompleteDetails | None = None
    error: Any = None
    input_transformations: Any = None
    """Reasoning items of the request that the API removed, with the reasons."""


class StreamEvent(msgspec.Struct, gc=False):
    """One event of a stream; which fields are set depends on `type`."""

    type: str = ""
    output_index: Any = None
    content_index: Any = None
    summary_index: Any = None
    delta: Any = None
    text: Any = None
    refusal: Any = None
    arguments: Any = None
    item: Item | None = None
    response: Response | None = None


FINAL_EVENTS: Final = frozenset(
    ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
)
"""Exactly one of these ends a stream."""
PREAMBLE_EVENTS: Final = frozenset(
    ("response.created", "response.queued", "response.in_progress", "keepalive", "ping")
)
"""Events before the first output; an error may still follow them."""
HANDLED_EVENTS: Final = FINAL_EVENTS | frozenset(
    (
        "error",
        "response.output_item.added",
        "response.output_item.done",
        "response.output_text.delta",
        "response.output_text.done",
        "response.refusal.delta",
        "response.refusal.done",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
    )
)
"""Events that conversion reads; about sixty other types exist."""
DONE: Final = b"[DONE]"
"""Sent by gateways, but not by OpenAI."""


class _EventType(msgspec.Struct, gc=False):
    type: str = ""


_EVENT = msgspec.json.Decoder(StreamEvent)
_EVENT_TYPE = msgspec.json.Decoder(_EventType)
_RESPONSE = msgspec.json.Decoder(Response)


def decode_event(data: bytes) -> StreamEvent:
    """
    Decode one event of a stream; for an unknown type, only the type.

    Raises:
        BadAnswer: If *data* is not JSON, not in this format, or too large.
    """
    check_objects(data)
    try:
        return _EVENT.decode(data)
    except msgspec.ValidationError:
        if (event_type := _type_of(data)) and event_type not in HANDLED_EVENTS:
            return StreamEvent(type=event_type)
        return decode_leniently(data, StreamEvent)
    except NOT_JSON:
        return decode_leniently(data, StreamEvent)


def decode_response(data: bytes) -> Response:
    """Decode a whole answer; raise BadAnswer if *data* is malformed or too large."""
    check_objects(data)
    try:
        return _RESPONSE.decode(data)
    except NOT_JSON:
        return decode_leniently(data, Response)


def _type_of(data: bytes) -> str:
    try:
        return _EVENT_TYPE.decode(data).type
    except NOT_JSON:
        return ""
