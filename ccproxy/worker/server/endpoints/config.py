"""GET /config: the provider and the models of this proxy."""

from __future__ import annotations

from aiohttp import web

from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.json_response import json_response


async def config(request: ClientRequest) -> web.Response:
    """Return the provider and the models."""
    worker = request.worker
    tiers = worker.chooser.tiers()
    body = {
        "preferred_provider": worker.config.provider or worker.config.provider_name,
        "big_model": tiers["big"],
        "middle_model": tiers["middle"],
        "small_model": tiers["small"],
        "message": f"{worker.config.label} serves {worker.config.provider_name}",
    }
    return json_response(body)
