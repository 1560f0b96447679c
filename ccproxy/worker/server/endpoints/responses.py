"""
POST /v1/responses: the Responses API for OpenAI clients, with the same keys and models.

Only models that the provider serves in this API are reachable. Request and answer keep every byte
but the model's name and `store`: nothing is kept at the provider, so a client must send the whole
conversation with every request. Keys of several accounts could not share it anyway.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Raw

from ccproxy.convert.common.usage import to_usage
from ccproxy.convert.responses.stream import chat_usage
from ccproxy.errors import BadAnswer, Problem
from ccproxy.protocol import sse
from ccproxy.protocol.json_splice import fields_of, replace_value
from ccproxy.protocol.messages import check_model
from ccproxy.protocol.responses import FINAL_EVENTS, decode_event
from ccproxy.worker.peers.forward import answer_by_peer, choose
from ccproxy.worker.server.error_response import JSON
from ccproxy.worker.server.event_stream import EventStream
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.provider_exchange import admit, may_repeat, passed_key
from ccproxy.worker.server.stream_relay import relay_stream
from ccproxy.worker.upstream.provider_client import Outgoing

_COMMENT = b": ping\n\n"
_FALSE = Raw(b"false")
_END = re.compile(rb'"type"\s*:\s*"(?:response\.(?:completed|incomplete|failed|cancelled)|error)"')


class _RequestOutline(msgspec.Struct):
    model: str
    stream: bool | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: Any = None


class _AnswerOutline(msgspec.Struct):
    usage: Any = None


_REQUEST = msgspec.json.Decoder(_RequestOutline)
_ANSWER = msgspec.json.Decoder(_AnswerOutline)


async def responses(request: ClientRequest) -> web.StreamResponse:
    """Forward an OpenAI client's request to the model that its model name maps to."""
    body = await request.body()
    chosen = choose(request, body, rules=False)
    if chosen.ref is not None:
        return await answer_by_peer(request, chosen, path=request.path)
    outgoing = _outgoing(request, body)
    if outgoing.stream:
        return await _stream(request, outgoing)
    async with request.worker.upstream.send(outgoing) as answer:
        whole = await answer.read()
    _note_usage(request, outgoing, _usage_in(whole))
    return web.Response(body=whole, content_type=JSON)


def _outgoing(request: ClientRequest, body: bytes) -> Outgoing:
    worker = request.worker
    try:
        outline = _REQUEST.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = f"the request body is not a Responses request: {error}"
        raise Problem("invalid_request_error", text) from error
    check_model(outline.model)
    _check_stateless(outline)
    chosen = request.chosen
    model = (chosen.model if chosen else None) or worker.config.models.pick(outline.model)
    admit(request, outline.model, model, stream=bool(outline.stream), size=len(body))
    if worker.rules.target_of(model).api != "responses":
        text = f"{model} is not served in the Responses API here: use /v1/messages"
        raise Problem("not_found_error", text)
    if model != outline.model:
        body = replace_value(body, ("model",), msgspec.json.encode(model))
    if outline.store is not False:
        body = msgspec.json.encode({**(fields_of(body) or {}), "store": _FALSE})
    return Outgoing(
        url=worker.config.model_url(model, "responses"),
        body=body,
        model=model,
        stream=bool(outline.stream),
        api="responses",
        headers={},
        client_key=passed_key(request),
        hop=chosen.hop if chosen else 0,
        may_repeat=may_repeat(request),
        on_attempt=request.record.attempt,
        on_failure=request.attempt_failed,
    )


def _check_stateless(outline: _RequestOutline) -> None:
    """
    Refuse a request that refers to stored data.

    Raises:
        Problem: In OpenAI's words, after which clients send the whole conversation.
    """
    if outline.previous_response_id:
        text = f"Previous response with id '{outline.previous_response_id}' not found."
        raise Problem("invalid_request_error", text)
    if outline.store or outline.conversation:
        text = "this proxy stores no responses: set store to false and send the whole conversation"
        raise Problem("invalid_request_error", text)


async def _stream(request: ClientRequest, outgoing: Outgoing) -> web.StreamResponse:
    worker = request.worker
    converter = _ResponsesEvents()
    commit_after = worker.config.early_commit
    async with EventStream(request, commit_after=commit_after, ping=_COMMENT) as events:
        source = worker.upstream.send(outgoing)
        response = await relay_stream(request, events, converter, source)
    _note_usage(request, outgoing, converter.usage)
    return response


class _ResponsesEvents:
    """Passes the events of a Responses stream on, and checks that it has an end."""

    ended = False
    """The stream is always read to its end."""
    stopped = False

    def __init__(self) -> None:
        self._decoder = sse.Decoder()
        self._is_finished = False
        self.usage: object = None
        """The token counts of the final event."""

    def feed(self, data: bytes) -> bytes:
        """Return the events that are complete."""
        return b"".join([self._passed(event) for event in self._decoder.feed(data)])

    def close(self) -> bytes:
        """
        Return the last event, if its blank line never came.

        Raises:
            BadAnswer: If the answer has no end.
        """
        rest = b"".join([self._passed(event) for event in self._decoder.close()])
        if not self._is_finished:
            raise BadAnswer("the provider's stream broke off before the end of the answer")
        return rest

    def fail(self, problem: Problem) -> bytes:
        """Return an error event, as OpenAI sends it."""
        error = {"type": problem.kind, "code": None, "message": problem.message, "param": None}
        return sse.encode(b"error", msgspec.json.encode({"type": "error", "error": error}))

    def _passed(self, event: sse.ServerEvent) -> bytes:
        data = event.data
        if _END.search(data):
            self._look(data)
        if b"\n" in data:
            data = data.replace(b"\n", b"\ndata: ")
        return sse.encode(event.event, data) if event.event else b"data: %b\n\n" % data

    def _look(self, data: bytes) -> None:
        try:
            event = decode_event(data)
        except BadAnswer:
            return  # passed on as it is: the client reads the provider's own events
        if event.type in FINAL_EVENTS or event.type == "error":
            self._is_finished = True
            self.usage = event.response.usage if event.response else None


def _usage_in(answer: bytes) -> object:
    try:
        return _ANSWER.decode(answer).usage
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _note_usage(request: ClientRequest, outgoing: Outgoing, usage: object) -> None:
    """Record the token counts, if there are any."""
    if (counts := chat_usage(usage)) is not None:
        quirks = request.worker.rules.target_of(outgoing.model).quirks
        numbers = to_usage(counts, quirks, input_estimate=0, chars=0)
        request.record.end_model_request(numbers, None)
