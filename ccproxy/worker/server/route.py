"""One path of the proxy, as the tables of `app` and `endpoints/admin` list them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from ccproxy.errors import Problem
from ccproxy.worker.server.error_response import problem_response
from ccproxy.worker.server.http import ClientRequest

Endpoint = Callable[[ClientRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One path: an endpoint per method, and what is special about it."""

    get: Endpoint | None = None
    post: Endpoint | None = None
    delete: Endpoint | None = None
    is_open: bool = False
    """Whether no client key is asked for."""
    is_probe: bool = False
    """Whether its requests are logged at DEBUG only."""
    is_admin: bool = False
    """Whether it shows or changes the worker itself; see `endpoints/admin.py`."""
    is_harmless: bool = False
    """Of an admin route: whether it answers also where no client key is set."""
    asks_model: bool = False
    """Whether its requests are counted and remembered."""
    is_messages: bool = False
    """Whether its requests go elsewhere while the proxy is disabled."""
    problem_response: Callable[[Problem, str], web.Response] = problem_response

    def endpoint(self, method: str) -> Endpoint | None:
        """Return who answers *method*; HEAD is a GET whose body aiohttp leaves out."""
        match method:
            case "POST":
                return self.post
            case "DELETE":
                return self.delete
            case "GET" | "HEAD":
                return self.get
            case _:
                return None
