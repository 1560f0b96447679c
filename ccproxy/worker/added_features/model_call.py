"""
Send ccproxy's own requests to a model of any entry, for auto mode and image descriptions.

If the model belongs to another entry, its worker handles the request like any other, and charges
the sender of the client's request. Otherwise this worker sends the request to the provider, with a
separate record, so its tokens are counted separately.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from ccproxy.convert.direct.message_events import read_message
from ccproxy.errors import Problem
from ccproxy.worker.added_features.model_round import model_answer, model_exchange
from ccproxy.worker.peers.peer_request import payer_of
from ccproxy.worker.server.access_record import AccessRecord
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.provider_exchange import (
    begin_exchange,
    end_exchange,
    finish_record,
    noted,
)

_PATH = "/v1/messages"
_HEADERS = CIMultiDictProxy(CIMultiDict({"anthropic-version": "2023-06-01"}))


async def ask_model(request: ClientRequest, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """
    Send a request with *fields* to the model *name* on behalf of the client's *request*.

    Return the answer as a message.

    Raises:
        Problem: If the request fails.
    """
    worker = request.worker
    body = msgspec.json.encode({"model": name, **fields, "stream": False})
    # The client's headers contain the number of workers that have forwarded the request.
    chosen = worker.chooser.choose(body, request.headers, None)
    own = copy.copy(request)
    own.chosen, own.read_prompt = chosen, None
    own.record = AccessRecord(request_id=worker.new_id("req"), method="POST", path=_PATH)
    if chosen.ref is None:
        return read_message(await _answered_here(own, body))
    payer = worker.payers.header(*payer_of(request))
    async with worker.peer_client.send(
        chosen, chosen.ref, path=_PATH, client=_HEADERS, payer=payer
    ) as answer:
        data = await answer.read()
        if answer.status != 200:
            text = data[:300].decode("utf-8", "replace")
            raise Problem("api_error", f"{chosen.ref} answered {answer.status}: {text}")
        return read_message(data)


async def _answered_here(request: ClientRequest, body: bytes) -> bytes:
    record = request.record
    record.status = 200
    try:
        exchange = model_exchange(request, body)
        begin_exchange(request, exchange)
        async with model_answer(request, exchange) as answer:
            whole = exchange.whole(await answer.read())
        end_exchange(request, exchange)
        return whole
    except Problem as problem:
        record.status = problem.status
        raise noted(request, problem) from problem
    finally:
        finish_record(request, counts=True)
