"""
Readers of a Chat Completions answer: one event, a whole body, or a body of events.

A whole answer goes through the same state machine as a stream; the resulting events are folded into
one message. The message is therefore the same, whichever form the client requests and whichever the
provider sends.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterable
from typing import Any

from ccproxy.convert.chat.stream import CUT_SHORT, ChatToMessageStream
from ccproxy.convert.chat.tool_calls import to_input
from ccproxy.convert.common.message_writer import AnswerContext, Event
from ccproxy.convert.direct.message_events import reading_events
from ccproxy.convert.errors.classify import (
    ProviderError,
    classify_error,
    classify_event,
    is_error_body,
)
from ccproxy.errors import BadAnswer, Problem
from ccproxy.protocol import chat, sse
from ccproxy.providers.quirks import Quirks

_SHOWN_BYTES = 2000
_SSE_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")


def read_event(event: sse.ServerEvent, quirks: Quirks) -> chat.Chunk | ProviderError:
    """Read one event of a stream; raise Problem if it is neither a chunk nor an error."""
    data = event.data
    if chat.is_heartbeat(data):
        return chat.Chunk()
    try:
        chunk = chat.decode(data)
    except Problem:
        if error := classify_event(data, quirks=quirks):
            return error
        raise
    if chunk.may_be_error and (error := classify_event(data, quirks=quirks)):
        return error
    if event.event == b"error":  # LM Studio
        text = data[:_SHOWN_BYTES].decode("utf-8", "replace")
        raise BadAnswer(f"The provider ended the answer with an error: {text}")
    return chunk


def read_completion(body: bytes, quirks: Quirks) -> chat.Completion | ProviderError:
    """
    Read the body of a whole answer with status 200.

    Raises:
        Problem: api_error if the body is neither a completion nor an error.
    """
    if is_error_body(body):
        return classify_error(200, {}, body, quirks=quirks)
    completion = chat.decode(body)
    if completion.may_be_error and (error := classify_event(body, quirks=quirks)):
        return error
    return completion


def is_stream(body: bytes) -> bool:
    """Return True if *body* begins like a stream of events, regardless of its headers."""
    return body[:256].removeprefix(BOM_UTF8).lstrip().startswith(_SSE_STARTS)


def to_message(body: bytes, context: AnswerContext) -> dict[str, Any]:
    """
    Convert the answer *body*, a completion or server-sent events, to a message.

    Raises:
        Problem: If the body is an error, is not an answer, or is incomplete.
    """
    if is_stream(body):
        return fold_stream(body, context)
    return fold(to_events(body, ChatToMessageStream(context), context))


def to_events(body: bytes, machine: ChatToMessageStream, context: AnswerContext) -> list[Event]:
    """Convert the completion *body* to all events of a message; see `to_message` for errors."""
    completion = read_completion(body, context.target.quirks)
    if isinstance(completion, ProviderError):
        raise completion.problem
    events = machine.feed(completion)
    machine.done()
    return events + machine.close()


def fold_stream(body: bytes, context: AnswerContext) -> dict[str, Any]:
    """Convert the server-sent events in *body* to a message; see `to_message` for errors."""
    machine = ChatToMessageStream(context)
    decoder = sse.Decoder(limit=max(sse.LIMIT, len(body)))
    events: list[Event] = []
    for received in decoder.feed(body) + decoder.close():
        if received.data.strip() == chat.DONE:
            machine.done()
            break
        try:
            chunk = read_event(received, context.target.quirks)
            if isinstance(chunk, ProviderError):
                raise chunk.problem
        except Problem:
            if not machine.complete:
                raise
            break
        events += machine.feed(chunk)
    return fold(events + machine.close())


def fold(events: Iterable[Event]) -> dict[str, Any]:
    """
    Return the message that *events* describe, from message_start to message_stop.

    Raises:
        BadAnswer: If *events* do not form a message.
    """
    with reading_events():
        return _folded(events)


def _folded(events: Iterable[Event]) -> dict[str, Any]:
    message: dict[str, Any] = {}
    block: dict[str, Any] = {}
    pieces: list[str] = []
    for event in events:
        match event["type"]:
            case "message_start":
                start = event["message"]
                message = {**start, "content": [], "usage": {**(start.get("usage") or {})}}
            case "content_block_start":
                block, pieces = dict(event["content_block"]), []
                if isinstance(block.get("citations"), list):
                    block["citations"] = list(block["citations"])  # the event keeps its own
                message["content"].append(block)
            case "content_block_delta":
                _add_delta(block, pieces, event["delta"])
            case "content_block_stop":
                _finish_block(block, "".join(pieces))
            case "message_delta":
                message |= event["delta"]
                if block.get("type") == "tool_use" and message["stop_reason"] in CUT_SHORT:
                    block["input"] = to_input("".join(pieces), is_cut=True)
                message["usage"] |= event.get("usage") or {}
    return message


def _add_delta(block: dict[str, Any], pieces: list[str], delta: dict[str, Any]) -> None:
    match delta["type"]:
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "citations_delta":
            block["citations"] = block.get("citations") or []
            block["citations"].append(delta["citation"])
        case _:
            text = delta.get("text") or delta.get("thinking") or delta.get("partial_json")
            pieces.append(text or "")


def _finish_block(block: dict[str, Any], text: str) -> None:
    match block["type"]:
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            block["input"] = to_input(text)
        case "text" | "thinking" as field:
            block[field] = text
