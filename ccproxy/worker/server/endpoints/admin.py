"""
The ancestors' admin routes: what this worker is, did and remembers, and its switches.

On loopback only, unless ADMIN_API=off; elsewhere these paths do not exist. A client key is
demanded where one is set; where none is, only routes that show no more than /health does answer,
and everything else names the setting. Browsers are kept away by Host, Origin and Sec-Fetch-Site,
and by JSON as the only content type: a page cannot send that without being asked first.

No path of the file system is ever taken from a request, only names of files in `exports/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from ccproxy.errors import Problem
from ccproxy.worker.admin.inspector import KINDS
from ccproxy.worker.server.endpoints import conversation
from ccproxy.worker.server.endpoints import switch_model as switching
from ccproxy.worker.server.endpoints.health import json_response
from ccproxy.worker.server.error_response import JSON
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.route import Endpoint, Route
from ccproxy.worker.state import Worker


def is_served(worker: Worker) -> bool:
    """Tell whether there are admin routes at all."""
    return worker.config.admin_api and worker.admission.is_on_loopback


def admit(request: ClientRequest, route: Route) -> None:
    """
    Let a request to an admin route in.

    Raises:
        Problem: 401 without the client key, 403 for a browser or where a key would have to be
            set first, 415 for a body that is not JSON.

    """
    request.worker.admission.check_admin(request.headers, is_harmless=route.is_harmless)
    if request.can_read_body and request.content_type != JSON:
        text = f"send JSON with Content-Type: {JSON}"
        raise Problem("invalid_request_error", text, status=415)


# What it is and did...


async def config(request: ClientRequest) -> web.Response:
    """Row H04."""
    worker = request.worker
    tiers = worker.tiers()
    body = {
        "preferred_provider": worker.config.provider or worker.config.provider_name,
        "big_model": tiers["big"],
        "middle_model": tiers["middle"],
        "small_model": tiers["small"],
        "message": f"{worker.config.label} answers for {worker.config.provider_name}",
    }
    return json_response(body)


async def stats(request: ClientRequest) -> web.Response:
    """Row H14: what was used since this worker started."""
    ledger = request.worker.session.ledger
    used, started = ledger.totals, request.worker.started
    now = datetime.now(UTC).timestamp()
    body = {
        "session_duration_seconds": round(max(0.0, now - started), 3),
        "total_requests": used.requests,
        "total_input_tokens": used.input,
        "total_output_tokens": used.output,
        "total_tokens": used.input + used.output,
        "total_cache_creation_tokens": used.written,
        "total_cache_read_tokens": used.cached,
        "total_reasoning_tokens": used.reasoning,
        "model_usage_count": dict(ledger.requests_of),
        "session_start_time": datetime.fromtimestamp(started, UTC).isoformat(),
        "total_errors": used.errors,
        "total_cost_usd": used.known_cost,
        "unpriced_requests": used.unpriced,
    }
    return json_response(body)


async def debug_logs(request: ClientRequest) -> web.Response:
    """Row H12: the last entries of a type, or of all."""
    kind = request.query.get("log_type", "all")
    if kind != "all" and kind not in KINDS:
        text = f"log_type must be all or one of {', '.join(KINDS)}"
        raise Problem("invalid_request_error", text)
    log = request.worker.session.inspector
    entries = log.entries(kind, limit=conversation.limit_of(request, default=100))
    body = {"logs": entries, "total_count": len(log.entries(kind, limit=10**9))}
    return json_response({**body, "bodies": log.inspects})


async def clear_debug_logs(request: ClientRequest) -> web.Response:
    """Forget all entries."""
    cleared = request.worker.session.inspector.clear()
    return json_response({"message": f"{cleared} entries forgotten", "total_count": 0})


# ...and its switch.


async def proxy_status(request: ClientRequest) -> web.Response:
    """Tell whether the proxy converts, or lets requests pass it by (row H13)."""
    return _proxy_response(request.worker)


async def enable_proxy(request: ClientRequest) -> web.Response:
    """Ask the provider again."""
    return await _switched(request, disabled=False)


async def disable_proxy(request: ClientRequest) -> web.Response:
    """Let requests go to Anthropic, unchanged."""
    return await _switched(request, disabled=True)


async def toggle_proxy(request: ClientRequest) -> web.Response:
    """Do the other of the two."""
    return await _switched(request, disabled=not request.worker.session.bypass.is_active)


async def _switched(request: ClientRequest, *, disabled: bool) -> web.Response:
    await request.worker.session.switches.switch_proxy(disabled=disabled)
    return _proxy_response(request.worker)


def _proxy_response(worker: Worker) -> web.Response:
    bypass = worker.session.bypass
    goes_to = bypass.url if bypass.is_active else worker.config.base_url
    body: Mapping[str, Any] = {
        "enabled": not bypass.is_active,
        "status": "disabled" if bypass.is_active else "enabled",
        "message": f"requests go to {goes_to}",
    }
    return json_response(body)


def _post(endpoint: Endpoint) -> Route:
    return Route(post=endpoint, is_admin=True)


ADMIN_ROUTES: Mapping[str, Route] = {
    "/models": Route(get=switching.models_and_presets, is_admin=True, is_harmless=True),
    "/switch_model": _post(switching.switch_model),
    "/config": Route(get=config, is_admin=True, is_harmless=True),
    "/v1/stats": Route(get=stats, is_admin=True, is_harmless=True),
    "/debug_logs": Route(get=debug_logs, delete=clear_debug_logs, is_admin=True),
    "/conversation": Route(get=conversation.show, delete=conversation.clear, is_admin=True),
    "/conversation/continue": Route(post=conversation.go_on, is_admin=True, asks_model=True),
    "/conversation/status": Route(get=conversation.status, is_admin=True),
    "/conversation/enable": _post(conversation.enable),
    "/conversation/disable": _post(conversation.disable),
    "/conversation/flush": _post(conversation.flush),
    "/conversation/load": _post(conversation.load),
    "/proxy/status": Route(get=proxy_status, is_admin=True),
    "/proxy/enable": _post(enable_proxy),
    "/proxy/disable": _post(disable_proxy),
    "/proxy/toggle": _post(toggle_proxy),
}
"""Every admin route by its path."""
