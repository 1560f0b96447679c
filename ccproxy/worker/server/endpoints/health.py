"""GET /, /health, /livez and /readyz: the proxy's identity and state, without secrets."""

from __future__ import annotations

from dataclasses import asdict

from aiohttp import web

from ccproxy import __version__
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.json_response import json_response, now
from ccproxy.worker.worker import Worker


async def health(request: ClientRequest) -> web.Response:
    """Describe the configuration and the state of the keys, without contacting the provider."""
    worker = request.worker
    config = worker.config
    facts = _key_facts(worker)
    ready, total = worker.pool.counts()
    body = {
        "status": "draining" if worker.requests.draining else "healthy",
        "label": config.label,
        "version": __version__,
        "server": {"host": config.host, "port": config.port},
        "models": {f"{tier}_model": name for tier, name in worker.chooser.tiers().items()},
        "api_status": {**facts, "openai_base_url": config.base_url},
        **facts,
        "api_keys_count": len(config.api_keys),
        "keys": {"ready": ready, "total": total},
        **(_pool_facts(worker) or {"timestamp": now()}),
    }
    return json_response(body)


async def root(request: ClientRequest) -> web.Response:
    """Describe the proxy to a user who opens its URL."""
    worker = request.worker
    config = worker.config
    body = {
        "message": f"ccproxy {__version__}: {config.label} serves {config.provider_name}",
        "status": "draining" if worker.requests.draining else "running",
        "config": {
            "label": config.label,
            "provider": config.provider_name,
            "api": config.api,
            "base_url": config.base_url,
            "client_api_key_validation": worker.authenticator.requires_key,
            "api_keys_count": len(config.api_keys),
            **{f"{tier}_model": name for tier, name in worker.chooser.tiers().items()},
        },
        "endpoints": {
            "messages": "/v1/messages",
            "count_tokens": "/v1/messages/count_tokens",
            "models": "/v1/models",
            "chat_completions": "/v1/chat/completions",
            "responses": "/v1/responses",
            "health": "/health",
            "test_connection": "/test-connection",
        },
    }
    return json_response(body)


async def live(_request: ClientRequest) -> web.Response:
    """Confirm that the process responds."""
    return web.Response(text="ok")


async def ready(request: ClientRequest) -> web.Response:
    """Confirm that new requests are accepted; 503 while the worker drains."""
    requests = request.worker.requests
    if requests.draining or requests.leaving:
        return web.Response(status=503, text="draining")
    return web.Response(text="ok")


def _pool_facts(worker: Worker) -> dict[str, object]:
    """
    Return how the state of the keys is shared with other replicas; empty without REDIS_URL.

    With replicas, the response has no timestamp: it changes only with the state, so that responses
    of replicas can be compared.
    """
    if worker.shared_pool is None:
        return {}
    return {"pool": asdict(worker.shared_pool.sharing())}


def _key_facts(worker: Worker) -> dict[str, bool]:
    config = worker.config
    return {
        "openai_api_configured": bool(config.api_keys) or config.pass_client_key,
        "api_key_valid": worker.has_valid_key(),
        "client_api_key_validation": worker.authenticator.requires_key,
    }
