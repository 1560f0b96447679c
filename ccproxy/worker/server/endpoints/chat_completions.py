"""
POST /v1/chat/completions: the provider for OpenAI clients, with the same keys and models.

The request keeps every byte but the model's name, the answer every byte. A stream is held to
the API's word all the same: whole events, pings as comments, an error object if it breaks off,
`[DONE]` at the end.
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
from ccproxy.worker.peers.forward import answer_elsewhere, choose
from ccproxy.worker.server.error_response import JSON, openai_error
from ccproxy.worker.server.event_stream import EventStream
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.provider_exchange import ending_as_problem, note_answer, passed_key, told
from ccproxy.worker.upstream.client import Answer, Outgoing

_COMMENT = b": ping\n\n"
_DONE = b"[DONE]"
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')


class _Head(msgspec.Struct):
    model: str
    stream: bool | None = None


class _Answer(msgspec.Struct):
    usage: dict[str, Any] | None = None


_HEAD = msgspec.json.Decoder(_Head)
_ANSWER = msgspec.json.Decoder(_Answer)


async def chat_completions(request: ClientRequest) -> web.StreamResponse:
    """Forward an OpenAI client's request to the model that its model name maps to."""
    body = await request.body()
    chosen = choose(request, body, rules=False)
    if chosen.place is not None:
        return await answer_elsewhere(request, chosen, path=request.path)
    outgoing = _outgoing(request, body)
    if outgoing.stream:
        return await _stream(request, outgoing)
    async with request.worker.upstream.send(outgoing) as answer:
        note_answer(request, answer)
        whole = await answer.read()
        _note_usage(request, outgoing, whole)
        return web.Response(body=whole, content_type=JSON)


def _outgoing(request: ClientRequest, body: bytes) -> Outgoing:
    config, record = request.worker.config, request.record
    if config.api == "messages":
        text = "this proxy speaks the Messages API to its provider: ask /v1/messages"
        raise Problem("not_found_error", text)
    try:
        head = _HEAD.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = f"the request body is not a Chat Completions request: {error}"
        raise Problem("invalid_request_error", text) from error
    check_model(head.model)
    chosen = request.chosen
    model = (chosen.model if chosen else None) or config.models.pick(head.model)
    record.requested, record.model, record.stream = head.model, model, bool(head.stream)
    if model != head.model:
        body = replace_value(body, ("model",), msgspec.json.encode(model))
    return Outgoing(
        url=config.chat_url(model),
        body=body,
        model=model,
        stream=bool(head.stream),
        headers={},
        client_key=passed_key(request),
        hop=chosen.hop if chosen else 0,
    )


async def _stream(request: ClientRequest, outgoing: Outgoing) -> web.StreamResponse:
    worker = request.worker
    commit_after = worker.config.early_commit
    async with EventStream(request, commit_after=commit_after, ping=_COMMENT) as events:
        try:
            with ending_as_problem(worker):
                async with worker.upstream.send(outgoing) as answer:
                    note_answer(request, answer)
                    told_usage = await _relay(answer, events)
                _note_usage(request, outgoing, told_usage)
        except Problem as problem:
            if not events.is_open:
                raise
            body = openai_error(told(request, problem), request.record.request_id)
            await events.write(b"data: " + body + b"\n\n")
        return await events.finish()


async def _relay(answer: Answer, events: EventStream) -> bytes:
    """Pass the answer on; return the chunk that tells its usage, nothing if none does."""
    decoder = sse.Decoder()
    finished = done = False
    told_usage = b""
    async for data in answer.chunks():
        found = decoder.feed(data)
        finished = finished or any(_FINISH.search(event.data) for event in found)
        done = done or any(event.data == _DONE for event in found)
        for event in found:
            if _USAGE.search(event.data):
                told_usage = event.data
        if found:
            await events.write(b"".join(b"data: %b\n\n" % event.data for event in found))
    if not (finished or done):
        raise BadAnswer("the provider's stream broke off before the end of the answer")
    if not done:
        await events.write(b"data: " + _DONE + b"\n\n")
    return told_usage


def _note_usage(request: ClientRequest, outgoing: Outgoing, answer: bytes) -> None:
    """Put into the record what *answer* says was used; without a word about it, nothing."""
    try:
        found = _ANSWER.decode(answer).usage
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    if found:
        quirks = request.worker.config.target(outgoing.model).quirks
        request.record.usage = to_usage(found, quirks, input_estimate=0, chars=0)
