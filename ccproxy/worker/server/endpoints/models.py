"""
GET /v1/models and /v1/models/{id}: the models of this proxy, in the formats of both APIs at once.
GET /models: the models of the whole fleet.

Claude Code's discovery keeps only ids that contain "claude" or "anthropic", so each tier has an
alias that does; its display name contains the model that answers. The models of the whole fleet are
listed as `anthropic/LABEL:model`. Every other name also maps to some model, so no id is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web

from ccproxy.config.team.users import User
from ccproxy.protocol.messages import check_model
from ccproxy.routing.model_listing import by_title
from ccproxy.routing.names import DISCOVERY_PREFIX, model_for
from ccproxy.routing.tiers import TIERS
from ccproxy.worker.server.endpoints.switch_model import current_models
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.json_response import json_response
from ccproxy.worker.worker import Worker

PREFIX = "/v1/models/"

_ALIASES = {"big": "claude-opus", "middle": "claude-sonnet", "small": "claude-haiku"}
_CREATED = "2026-01-01T00:00:00Z"
_CREATED_SECONDS = 1767225600


async def list_models(request: ClientRequest) -> web.Response:
    """Return the tiers' aliases, the models themselves, then those of the fleet."""
    worker = request.worker
    tiers = worker.chooser.tiers()
    rows = [_row(worker, alias, tiers[tier] or alias) for tier, alias in _ALIASES.items()]
    rows += [_row(worker, name, name) for name in dict.fromkeys(tiers.values()) if name]
    rows += _fleet_rows(worker)
    if (user := request.user) is not None:
        rows = [row for row in rows if _may_use(worker, user, row)]
    body = {
        "object": "list",
        "data": rows,
        "has_more": False,
        "first_id": rows[0]["id"] if rows else None,
        "last_id": rows[-1]["id"] if rows else None,
    }
    return json_response(body)


async def show_model(request: ClientRequest) -> web.Response:
    """Return the model that one name maps to; 400 if the name is too long."""
    worker = request.worker
    name = request.path.removeprefix(PREFIX)
    check_model(name)
    model = model_for(worker.config.models, worker.chooser.switch.tiers, name)
    return json_response(_row(worker, name, model))


async def list_fleet_models(request: ClientRequest) -> web.Response:
    """Return the models of every entry, every model preset, and the models in use."""
    worker = request.worker
    presets = worker.chooser.table.routing_tables.presets
    body = {
        "models": {
            label: config.models.listed() for label, config in worker.chooser.workers().items()
        },
        "presets": {
            name: {tier: tiers.of(tier) for tier in TIERS} for name, tiers in presets.items()
        },
        "current": current_models(worker),
    }
    return json_response(body)


def _may_use(worker: Worker, user: User, row: Mapping[str, Any]) -> bool:
    """Return True if *user* may use the model of *row*."""
    name = row["id"].removeprefix(DISCOVERY_PREFIX)
    label, separator, model = name.partition(":")
    if not separator or worker.chooser.table.entry(label) is None:
        label = worker.config.label
        model = model_for(worker.config.models, worker.chooser.switch.tiers, name)
    return user.may_use_entry(label) and user.may_use_model(label, model)


def _fleet_rows(worker: Worker) -> Iterator[dict[str, Any]]:
    """Yield the models of the fleet, with ids that Claude Code's discovery does not drop."""
    for model in by_title(worker.chooser.fleet_models()).values():
        yield {
            **_row(worker, model.name, model.name),
            "id": f"{DISCOVERY_PREFIX}{model.name}",
            "display_name": model.title,
            "description": model.description,
            "owned_by": model.ref.label,
        }


def _row(worker: Worker, name: str, model: str) -> dict[str, Any]:
    config = worker.config
    target = worker.chooser.target(model)
    limits = {"max_input_tokens": target.window, "max_tokens": target.max_output}
    return {
        "type": "model",
        "id": name,
        "display_name": model if name == model else f"{model} ({config.label})",
        "created_at": _CREATED,
        "object": "model",
        "created": _CREATED_SECONDS,
        "owned_by": config.provider_name,
        **{name: value for name, value in limits.items() if value is not None},
    }
