"""GET /test-connection: one small request, which shows whether the key and the model work."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from ccproxy.convert.direct.passthrough import Passthrough
from ccproxy.convert.exchange import Exchange
from ccproxy.errors import Problem
from ccproxy.worker.server.error_response import redacted
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.json_response import json_response, now
from ccproxy.worker.server.provider_exchange import begin_exchange, outgoing
from ccproxy.worker.test_request import build_test_request, url_of_test_request

_ADVICE = {
    "authentication_error": "check PROVIDER_API_KEY in the env file: the provider refuses the key",
    "permission_error": "check that the key may use this model, and that this region is served",
    "billing_error": "check the balance of the provider's account",
    "not_found_error": "check SMALL_MODEL and PROVIDER_BASE_URL: the provider has no such model",
    "rate_limit_error": "wait, or add a second key to PROVIDER_API_KEY",
    "timeout_error": "check PROVIDER_BASE_URL and UPSTREAM_PROXY",
    "overloaded_error": "wait: the provider is overloaded",
    "invalid_request_error": "check PROVIDER and SMALL_MODEL: the provider refuses the request",
}
_OTHER_ADVICE = "check PROVIDER_BASE_URL; the provider's response is in the log file"


async def test_connection(request: ClientRequest) -> web.Response:
    """
    Ask the small model for one word.

    Raises:
        Problem: 403 for a gateway user who is not an admin: no budget is charged for the test.
    """
    if request.user is not None and not request.user.is_admin:
        text = f"{request.user.name} may not test the provider: set admin = true in users.toml"
        raise Problem("permission_error", text, should_retry=False)
    try:
        exchange = build_test_request(request.worker, request_id=request.record.request_id)
        message = await _send(request, exchange)
    except Problem as problem:
        problem = redacted(problem, request.worker.logs.redact)
        return json_response(_failure(problem), status=503)
    body = {
        "status": "success",
        "message": f"{request.worker.config.provider_name} answers",
        "model_used": exchange.model,
        "timestamp": now(),
        "response_id": message.get("id"),
    }
    return json_response(body)


async def _send(request: ClientRequest, exchange: Exchange | Passthrough) -> dict[str, Any]:
    worker = request.worker
    begin_exchange(request, exchange)
    url = url_of_test_request(worker, exchange.model)
    async with worker.upstream.send(outgoing(request, exchange, url)) as answer:
        message = msgspec.json.decode(exchange.whole(await answer.read()))
    return message if isinstance(message, dict) else {}


def _failure(problem: Problem) -> dict[str, Any]:
    return {
        "status": "failed",
        "error_type": problem.kind,
        "message": problem.message,
        "timestamp": now(),
        "suggestions": [_ADVICE.get(problem.kind, _OTHER_ADVICE)],
    }
