"""
POST /v1/chat/completions: the provider for OpenAI clients, with the same keys and models.

Request and answer keep every byte but the model's name. A stream is made valid all the same:
whole events, pings as comments, an error object if it is interrupted, `[DONE]` at the end.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from aiohttp import web

from ccproxy.convert.common.usage import to_usage
from ccproxy.errors import BadAnswer, Problem
from ccproxy.protocol import sse
from ccproxy.protocol.json_splice import replace_value
from ccproxy.protocol.messages import check_model
from ccproxy.worker.peers.forward import answer_by_peer, choose
from ccproxy.worker.server.error_response import JSON, openai_error
from ccproxy.worker.server.event_stream import EventStream
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.provider_exchange import admit, may_repeat, passed_key
from ccproxy.worker.server.stream_relay import relay_stream
from ccproxy.worker.upstream.provider_client import Outgoing

_COMMENT = b": ping\n\n"
_DONE = b"[DONE]"
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')


class _RequestOutline(msgspec.Struct):
    model: str
    stream: bool | None = None


class _AnswerOutline(msgspec.Struct):
    usage: dict[str, Any] | None = None


_REQUEST = msgspec.json.Decoder(_RequestOutline)
_ANSWER = msgspec.json.Decoder(_AnswerOutline)


async def chat_completions(request: ClientRequest) -> web.StreamResponse:
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
    _note_usage(request, outgoing, whole)
    return web.Response(body=whole, content_type=JSON)


def _outgoing(request: ClientRequest, body: bytes) -> Outgoing:
    config = request.worker.config
    if config.api == "messages":
        text = "this proxy's provider serves the Messages API: use /v1/messages"
        raise Problem("not_found_error", text)
    try:
        outline = _REQUEST.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = f"the request body is not a Chat Completions request: {error}"
        raise Problem("invalid_request_error", text) from error
    check_model(outline.model)
    chosen = request.chosen
    model = (chosen.model if chosen else None) or config.models.pick(outline.model)
    admit(request, outline.model, model, stream=bool(outline.stream), size=len(body))
    if model != outline.model:
        body = replace_value(body, ("model",), msgspec.json.encode(model))
    return Outgoing(
        url=config.chat_url(model),
        body=body,
        model=model,
        stream=bool(outline.stream),
        headers={},
        client_key=passed_key(request),
        hop=chosen.hop if chosen else 0,
        may_repeat=may_repeat(request),
        on_attempt=request.record.attempt,
        on_failure=request.attempt_failed,
    )


async def _stream(request: ClientRequest, outgoing: Outgoing) -> web.StreamResponse:
    worker = request.worker
    converter = _ChatEvents(request.record.request_id)
    commit_after = worker.config.early_commit
    async with EventStream(request, commit_after=commit_after, ping=_COMMENT) as events:
        source = worker.upstream.send(outgoing)
        response = await relay_stream(request, events, converter, source)
    _note_usage(request, outgoing, converter.usage)
    return response


class _ChatEvents:
    """Passes the events of a Chat stream on, and completes their end."""

    ended = False
    """The stream is always read to its end."""
    stopped = False

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._decoder = sse.Decoder()
        self._is_finished = self._is_done = False
        self.usage = b""
        """The last chunk with token counts; empty if there is none."""

    def feed(self, data: bytes) -> bytes:
        """Return the events that are complete."""
        return b"".join([self._passed(event) for event in self._decoder.feed(data)])

    def close(self) -> bytes:
        """
        Return `[DONE]`, unless the provider has sent it.

        Raises:
            BadAnswer: If the answer has no end.

        """
        rest = b"".join([self._passed(event) for event in self._decoder.close()])
        if not (self._is_finished or self._is_done):
            raise BadAnswer("the provider's stream broke off before the end of the answer")
        return rest if self._is_done else rest + b"data: " + _DONE + b"\n\n"

    def fail(self, problem: Problem) -> bytes:
        """Return an error object, as OpenAI sends it."""
        return b"data: " + openai_error(problem, self._request_id) + b"\n\n"

    def _passed(self, event: sse.ServerEvent) -> bytes:
        data = event.data
        self._is_done = self._is_done or data == _DONE
        self._is_finished = self._is_finished or _FINISH.search(data) is not None
        if _USAGE.search(data):
            self.usage = data
        if b"\n" in data:
            data = data.replace(b"\n", b"\ndata: ")
        return b"data: %b\n\n" % data


def _note_usage(request: ClientRequest, outgoing: Outgoing, answer: bytes) -> None:
    """Record the token counts of *answer*, if it has any."""
    try:
        usage = _ANSWER.decode(answer).usage
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    if usage:
        quirks = request.worker.config.target(outgoing.model).quirks
        request.record.end_model_request(to_usage(usage, quirks, input_estimate=0, chars=0), None)
