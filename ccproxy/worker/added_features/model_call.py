"""
Requests of ccproxy's own to a model of any entry: the judge of auto mode, the describer of images.

Another entry's worker serves the request like any other, and charges who sent the client's. A model
of this entry is asked by this worker; the request has a record of its own, so its tokens count
separately.
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
    Return the message with which the model *name* answers, for the client's *request*.

    Raises:
        Problem: If there is no answer.
    """
    worker = request.worker
    body = msgspec.json.encode({"model": name, **fields, "stream": False})
    # The client's headers have the number of workers that the request has passed.
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
