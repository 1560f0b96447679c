"""The /proxy routes: whether requests are converted, or bypass the provider unchanged."""

from __future__ import annotations

from aiohttp import web

from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.json_response import json_response


async def status(request: ClientRequest) -> web.Response:
    """Return whether the proxy is enabled."""
    bypass = request.worker.session.bypass
    destination = bypass.url if bypass.is_active else request.worker.config.base_url
    body = {
        "enabled": not bypass.is_active,
        "status": "disabled" if bypass.is_active else "enabled",
        "message": f"requests go to {destination}",
    }
    return json_response(body)


async def enable(request: ClientRequest) -> web.Response:
    """Send requests to the provider again."""
    return await _switch(request, disabled=False)


async def disable(request: ClientRequest) -> web.Response:
    """Forward requests to Anthropic unchanged."""
    return await _switch(request, disabled=True)


async def toggle(request: ClientRequest) -> web.Response:
    """Enable the proxy if it is disabled, else disable it."""
    return await _switch(request, disabled=not request.worker.session.bypass.is_active)


async def _switch(request: ClientRequest, *, disabled: bool) -> web.Response:
    await request.worker.session.switches.switch_proxy(disabled=disabled)
    return await status(request)
