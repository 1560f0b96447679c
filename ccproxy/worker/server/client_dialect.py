"""
The client's API: the steps that depend on it.

Requests of every API take the same path: an exchange makes the provider's request and the client's
answer, and the same keys, retries and fallbacks apply. This module contains only the differences.
The endpoint sets `request.dialect`; the default is the Messages API.
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
    """Writes answers in the client's API; this class keeps the exchange's Messages format."""

    path = "/v1/messages"
    """The path of the API, for requests to peers."""

    def ping(self) -> bytes:
        """Return the keep-alive to send during a silence."""
        return sse.PING

    def stream(self, converter: StreamConverter) -> StreamConverter:
        """Return the client's converter, made from the exchange's *converter*."""
        return converter

    def whole(self, answer: bytes) -> bytes:
        """Return the client's response body for the exchange's whole *answer*."""
        return answer

    def error_event(self, problem: Problem, request_id: str) -> bytes:
        """Return the event that ends an interrupted stream."""
        return sse.encode(b"error", error_body(problem, request_id))


class CompletionsDialect(ClientDialect):
    """Chat Completions, as the exchange already writes them."""

    path = "/v1/chat/completions"

    def ping(self) -> bytes:
        """Return a comment, because the API has no ping event."""
        return sse.COMMENT

    def error_event(self, problem: Problem, request_id: str) -> bytes:
        """Return an error object, as OpenAI sends it."""
        return b"data: " + openai_error(problem, request_id) + b"\n\n"


class PassedResponsesDialect(ClientDialect):
    """Responses, as the exchange already writes them."""

    path = "/v1/responses"

    def __init__(self, ping: Callable[[], bytes] = lambda: sse.COMMENT) -> None:
        self._ping = ping

    def ping(self) -> bytes:
        """Return an event once the response has begun, and a comment before that."""
        return self._ping()

    def error_event(self, problem: Problem, request_id: str) -> bytes:  # noqa: ARG002 - the API has none
        """Return an error event, as OpenAI sends it."""
        error = {"type": "error", **stream_error(problem), "param": None, "sequence_number": 0}
        return sse.encode(b"error", msgspec.json.encode(error))


class ResponsesDialect(PassedResponsesDialect):
    """
    Converts the Messages that the exchange writes into Responses.

    The conversion is imported on demand: a worker without such clients does not load it.
    """

    def __init__(self, writer: ResponseWriter) -> None:
        super().__init__(writer.keep_alive)
        self._writer = writer

    def stream(self, converter: StreamConverter) -> StreamConverter:
        """Return a converter that converts the output of *converter*."""
        from ccproxy.convert.openai_clients.response_stream import ResponseStream

        return ResponseStream(converter, self._writer)

    def whole(self, answer: bytes) -> bytes:
        """Return the response for the message *answer*."""
        from ccproxy.convert.openai_clients.response_stream import whole_response

        return whole_response(answer, self._writer)


MESSAGES = ClientDialect()
