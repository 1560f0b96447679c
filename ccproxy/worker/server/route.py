"""One path of the proxy, as a row of the table in `app.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module

from aiohttp import web

from ccproxy.errors import Problem
from ccproxy.worker.server.error_response import problem_response
from ccproxy.worker.server.http import ClientRequest

Endpoint = Callable[[ClientRequest], Awaitable[web.StreamResponse]]
_ENDPOINTS = "ccproxy.worker.server.endpoints"


def on_demand(module: str, name: str) -> Endpoint:
    """
    Return the endpoint *name* of *module*, which is imported on the first request.

    Use it for endpoints that most workers never serve: it saves an idle worker 1 MiB.
    """
    path = f"{_ENDPOINTS}.{module}"

    async def endpoint(request: ClientRequest) -> web.StreamResponse:
        serve: Endpoint = getattr(import_module(path), name)
        return await serve(request)

    endpoint.__module__, endpoint.__name__ = path, name
    return endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The endpoint for each method of a path, and the properties of the path."""

    get: Endpoint | None = None
    post: Endpoint | None = None
    delete: Endpoint | None = None
    is_open: bool = False
    """Served without a client key."""
    is_probe: bool = False
    """Logged at DEBUG only."""
    is_admin: bool = False
    """Shows or changes the worker itself: on loopback only."""
    is_harmless: bool = False
    """An admin route that is also served if no client key is set."""
    is_for_model: bool = False
    """Counted in the statistics, and recorded in the history."""
    is_gateway: bool = False
    """Exists only if users are set."""
    is_page: bool = False
    """A page for a browser, which refuses requests from other sites."""
    is_messages: bool = False
    """Forwarded unchanged while bypass is on."""
    problem_response: Callable[[Problem, str], web.Response] = problem_response

    def endpoint(self, method: str) -> Endpoint | None:
        """Return the endpoint for *method*; HEAD is handled as GET, and aiohttp omits the body."""
        endpoints = {"GET": self.get, "HEAD": self.get, "POST": self.post, "DELETE": self.delete}
        return endpoints.get(method)

    @property
    def allow(self) -> str:
        """The value of the Allow header (RFC 9110, 10.2.1)."""
        methods = {"GET, HEAD": self.get, "POST": self.post, "DELETE": self.delete}
        return ", ".join(name for name, endpoint in methods.items() if endpoint is not None)
