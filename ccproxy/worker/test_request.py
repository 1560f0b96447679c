"""One real, tiny request, by which a user sees whether key and model work."""

from __future__ import annotations

import msgspec

from ccproxy.convert.chat.exchange import Exchange
from ccproxy.convert.direct.passthrough import Passthrough
from ccproxy.worker.state import Worker
from ccproxy.worker.upstream.client import Outgoing

_TIER = "claude-haiku"
_MOST_TOKENS = 16


def trial_exchange(worker: Worker, *, request_id: str) -> Exchange | Passthrough:
    """Return the question: the small model is asked for a word."""
    question = {
        "model": worker.config.models.small or _TIER,
        "max_tokens": _MOST_TOKENS,
        "messages": [{"role": "user", "content": "Say: ok"}],
        "thinking": {"type": "disabled"},
    }
    body = msgspec.json.encode(question)
    if worker.config.api == "messages":
        return Passthrough(body, rules=worker.rules, request_id=request_id)
    return Exchange(body, rules=worker.rules, message_id=worker.new_id("msg"))


def trial_url(worker: Worker, model: str) -> str:
    """Return where the question goes."""
    config = worker.config
    return config.chat_url(model) if config.api == "chat" else config.messages_url()


async def trial(worker: Worker, *, request_id: str, key_id: str) -> None:
    """
    Ask with the key *key_id*, whatever is known about it.

    Raises:
        Problem: If the provider does not answer as it should.

    """
    exchange = trial_exchange(worker, request_id=request_id)
    outgoing = Outgoing(
        url=trial_url(worker, exchange.model),
        body=exchange.body,
        model=exchange.model,
        stream=exchange.asks_stream,
        headers={},
        key_id=key_id,
    )
    async with worker.upstream.send(outgoing) as answer:
        exchange.whole(await answer.read())
