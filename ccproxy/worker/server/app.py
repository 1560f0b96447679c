"""
The proxy's HTTP interface: the table of endpoints, and the handling common to all of them.

Only `request.path` selects the endpoint. Host and an absolute request target are set by
the client; on loopback both must name the proxy.
"""

from __future__ import annotations

import asyncio
import re
import traceback
from collections.abc import Mapping

from aiohttp import web

from ccproxy.config.team.users import User
from ccproxy.errors import Problem
from ccproxy.protocol.claude_code import AGENT_ID_HEADER, SESSION_HEADER
from ccproxy.worker.peers.peer_request import is_from_peer
from ccproxy.worker.server import bypass_mode
from ccproxy.worker.server.access_record import Bodies
from ccproxy.worker.server.authentication import offered_keys
from ccproxy.worker.server.endpoints import (
    config,
    conversation,
    debug_logs,
    event_logging,
    health,
    hello,
    models,
    proxy,
    stats,
    switch_model,
)
from ccproxy.worker.server.endpoints.count_tokens import count_tokens
from ccproxy.worker.server.endpoints.messages import messages
from ccproxy.worker.server.endpoints.test_connection import test_connection
from ccproxy.worker.server.error_response import JSON, openai_problem_response
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.provider_exchange import finish_record, noted, shutdown_as_problem
from ccproxy.worker.server.route import Endpoint, Route, on_demand

_MAX_ID = 64
"""Maximum recorded characters of a session or agent id."""

_DISCARD = Route(post=event_logging.discard, is_open=True, is_probe=True)
_TELEMETRY = Route(post=on_demand("gateway.telemetry", "receive"), is_gateway=True, is_probe=True)


def _openai(endpoint: Endpoint) -> Route:
    return Route(post=endpoint, is_for_model=True, problem_response=openai_problem_response)


def _sign_in(endpoint: Endpoint) -> Route:
    return Route(post=endpoint, is_open=True, is_gateway=True)


def _admin(endpoint: Endpoint) -> Route:
    return Route(post=endpoint, is_admin=True)


ROUTES: Mapping[str, Route] = {
    # The APIs.
    "/v1/messages": Route(post=messages, is_for_model=True, is_messages=True),
    "/v1/messages/count_tokens": Route(post=count_tokens, is_messages=True),
    "/v1/chat/completions": _openai(on_demand("chat_completions", "chat_completions")),
    "/v1/responses": _openai(on_demand("responses", "responses")),
    "/v1/models": Route(get=models.list_models),
    # Clients and monitors.
    "/": Route(get=health.root, is_open=True, is_probe=True),
    "/health": Route(get=health.health, is_open=True, is_probe=True),
    "/livez": Route(get=health.live, is_open=True, is_probe=True),
    "/readyz": Route(get=health.ready, is_open=True, is_probe=True),
    "/api/hello": Route(get=hello.hello, is_open=True, is_probe=True),
    "/api/event_logging/batch": _DISCARD,
    "/api/event_logging/v2/batch": _DISCARD,
    "/test-connection": Route(get=test_connection),
    # The team gateway.
    "/.well-known/oauth-authorization-server": Route(
        get=on_demand("gateway.oauth", "metadata"), is_open=True, is_gateway=True
    ),
    "/oauth/device_authorization": _sign_in(on_demand("gateway.oauth", "device_authorization")),
    "/oauth/token": _sign_in(on_demand("gateway.oauth", "token")),
    "/oauth/revoke": _sign_in(on_demand("gateway.oauth", "revoke")),
    "/device": Route(
        get=on_demand("gateway.device", "show"),
        post=on_demand("gateway.device", "decide"),
        is_open=True,
        is_gateway=True,
        is_page=True,
    ),
    "/device/oidc": Route(
        get=on_demand("gateway.device", "return_from_provider"),
        is_open=True,
        is_gateway=True,
        is_page=True,
    ),
    "/managed/settings": Route(
        get=on_demand("gateway.managed_settings", "managed_settings"), is_gateway=True
    ),
    "/api/oauth/usage": Route(get=on_demand("gateway.oauth_usage", "oauth_usage"), is_gateway=True),
    "/v1/metrics": _TELEMETRY,
    "/v1/logs": _TELEMETRY,
    "/v1/traces": _TELEMETRY,
    # The worker itself.
    "/models": Route(get=models.list_fleet_models, is_admin=True, is_harmless=True),
    "/switch_model": _admin(switch_model.switch_model),
    "/config": Route(get=config.config, is_admin=True, is_harmless=True),
    "/v1/stats": Route(get=stats.stats, is_admin=True, is_harmless=True),
    "/debug_logs": Route(get=debug_logs.show, delete=debug_logs.clear, is_admin=True),
    "/conversation": Route(get=conversation.show, delete=conversation.clear, is_admin=True),
    "/conversation/continue": Route(
        post=conversation.continue_conversation, is_admin=True, is_for_model=True
    ),
    "/conversation/status": Route(get=conversation.status, is_admin=True),
    "/conversation/enable": _admin(conversation.enable),
    "/conversation/disable": _admin(conversation.disable),
    "/conversation/flush": _admin(conversation.flush),
    "/conversation/load": _admin(conversation.load),
    "/proxy/status": Route(get=proxy.status, is_admin=True),
    "/proxy/enable": _admin(proxy.enable),
    "/proxy/disable": _admin(proxy.disable),
    "/proxy/toggle": _admin(proxy.toggle),
}
_PROXY_HEADERS = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")
_ONE_MODEL = Route(get=models.show_model)
_NO_ROUTE = Route()
MAX_CAUSES = 20
"""Maximum number of exceptions in a chain for which frames are cleared."""
_SLASHES = re.compile("//+")
_API_PATHS = {
    path.removeprefix("/v1"): path
    for path in ROUTES
    if path.startswith(("/v1/messages", "/v1/chat", "/v1/responses"))
}
"""Paths of the APIs without `/v1`; `/models` is a separate route."""


