"""
Read the events and whole answers of a Responses provider, and detect errors in them.

Errors have four forms: an `error` event (nested as OpenAI sends it, or flat as its SDK describes
it), a `response.failed` event, a whole answer with the status `failed`, and the usual error body.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ccproxy.convert.chat.answer import fold, is_stream
from ccproxy.convert.common.message_writer import AnswerContext, Event
from ccproxy.convert.errors.classify import ProviderError, classify_error, is_error_body
from ccproxy.convert.responses.stream import ResponsesToMessageStream
from ccproxy.errors import BadAnswer
from ccproxy.protocol import sse
from ccproxy.protocol.responses import (
    DONE,
    PREAMBLE_EVENTS,
    Response,
    StreamEvent,
    decode_event,
    decode_response,
)
from ccproxy.providers.quirks import Quirks

_FAILURE = (
    b'{"error":{"message":"The provider reports that the response failed, without a reason"}}'
)


def read_event(event: sse.ServerEvent, quirks: Quirks) -> StreamEvent | ProviderError:
    """Read one event of a stream. Raises BadAnswer if it is not JSON."""
    decoded = _decoded(event)
    error = _error_in(decoded, event.data)
    return decoded if error is None else classify_error(200, {}, error, quirks=quirks)


def read_response(body: bytes, quirks: Quirks) -> Response | ProviderError:
    """Read a whole answer with HTTP status 200. Raises BadAnswer if it is not a response."""
    if is_error_body(body):
        return classify_error(200, {}, body, quirks=quirks)
    response = decode_response(body)
    if response.status == "failed":
        return classify_error(200, {}, _FAILURE, quirks=quirks)
    if response.output is None and response.status is None:
        raise BadAnswer("The provider's answer is not a response: it has neither output nor status")
    return response


def find_first_output(events: Sequence[sse.ServerEvent]) -> tuple[bool, bytes | None]:
    """
    Find the first event after the preamble of an answer.

    Return whether such an event exists, and its error body if it is an error.

    Raises:
        BadAnswer: If an event is not JSON.
    """
    for event in events:
        if event.data.strip() == DONE:
            continue
        decoded = _decoded(event)
        if decoded.type not in PREAMBLE_EVENTS:
            return True, _error_in(decoded, event.data)
    return False, None


def _decoded(event: sse.ServerEvent) -> StreamEvent:
    """Decode *event*; some servers send the type only in the SSE event name."""
    decoded = decode_event(event.data)
    decoded.type = decoded.type or event.event.decode("ascii", "replace")
    return decoded


def _error_in(event: StreamEvent, data: bytes) -> bytes | None:
    """Return *event* as an error body, or None if it is not an error."""
    if event.type == "response.failed":
        error = event.response.error if event.response is not None else None
        return msgspec.json.encode({"error": error}) if error else _FAILURE
    if event.type == "error":
        return data
    return data if not event.type and is_error_body(data) else None


def to_message(
    body: bytes, context: AnswerContext, machine: ResponsesToMessageStream | None = None
) -> dict[str, Any]:
    """
    Convert the answer *body*, which is JSON or a stream of events, into a message.

    Callers that need more than the message pass a new *machine* and read its attributes.

    Raises:
        Problem: If the body is an error, is not an answer, or is incomplete.
    """
    machine = machine or ResponsesToMessageStream(context)
    if is_stream(body):
        return fold(_events_of_stream(body, machine, context))
    return fold(to_events(body, machine, context))


def to_events(
    body: bytes, machine: ResponsesToMessageStream, context: AnswerContext
) -> list[Event]:
    """Return all events of the whole answer *body*. Raises the same errors as `to_message`."""
    response = read_response(body, context.target.quirks)
    if isinstance(response, ProviderError):
        raise response.problem
    return machine.feed_response(response) + machine.close()


def _events_of_stream(
    body: bytes, machine: ResponsesToMessageStream, context: AnswerContext
) -> list[Event]:
    decoder = sse.Decoder(limit=max(sse.LIMIT, len(body)))
    events: list[Event] = []
    for received in decoder.feed(body) + decoder.close():
        if received.data.strip() == DONE or machine.complete:
            break
        event = read_event(received, context.target.quirks)
        if isinstance(event, ProviderError):
            raise event.problem
        events += machine.feed(event)
    return events + machine.close()
