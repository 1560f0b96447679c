"""
Sends requests to the other workers of the fleet, over loopback and with a fleet token.

A peer receives the client's body with the name of its own model, and serves it like any other
request, with its own keys, headers and conversion. The client's key is not sent.

The supervisor keeps the port of a stopped worker open, so an established connection does not prove
that a worker is running, and it can take minutes before an answer begins. Therefore a health probe
is sent on each connection first, and the request only if the probe succeeds. If the peer dies
later, the connection is closed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
import msgspec
from aiohttp.hdrs import CONNECTION
from yarl import URL

from ccproxy.config.parsers import is_loopback
from ccproxy.errors import Problem
from ccproxy.protocol.headers import messages_headers
from ccproxy.protocol.json_splice import replace_value
from ccproxy.routing.names import ModelRef
from ccproxy.worker.peers.choice import ASKED_HEADER, HOP_HEADER, VIA_HEADER, Chooser, Chosen
from ccproxy.worker.peers.fleet_token import HEADER as TOKEN_HEADER
from ccproxy.worker.peers.fleet_token import FleetToken
from ccproxy.worker.upstream.connections import explain, open_session

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

PROBE_SECONDS = 3.0
"""Time limit for the health probe: long enough for a worker that is restarting."""

_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - never bound here


class PeerClient:
    """A client for the other workers of the fleet."""

    def __init__(self, chooser: Chooser, token: FleetToken) -> None:
        self._chooser = chooser
        self._token = token
        self.probe_seconds = PROBE_SECONDS

    def is_peer(self, headers: Mapping[str, str], peer: str | None) -> bool:
        """Return True if a request with these *headers* comes from a worker of this fleet."""
        token = headers.get(TOKEN_HEADER)
        if token is None or peer is None or not is_loopback(peer):
            return False
        return self._token.is_valid(token, self._chooser.config.label)

    @asynccontextmanager
    async def send(
        self,
        chosen: Chosen,
        ref: ModelRef,
        *,
        path: str,
        client: CIMultiDictProxy[str],
        payer: Mapping[str, str] = MappingProxyType({}),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """
        Send a request to *ref* with the applicable headers of the *client*, and the *payer* header.

        Raises:
            Problem: If no worker answers.
        """
        site = self._url(ref)
        url = URL(site + path, encoded=True)
        body = replace_value(chosen.body, ("model",), msgspec.json.encode(ref.model))
        # One connection per request: a restarted peer leaves no dead connection in a pool.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.probe_seconds)
        async with open_session(None, timeout=timeout) as session:
            try:
                trust = self._trust(ref)
                if not await self._is_alive(session, site, trust):
                    raise _not_responding(ref)
                headers = {**self._headers(client, chosen, ref), **payer}
                answer = await session.post(
                    url, data=body, headers=headers, allow_redirects=False, ssl=trust
                )
            except (aiohttp.ClientError, OSError) as error:
                raise _unreachable(ref, error) from error
            try:
                yield answer
            finally:
                answer.close()

    async def _is_alive(
        self, session: aiohttp.ClientSession, site: str, trust: ssl.SSLContext | bool
    ) -> bool:
        """Return True if a worker answers on the connection that *session* will use next."""
        try:
            async with asyncio.timeout(self.probe_seconds):
                while True:
                    async with session.get(
                        f"{site}/livez", allow_redirects=False, ssl=trust
                    ) as probe:
                        await probe.read()
                    if probe.status != HTTPStatus.OK:
                        return False
                    if probe.headers.get(CONNECTION, "").lower() != "close":
                        return True
                    # The worker is draining; the next connection reaches its successor.
        except TimeoutError:
            return False

    def _url(self, ref: ModelRef) -> str:
        entry = self._chooser.table.entry(ref.label)
        config = self._chooser.sibling(ref.label)
        if entry is None:
            raise Problem("not_found_error", f"the fleet no longer has a proxy {ref.label}")
        host = _LOOPBACK_OF.get(config.host, config.host) if config is not None else "127.0.0.1"
        if not is_loopback(host):
            text = f"{ref.label} is unreachable: it listens on {host}, not on loopback"
            raise Problem("api_error", text, status=502)
        scheme = "http" if config is None or config.gateway.tls is None else "https"
        return (
            f"{scheme}://[{host}]:{entry.port}"
            if ":" in host
            else f"{scheme}://{host}:{entry.port}"
        )

    def _trust(self, ref: ModelRef) -> ssl.SSLContext | bool:
        """Return the TLS context for an https peer, which trusts only that peer's certificate."""
        config = self._chooser.sibling(ref.label)
        if config is None or config.gateway.tls is None:
            return True
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trust.check_hostname = False  # the URL contains the address, not the name
        trust.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        trust.load_verify_locations(cafile=config.gateway.tls.certificate)
        return trust

    def _headers(
        self, client: CIMultiDictProxy[str], chosen: Chosen, ref: ModelRef
    ) -> dict[str, str]:
        return {
            **messages_headers(client.items()),
            "content-type": "application/json",
            "accept-encoding": "identity",
            TOKEN_HEADER: self._token.issue(ref.label),
            HOP_HEADER: str(chosen.hop + 1),
            VIA_HEADER: ",".join((*chosen.via, self._chooser.config.label)),
            ASKED_HEADER: quote(chosen.requested or chosen.name),
        }


def _unreachable(ref: ModelRef, error: Exception) -> Problem:
    text = f"{ref.label} does not answer ({explain(error)}); run: ccproxy start {ref.label}"
    return Problem("api_error", text, status=502)


def _not_responding(ref: ModelRef) -> Problem:
    text = (
        f"{ref.label} does not answer: its port is open, but no worker responds: "
        f"see ccproxy status and ccproxy logs {ref.label}"
    )
    return Problem("api_error", text, status=502)
