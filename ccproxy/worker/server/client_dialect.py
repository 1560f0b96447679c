"""
The API in which a client asks, for the steps that are the same for all of them.

The requests of every API go the same way: an exchange makes the provider's request and the client's
answer, and the same keys, retries and fallbacks apply. What differs is here. The endpoint sets
`request.dialect`; the default is the Messages API.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from ccproxy.convert.openai_clients.openai_errors import openai_error, stream_error
from ccproxy.convert.stream_converter import StreamConverter
from ccproxy.errors import Problem
from ccproxy.protocol import sse
from ccproxy.protocol.messages import error_body

if TYPE_CHECKING:
    from ccproxy.convert.openai_clients.response_writer import ResponseWriter


class ClientDialect:
    """How the answer to a request is written; this class writes Messages, as the exchange does."""

    path = "/v1/messages"
    """The path of the API, for requests to peers."""

    def ping(self) -> bytes:
        """Return what fills a silence now."""
        return sse.PING

    def stream(self, converter: StreamConverter) -> StreamConverter:
        """Return the converter for the client, from the one of the exchange."""
        return converter

    def whole(self, answer: bytes) -> bytes:
        """Return what the client gets for the whole *answer* of the exchange."""
        return answer

    def error_event(self, problem: Problem, request_id: str) -> bytes:
        """Return the event that ends a stream which has broken off."""
        return sse.encode(b"error", error_body(problem, request_id))


class CompletionsDialect(ClientDialect):
    """The exchange writes what the client gets: Chat Completions."""

    path = "/v1/chat/completions"

    def ping(self) -> bytes:
        """Return a comment; the API has no ping."""
        return sse.COMMENT

    def error_event(self, problem: Problem, request_id: str) -> bytes:
        """Return an error object, as OpenAI sends it."""
        return b"data: " + openai_error(problem, request_id) + b"\n\n"


class PassedResponsesDialect(ClientDialect):
    """The exchange writes what the client gets: Responses."""

    path = "/v1/responses"

    def __init__(self, ping: Callable[[], bytes] = lambda: sse.COMMENT) -> None:
        self._ping = ping

    def ping(self) -> bytes:
        """Return an event once the response has begun, and a comment before."""
        return self._ping()

    def error_event(self, problem: Problem, request_id: str) -> bytes:  # noqa: ARG002 - the API has none
        """Return an error event, as OpenAI sends it."""
        error = {"type": "error", **stream_error(problem), "param": None, "sequence_number": 0}
        return sse.encode(b"error", msgspec.json.encode(error))


class ResponsesDialect(PassedResponsesDialect):
    """
    The exchange writes Messages, and the client gets Responses.

    The conversion is imported here: a worker without such clients does without it.
    """

    def __init__(self, writer: ResponseWriter) -> None:
        super().__init__(writer.keep_alive)
        self._writer = writer

    def stream(self, converter: StreamConverter) -> StreamConverter:
        """Return a converter of what *converter* makes."""
        from ccproxy.convert.openai_clients.response_stream import ResponseStream

        return ResponseStream(converter, self._writer)

    def whole(self, answer: bytes) -> bytes:
        """Return the response for the message *answer*."""
        from ccproxy.convert.openai_clients.response_stream import whole_response

        return whole_response(answer, self._writer)


MESSAGES = ClientDialect()
