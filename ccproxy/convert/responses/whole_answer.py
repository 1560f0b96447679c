"""A whole answer: the events of the state machine, folded into one message."""

from __future__ import annotations

from typing import Any

from ccproxy.convert.chat.answer import fold, is_stream
from ccproxy.convert.common.message_writer import AnswerContext, Event
from ccproxy.convert.errors.classify import ProviderError
from ccproxy.convert.responses.answer import read_event, read_response
from ccproxy.convert.responses.stream import ResponsesToMessageStream
from ccproxy.protocol import sse
from ccproxy.protocol.responses import DONE


def to_message(body: bytes, context: AnswerContext) -> dict[str, Any]:
    """
    Return the answer *body* as a message; a body of server-sent events is one too.

    Raises:
        Problem: If it is an error, no answer, or only a part of one.
    """
    machine = ResponsesToMessageStream(context)
    if is_stream(body):
        return fold(_events_of_stream(body, machine, context))
    return fold(to_events(body, machine, context))


def to_events(
    body: bytes, machine: ResponsesToMessageStream, context: AnswerContext
) -> list[Event]:
    """Return all events of the whole answer *body*; raises as `to_message` does."""
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
