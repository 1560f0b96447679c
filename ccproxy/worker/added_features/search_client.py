"""
Send searches to a back end.

Requests go only to addresses from the settings and `search_backends.toml`. Redirects are not
followed, and queries are not logged. A failed search is not sent to another back end, so a query
reaches only parties that the user has chosen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
from yarl import URL

from ccproxy.config import settings as s
from ccproxy.config.forward_proxy import proxy_for
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.convert.added_features.search_results import (
    SearchOutcome,
    failed,
    read_results,
    refused,
    search_request,
)
from ccproxy.convert.added_features.search_tool import SearchTool
from ccproxy.protocol.headers import USER_AGENT, UpstreamHeaders
from ccproxy.providers.search_backends import SearchBackend
from ccproxy.worker.upstream.connections import explain, open_session

MAX_BODY = 512 * 1024
"""The maximum size of a response in bytes."""
MAX_QUERY = 2000
"""The maximum length of a query in characters."""
CACHED_SECONDS = 300.0
"""How long results are cached; clients retry requests with identical searches."""
CACHED_SEARCHES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTarget:
    """A back end with all parameters of a search."""

    backend: SearchBackend
    url: str
    key: str = field(repr=False)
    model: str
    is_own: bool
    """Whether the back end belongs to the provider, whose request headers then apply."""


class SearchClient:
    """Runs the searches of one worker; the first search opens the session."""

    def __init__(
        self, config: WorkerConfig, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._cache: dict[bytes, tuple[float, SearchOutcome]] = {}

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def target(self, model: str, key: str) -> SearchTarget | None:
        """
        Return the configured search engine, or the provider's own search for *model*, or None.

        *key* is the provider's API key.
        """
        config, features = self._config, self._config.added_features
        if (named := features.search) is not None:
            path = urlsplit(named.url).path
            url = features.search_url + path if features.search_url else named.url
            return SearchTarget(
                backend=named, url=url, key=features.search_key, model=model, is_own=False
            )
        for backend in features.own_searches:
            if backend.serves(base_url=config.base_url, model=model, key=key):
                url = self._own_url(backend, model)
                return SearchTarget(backend=backend, url=url, key=key, model=model, is_own=True)
        return None

    def _own_url(self, backend: SearchBackend, model: str) -> str:
        if backend.api is not None:
            return self._config.model_url(model, backend.api)
        # The host depends on the region of the account.
        own, usual = urlsplit(self._config.base_url), urlsplit(backend.url)
        path = usual.path.replace("{model}", quote(model, safe=""))
        return f"{own.scheme}://{own.netloc}{path}"

    async def search(self, target: SearchTarget, query: str, tool: SearchTool) -> SearchOutcome:
        """Search for *query* within the domains of *tool*; failures are returned as outcomes."""
        if tool.is_contradictory:
            reason = "allowed_domains and blocked_domains exclude each other"
            return failed(reason, code="invalid_tool_input")
        if len(query) > MAX_QUERY:
            return failed(f"The query is longer than {MAX_QUERY} characters", code="query_too_long")
        request = search_request(target.backend, query, tool, model=target.model)
        domains = (tool.allowed_domains, tool.blocked_domains)
        # Hashed, because a client may list megabytes of domains.
        cache_key = sha256(msgspec.json.encode((target.url, request, domains))).digest()
        now = self._clock()
        if (cached := self._cache.get(cache_key)) and now - cached[0] < CACHED_SECONDS:
            return cached[1]
        outcome = await self._ask(target, request, tool)
        if not outcome.error:
            if (price := self._config.added_features.search_price) is not None:
                outcome = replace(outcome, fee=price)
            if not outcome.results:
                return outcome  # not cached: a retry may succeed
            self._cache[cache_key] = (now, replace(outcome, fee=0.0, usage={}))
            while len(self._cache) > CACHED_SEARCHES:
                del self._cache[next(iter(self._cache))]
        return outcome

    async def _ask(
        self, target: SearchTarget, request: dict[str, Any], tool: SearchTool
    ) -> SearchOutcome:
        backend = target.backend
        try:
            async with asyncio.timeout(backend.seconds):
                status, body = await self._exchange(target, request)
        except TimeoutError:
            return failed(f"{backend.title} did not answer within {backend.seconds:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return failed(f"{backend.title} cannot be reached: {explain(error)}")
        if status != 200:
            key = s.PROVIDER_API_KEY if target.is_own else s.WEB_SEARCH_KEY
            return refused(backend, status, key=key.name)
        if body is None:
            return failed(f"{backend.title} sent more than {MAX_BODY >> 10} KiB, or compressed it")
        return read_results(backend, body, tool)

    async def _exchange(
        self, target: SearchTarget, request: dict[str, Any]
    ) -> tuple[int, bytes | None]:
        """Return the status and the body, which is None for errors or if large or compressed."""
        if self._session is None:
            self._session = open_session(self._config.ca_bundle, auto_decompress=False)
        is_get = target.backend.method == "GET"
        url = URL(target.url, encoded=True)
        async with self._session.request(
            target.backend.method,
            url.update_query(request) if is_get else url,
            data=None if is_get else msgspec.json.encode(request),
            headers=self._headers(target),
            allow_redirects=False,
            proxy=proxy_for(target.url, self._config.upstream_proxy),
        ) as answer:
            if answer.status != 200:
                return answer.status, None
            if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
                return 200, None
            body = bytearray()
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > MAX_BODY:
                    return 200, None
            return 200, bytes(body)

    def _headers(self, target: SearchTarget) -> dict[str, str]:
        backend, config = target.backend, self._config
        if backend.api is not None:
            own = UpstreamHeaders(config.auth, custom=config.custom_headers)
            return own.chat(target.key or None, stream=False)
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            **(config.custom_headers if target.is_own else {}),
            **backend.headers,
        }
        if target.key and backend.auth != "none":
            is_bearer = backend.auth == "bearer"
            name = "Authorization" if is_bearer else backend.auth
            headers[name] = f"Bearer {target.key}" if is_bearer else target.key
        return headers
