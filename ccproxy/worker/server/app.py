"""
The proxy: which path is answered by whom, and what happens around every answer.

Decided by `request.path` alone: query strings mean nothing, and neither does what a client
claims in Host or in an absolute request target, but that on loopback both must name it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web

from ccproxy.errors import Problem
from ccproxy.worker.peers.forward import is_from_sibling
from ccproxy.worker.server.endpoints import admin
from ccproxy.worker.server.endpoints import models as models_endpoint
from ccproxy.worker.server.endpoints.admin import ADMIN_ROUTES
from ccproxy.worker.server.endpoints.bypass import forward
from ccproxy.worker.server.endpoints.chat_completions import chat_completions
from ccproxy.worker.server.endpoints.count_tokens import count_tokens
from ccproxy.worker.server.endpoints.health import health, root
from ccproxy.worker.server.endpoints.messages import messages
from ccproxy.worker.server.endpoints.models import model, models
from ccproxy.worker.server.endpoints.probes import event_logging, hello, live, ready
from ccproxy.worker.server.endpoints.test_connection import test_connection
from ccproxy.worker.server.error_response import openai_problem_response
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.provider_exchange import ending_as_problem, told
from ccproxy.worker.server.route import Endpoint, Route

ROUTES: Mapping[str, Route] = {
    "/v1/messages": Route(post=messages, asks_model=True, is_messages=True),
    "/v1/messages/count_tokens": Route(post=count_tokens, is_messages=True),
    "/v1/chat/completions": Route(
        post=chat_completions, asks_model=True, problem_response=openai_problem_response
    ),
    "/v1/models": Route(get=models),
    "/": Route(get=root, is_open=True, is_probe=True),
    "/health": Route(get=health, is_open=True, is_probe=True),
    "/livez": Route(get=live, is_open=True, is_probe=True),
    "/readyz": Route(get=ready, is_open=True, is_probe=True),
    "/api/hello": Route(get=hello, is_open=True, is_probe=True),
    "/api/event_logging/batch": Route(post=event_logging, is_open=True, is_probe=True),
    "/test-connection": Route(get=test_connection),
    **ADMIN_ROUTES,
}
_ONE_MODEL = Route(get=model)
_NOWHERE = Route()


def route_of(path: str) -> Route:
    """Find the route; a base URL that ends in `/v1`, a common mistake, finds it all the same."""
    if path.startswith("/v1/v1/"):
        path = path[len("/v1") :]
    route = ROUTES.get(path) or ROUTES.get(path.rstrip("/"))
    if route is not None:
        return route
    is_model = path.startswith(models_endpoint.PREFIX) and path != models_endpoint.PREFIX
    return _ONE_MODEL if is_model else _NOWHERE


async def answer(request: ClientRequest) -> web.StreamResponse:
    """Answer one request: the handler that aiohttp calls."""
    worker, record = request.worker, request.record
    task = asyncio.current_task()
    worker.running.add(task)
    route = route_of(request.path)
    record.quiet = route.is_probe
    worker.session.switches.catch_up()
    record.keeps = route.asks_model and worker.session.keeps_bodies
    try:
        response = await _answer(request, route)
        if worker.draining and not response.prepared:
            response.force_close()
        record.status = response.status
        if record.keeps and isinstance(body := getattr(response, "body", None), bytes):
            record.hear(body)  # a whole answer; streams are heard as they are written
        return response
    except (asyncio.CancelledError, ConnectionError):
        # Trouble with the provider is a Problem; this is the client's connection.
        record.client_left()
        raise
    finally:
        worker.running.discard(task)
        _remember(request, route)


def _remember(request: ClientRequest, route: Route) -> None:
    """Log and count a request that has ended; what goes wrong here undoes no answer."""
    worker, record = request.worker, request.record
    try:
        record.finish(worker.request_log)
        if route.asks_model and record.requested:
            worker.session.note(record, request.headers)
    except Exception:  # a mistake of ours, and the client has its answer
        worker.log.exception("request.unrecorded", request=record.request_id)


async def _answer(request: ClientRequest, route: Route) -> web.StreamResponse:
    try:
        with ending_as_problem(request.worker):
            return await _admitted(request, route)(request)
    except Problem as problem:
        return route.problem_response(told(request, problem), request.record.request_id)


def _admitted(request: ClientRequest, route: Route) -> Endpoint:
    """
    Return who answers the request.

    Raises:
        Problem: If nobody does, or if the client is not let in.

    """
    worker = request.worker
    worker.admission.check_origin(request.headers, request.raw_path)
    if route is _NOWHERE or (route.is_admin and not admin.is_served(worker)):
        raise Problem("not_found_error", f"ccproxy has no endpoint {request.path[:200]}")
    if route.is_admin:
        admin.admit(request, route)
    elif not route.is_open and not is_from_sibling(request):
        worker.admission.check_key(request.headers)
    endpoint = route.endpoint(request.method)
    if endpoint is None:
        text = f"{request.path[:200]} does not take {request.method}"
        raise Problem("invalid_request_error", text, status=405)
    if route.is_messages and worker.session.bypass.is_active:
        return forward
    return endpoint
