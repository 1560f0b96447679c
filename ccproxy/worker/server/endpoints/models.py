"""
GET /v1/models and /v1/models/{id}: what can be asked for, in both APIs' forms at once.

Claude Code's discovery keeps only ids that contain "claude" or "anthropic", so each tier has an
alias that does; its display name says which model really answers. Any other name is answered by
some model too, so no id is unknown.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ccproxy.routing.names import model_for
from ccproxy.worker.server.endpoints.health import json_response
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.state import Worker

PREFIX = "/v1/models/"

_ALIASES = {"big": "claude-opus", "middle": "claude-sonnet", "small": "claude-haiku"}
_CREATED = "2026-01-01T00:00:00Z"
_CREATED_SECONDS = 1767225600


async def models(request: ClientRequest) -> web.Response:
    """List the aliases of the tiers, then the models themselves."""
    worker = request.worker
    tiers = worker.tiers()
    entries = [_entry(worker, alias, tiers[tier] or alias) for tier, alias in _ALIASES.items()]
    entries += [_entry(worker, name, name) for name in dict.fromkeys(tiers.values()) if name]
    body = {
        "object": "list",
        "data": entries,
        "has_more": False,
        "first_id": entries[0]["id"],
        "last_id": entries[-1]["id"],
    }
    return json_response(body)


async def model(request: ClientRequest) -> web.Response:
    """Say which model answers for one name."""
    worker = request.worker
    name = request.path.removeprefix(PREFIX)
    answers = model_for(worker.config.models, worker.chooser.switch.tiers, name)
    return json_response(_entry(worker, name, answers))


def _entry(worker: Worker, name: str, upstream: str) -> dict[str, Any]:
    config = worker.config
    card = worker.chooser.target(upstream)
    shown = upstream if name == upstream else f"{upstream} ({config.label})"
    limits = {"max_input_tokens": card.window, "max_tokens": card.max_output}
    return {
        "type": "model",
        "id": name,
        "display_name": shown,
        "created_at": _CREATED,
        "object": "model",
        "created": _CREATED_SECONDS,
        "owned_by": config.provider_name,
        **{name: value for name, value in limits.items() if value is not None},
    }