def route_of(path: str) -> Route:
    """
    Return the route of *path*.

    Clients append their paths to base URLs that end in `/`, in `/v1` or in neither; all of these
    lead to the same route.
    """
    route = ROUTES.get(path)
    if route is not None:
        return route
    path = _SLASHES.sub("/", path)
    while path.startswith("/v1/v1/"):
        path = path[len("/v1") :]
    path = _API_PATHS.get(path, path)
    route = ROUTES.get(path) or ROUTES.get(path.rstrip("/"))
    if route is not None:
        return route
    is_model = path.startswith(models.PREFIX) and path != models.PREFIX
    return _ONE_MODEL if is_model else _NO_ROUTE


async def answer(request: ClientRequest) -> web.StreamResponse:
    """Answer one request; aiohttp calls this."""
    worker, record = request.worker, request.record
    running = worker.requests
    task = asyncio.current_task()
    running.tasks.add(task)
    route = route_of(request.path)
    record.is_probe = route.is_probe
    worker.session.switches.catch_up()
    if route.is_for_model:
        _accept(request)
    try:
        response = await _answer(request, route)
        if running.draining and not response.prepared:
            response.force_close()
        record.status = response.status
        if record.bodies is not None and isinstance(body := getattr(response, "body", None), bytes):
            record.bodies.add(body)  # only a whole response has a body; a stream adds each write
        return response
    except (asyncio.CancelledError, ConnectionError):
        # The client disconnected; a provider's connection failure is a Problem.
        record.client_left()
        raise
    finally:
        running.tasks.discard(task)
        worker.activity.release(record)
        finish_record(request, counts=route.is_for_model)
        request.release_body()


def _accept(request: ClientRequest) -> None:
    """Prepare the record of a model request."""
    worker, record = request.worker, request.record
    record.session = _id_in(request, SESSION_HEADER)
    record.agent = _id_in(request, AGENT_ID_HEADER)
    if worker.session.keeps_bodies:
        record.bodies = Bodies()
    if record.session:
        worker.session.clients.begin(record, request.headers)
    worker.activity.accept(record)


def _id_in(request: ClientRequest, header: str) -> str:
    """Return the id in *header*; bytes that are not UTF-8 arrive as lone surrogates."""
    return request.headers.get(header, "")[:_MAX_ID].encode("utf-8", "replace").decode()


async def _answer(request: ClientRequest, route: Route) -> web.StreamResponse:
    try:
        with shutdown_as_problem(request.worker):
            gateway, user = request.worker.gateway, None
            if gateway is not None and not route.is_open:
                user = await gateway.user_of(offered_keys(request.headers))
            return await _authorized(request, route, user)(request)
    except Problem as problem:
        response = route.problem_response(noted(request, problem), request.record.request_id)
        _clear_frames(problem)
        return response


def _clear_frames(error: BaseException | None) -> None:
    """
    Delete the local variables of the frames in which *error* and its causes were raised.

    These variables form reference cycles with the exceptions, and can hold a provider's response of
    64 MiB, which the garbage collector would free much later.
    """
    for _ in range(MAX_CAUSES):
        if error is None:
            return
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _authorized(request: ClientRequest, route: Route, user: User | None) -> Endpoint:
    """
    Return the endpoint that serves the request; *user* is the owner of its token, if any.

    Raises:
        Problem: If there is no such endpoint, or if the client may not use it.
    """
    worker = request.worker
    if not (route.is_page and worker.gateway):  # a page's endpoint checks the origin itself
        worker.authenticator.check_origin(request.headers, request.raw_path)
    is_absent = (route.is_admin and not _serves_admin(request)) or (
        route.is_gateway and worker.gateway is None
    )
    if route is _NO_ROUTE or is_absent:
        raise Problem("not_found_error", f"ccproxy has no endpoint {request.path[:200]}")
    if route.is_admin:
        request.user = _check_admin(request, route, user)
    elif not route.is_open and not is_from_peer(request):
        request.user = worker.authenticator.check_key(request.headers, user)
    request.record.user = "" if request.user is None else request.user.name
    endpoint = route.endpoint(request.method)
    if endpoint is None:
        text = f"{request.path[:200]} does not support {request.method[:20]}; use {route.allow}"
        headers = (("allow", route.allow),)
        raise Problem("invalid_request_error", text, status=405, headers=headers)
    if route.is_messages and worker.session.bypass.is_active:
        return bypass_mode.forward
    return endpoint


def _serves_admin(request: ClientRequest) -> bool:
    """Return True if the request comes from this machine, and not through another proxy."""
    worker, headers = request.worker, request.headers
    return (
        worker.config.admin_api
        and worker.authenticator.is_on_loopback
        and not any(name in headers for name in _PROXY_HEADERS)
        and not (worker.gateway and worker.gateway.is_public_host(headers.get("Host", "")))
    )


def _check_admin(request: ClientRequest, route: Route, user: User | None) -> User | None:
    """
    Check a request to an admin route.

    A web page cannot send JSON without a preflight request, so nothing else is accepted.

    Raises:
        Problem: 401 without a client key, 403 for a browser or if no client key is set, 415 for
            a body that is not JSON.
    """
    user = request.worker.authenticator.check_admin(
        request.headers, user, is_harmless=route.is_harmless
    )
    if request.can_read_body and request.content_type != JSON:
        text = f"send JSON with Content-Type: {JSON}"
        raise Problem("invalid_request_error", text, status=415)
    return user
