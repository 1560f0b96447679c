"""GET /health and GET /: what this proxy is and whether it is well, without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import web

from ccproxy import __version__
from ccproxy.worker.server.error_response import JSON
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.state import Worker


async def health(request: ClientRequest) -> web.Response:
    """Tell what the proxy is set up with; never asks the provider."""
    worker = request.worker
    config = worker.config
    keys = key_facts(worker)
    body = {
        "status": "draining" if worker.draining else "healthy",
        "timestamp": now(),
        "label": config.label,
        "version": __version__,
        "server": {"host": config.host, "port": config.port},
        "models": {f"{tier}_model": name for tier, name in worker.tiers().items()},
        "api_status": {
            "openai_api_configured": keys["openai_api_configured"],
            "api_key_valid": keys["api_key_valid"],
            "client_api_key_validation": keys["client_api_key_validation"],
            "openai_base_url": config.base_url,
        },
        **keys,
        "api_keys_count": len(config.api_keys),
        "keys": worker.key_counts(),
    }
    return json_response(body)


async def root(request: ClientRequest) -> web.Response:
    """Introduce the proxy to whoever opens its address."""
    worker = request.worker
    config = worker.config
    body = {
        "message": f"ccproxy {__version__}: {config.label} answers for {config.provider_name}",
        "status": "draining" if worker.draining else "running",
        "config": {
            "label": config.label,
            "provider": config.provider_name,
            "api": config.api,
            "base_url": config.base_url,
            "client_api_key_validation": worker.admission.wants_key,
            "api_keys_count": len(config.api_keys),
            **{f"{tier}_model": name for tier, name in worker.tiers().items()},
        },
        "endpoints": {
            "messages": "/v1/messages",
            "count_tokens": "/v1/messages/count_tokens",
            "models": "/v1/models",
            "chat_completions": "/v1/chat/completions",
            "health": "/health",
            "test_connection": "/test-connection",
        },
    }
    return json_response(body)


def key_facts(worker: Worker) -> dict[str, bool]:
    """Say whether there are keys, and whether one of them is not known to be refused."""
    config = worker.config
    return {
        "openai_api_configured": bool(config.api_keys) or config.pass_client_key,
        "api_key_valid": worker.has_valid_key(),
        "client_api_key_validation": worker.admission.wants_key,
    }


def json_response(body: Mapping[str, Any], *, status: int = 200) -> web.Response:
    """Answer with *body* as JSON."""
    return web.Response(status=status, body=msgspec.json.encode(body), content_type=JSON)


def now() -> str:
    """Return the time as users read it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
