"""
Bypass mode: while the proxy is disabled, Claude Code's requests go to TRANSPARENT_URL unchanged.

The body, the query and the client's headers are sent, except hop-by-hop headers, headers that name
the proxy, and the proxy's own client keys, which that server must not receive. The key pool
and retries are not involved.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from ccproxy.config.forward_proxy import proxy_for
from ccproxy.errors import Problem
from ccproxy.protocol.headers import hop_by_hop_names
from ccproxy.worker.server.authentication import Authenticator, offered_keys
from ccproxy.worker.upstream.connections import explain, open_session

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

READ_SECONDS = 600.0
"""Maximum time without data from the server."""

_KEY_HEADERS = frozenset({"authorization", "x-api-key"})
_NOT_SENT = frozenset({"host", "content-length", "cookie", "accept-encoding", "expect"})
_NOT_SENT_PREFIXES = ("x-forwarded-", "x-ccproxy-", "proxy-", "sec-fetch-")


class Bypass:
    """Sends requests to *url* while it is active."""

    def __init__(
        self, url: str, *, authenticator: Authenticator, ca_bundle: Path | None, proxy: str | None
    ) -> None:
        self.url = url
        self.is_active = False
        """True while the proxy is disabled."""
        self._authenticator = authenticator
        self._ca_bundle = ca_bundle
        self._proxy = proxy_for(url, proxy)
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, target: str, headers: CIMultiDictProxy[str], body: bytes
    ) -> aiohttp.ClientResponse:
        """
        Send a request for *target*, the path with its query as received.

        The caller closes the response.

        Raises:
            Problem: If the client sent no key of its own, or the server does not answer.
        """
        upstream_headers = self._upstream_headers(headers)
        if self._session is None:
            self._session = open_session(self._ca_bundle)
        try:
            return await self._session.post(
                URL(self.url + target, encoded=True),
                data=body,
                headers=upstream_headers,
                skip_auto_headers=("Content-Type", "User-Agent"),
                allow_redirects=False,
                proxy=self._proxy,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=READ_SECONDS),
            )
        except (aiohttp.ClientError, OSError) as error:
            text = f"the proxy is disabled, and {self.url} does not answer: {explain(error)}"
            raise Problem("api_error", text, status=502) from error

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _upstream_headers(self, headers: CIMultiDictProxy[str]) -> list[tuple[str, str]]:
        client_keys = {key for key in offered_keys(headers) if self._authenticator.is_own(key)}
        dropped = _NOT_SENT | hop_by_hop_names(headers.items())
        forwarded = list(_without(headers.items(), dropped, client_keys))
        if client_keys and not any(name.lower() in _KEY_HEADERS for name, _ in forwarded):
            text = (
                "the proxy is disabled, and the request has only the proxy's own key: send your "
                f"key for {self.url} as well, or enable the proxy again"
            )
            raise Problem("authentication_error", text, should_retry=False)
        return [*forwarded, ("Accept-Encoding", "identity")]


def _without(
    headers: Iterable[tuple[str, str]], dropped: Container[str], client_keys: Container[str]
) -> Iterable[tuple[str, str]]:
    for name, value in headers:
        lower = name.lower()
        if lower in dropped or lower.startswith(_NOT_SENT_PREFIXES):
            continue
        if lower not in _KEY_HEADERS or value.strip().rpartition(" ")[2] not in client_keys:
            yield name, value
