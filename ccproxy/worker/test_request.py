"""One small request to the provider, which shows whether the key and the model work."""

from __future__ import annotations

import msgspec

from ccproxy.convert.direct.passthrough import Passthrough
from ccproxy.convert.exchange import Exchange
from ccproxy.worker.upstream.provider_client import Outgoing
from ccproxy.worker.worker import Worker

_TIER = "claude-haiku"
_MAX_TOKENS = 16


def build_test_request(worker: Worker, *, request_id: str) -> Exchange | Passthrough:
    """Return a request to the small model for a one-word answer."""
    fields = {
        "model": worker.config.models.small or _TIER,
        "max_tokens": _MAX_TOKENS,
        "messages": [{"role": "user", "content": "Say: ok"}],
        "thinking": {"type": "disabled"},
    }
    body = msgspec.json.encode(fields)
    if worker.config.api == "messages":
        return Passthrough(body, rules=worker.rules, request_id=request_id)
    return Exchange(body, rules=worker.rules, message_id=worker.new_id("msg"))


def url_of_test_request(worker: Worker, model: str) -> str:
    """Return the URL for a request to *model*."""
    return worker.config.model_url(model, worker.rules.target_of(model).api)


async def send_test_request(worker: Worker, *, request_id: str, key_id: str) -> None:
    """
    Send a test request with the key *key_id*, regardless of the key's state.

    Raises:
        Problem: If the provider returns anything but a model's answer.
    """
    exchange = build_test_request(worker, request_id=request_id)
    outgoing = Outgoing(
        url=url_of_test_request(worker, exchange.model),
        body=exchange.body,
        model=exchange.model,
        api=exchange.api,
        stream=exchange.asks_stream,
        headers={},
        key_id=key_id,
    )
    async with worker.upstream.send(outgoing) as answer:
        exchange.whole(await answer.read())
