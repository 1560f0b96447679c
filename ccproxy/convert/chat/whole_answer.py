"""
A whole answer: the events of the state machine, folded into one message.

So a whole answer and the folded stream of the same answer are the same message, whichever of the
two the client asked for and whichever the provider sends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ccproxy.convert.chat.answer import read_completion, read_event
from ccproxy.convert.chat.plain_answer import plain_message
from ccproxy.convert.chat.stream import ChatToMessageStream
from ccproxy.convert.chat.tool_calls import to_input
from ccproxy.convert.common.message_writer import AnswerContext, Event
from ccproxy.convert.errors.classify import ProviderError
from ccproxy.errors import Problem
from ccproxy.protocol import chat, sse

_SSE_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")


def to_message(body: bytes, context: AnswerContext) -> dict[str, Any]:
    """
    Return the answer *body* as a message; a body of server-sent events is one too.

    Raises:
        Problem: If it is an error, no answer, or only a part of one.
    """
    if is_stream(body):
        return fold_stream(body, context)
    completion = _completion(body, context)
    return plain_message(completion, context) or fold(
        _events_of(completion, ChatToMessageStream(context))
    )


def is_stream(body: bytes) -> bool:
    """Tell by its beginning whether *body* is a stream of events, whatever its headers say."""
    return body[:256].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_SSE_STARTS)


def to_events(body: bytes, machine: ChatToMessageStream, context: AnswerContext) -> list[Event]:
    """Return all the events of the whole answer *body*; raises as `to_message` does."""
    return _events_of(_completion(body, context), machine)


def _completion(body: bytes, context: AnswerContext) -> chat.Completion:
    completion = read_completion(body, context.target.quirks)
    if isinstance(completion, ProviderError):
        raise completion.problem
    return completion


def _events_of(completion: chat.Completion, machine: ChatToMessageStream) -> list[Event]:
    events = machine.feed(completion)
    machine.done()
    return events + machine.close()


def fold_stream(body: bytes, context: AnswerContext) -> dict[str, Any]:
    """Return the message that the events in *body* make; raises as `to_message` does."""
    machine = ChatToMessageStream(context)
    decoder = sse.Decoder(limit=max(sse.LIMIT, len(body)))
    events: list[Event] = []
    for received in decoder.feed(body) + decoder.close():
        if received.data.strip() == chat.DONE:
            machine.done()
            break
        try:
            chunk = _chunk(received, context)
        except Problem:
            if not machine.complete:
                raise
            break
        events += machine.feed(chunk)
    return fold(events + machine.close())


def _chunk(event: sse.ServerEvent, context: AnswerContext) -> chat.Chunk:
    chunk = read_event(event, context.target.quirks)
    if isinstance(chunk, ProviderError):
        raise chunk.problem
    return chunk


def fold(events: Iterable[Event]) -> dict[str, Any]:
    """Return the message that *events* stream, from message_start to message_stop."""
    message: dict[str, Any] = {}
    block: dict[str, Any] = {}
    pieces: list[str] = []
    for event in events:
        match event["type"]:
            case "message_start":
                begun = event["message"]
                message = {**begun, "content": [], "usage": {**begun["usage"]}}
            case "content_block_start":
                block, pieces = dict(event["content_block"]), []
                message["content"].append(block)
            case "content_block_delta":
                _add(block, pieces, event["delta"])
            case "content_block_stop":
                _finish(block, "".join(pieces))
            case "message_delta":
                message |= event["delta"]
                message["usage"] |= event["usage"]
    return message


def _add(block: dict[str, Any], pieces: list[str], delta: dict[str, str]) -> None:
    if delta["type"] == "signature_delta":
        block["signature"] = delta["signature"]
        return
    pieces.append(delta.get("text") or delta.get("thinking") or delta.get("partial_json") or "")


def _finish(block: dict[str, Any], text: str) -> None:
    if block["type"] == "tool_use":
        block["input"] = to_input(text)
    else:
        block[block["type"]] = text
