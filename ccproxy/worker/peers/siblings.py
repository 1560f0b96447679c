"""
The way to the other workers of the fleet: over loopback, with a token of the fleet.

The sibling gets the client's own body, with only the model's name exchanged, and does what it
always does: its keys, its headers, its conversion. The client's key stays here.

Theory of operation: the supervisor keeps a port open where no worker runs, so that a connection
to a sibling proves nothing, and a whole answer may take minutes without a byte. Therefore each
connection is asked for a sign of life first; only then the request follows on it. A sibling that
dies later closes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
import msgspec
from aiohttp.hdrs import CONNECTION
from yarl import URL

from ccproxy.errors import Problem
from ccproxy.protocol.headers import messages_headers
from ccproxy.protocol.json_splice import replace_value
from ccproxy.routing.names import ModelRef
from ccproxy.worker.peers.choice import ASKED_HEADER, HOP_HEADER, VIA_HEADER, Chooser, Chosen
from ccproxy.worker.peers.fleet_token import HEADER as TOKEN_HEADER
from ccproxy.worker.peers.fleet_token import FleetToken
from ccproxy.worker.server.authentication import is_loopback
from ccproxy.worker.upstream.connections import explain

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

PATIENCE = 3.0
"""Seconds for a sign of life: enough for a worker that is just being restarted."""

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - never bound here


class Siblings:
    """The other workers of the fleet, as one of them sees them."""

    def __init__(self, chooser: Chooser, token: FleetToken) -> None:
        self._chooser = chooser
        self._token = token
        self.patience = PATIENCE

    def knows(self, headers: Mapping[str, str], peer: str | None) -> bool:
        """Tell whether a request with these *headers* is from a worker of this fleet."""
        token = headers.get(TOKEN_HEADER)
        if token is None or peer is None or not is_loopback(peer):
            return False
        return self._token.is_good(token, self._chooser.config.label)

    @asynccontextmanager
    async def ask(
        self,
        chosen: Chosen,
        place: ModelRef,
        *,
        path: str,
        client: CIMultiDictProxy[str],
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """
        Ask *place* what the *client*, of which these are the headers, wants to know.

        Raises:
            Problem: If nobody answers there.

        """
        site = self._url(place)
        url = URL(site + path, encoded=True)
        body = replace_value(chosen.body, ("model",), msgspec.json.encode(place.model))
        # A connection for each: a sibling that was restarted leaves no dead one behind.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.patience)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1), timeout=timeout
        ) as session:
            try:
                if not await self._is_alive(session, site):
                    raise _silent(place)
                headers = self._headers(client, chosen, place)
                answer = await session.post(url, data=body, headers=headers, allow_redirects=False)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _unreachable(place, error) from error
            try:
                yield answer
            finally:
                answer.close()

    async def _is_alive(self, session: aiohttp.ClientSession, site: str) -> bool:
        """Tell whether a worker answers on the connection that *session* goes on with."""
        try:
            async with asyncio.timeout(self.patience):
                while True:
                    async with session.get(f"{site}/livez", allow_redirects=False) as sign:
                        await sign.read()
                    if sign.status != HTTPStatus.OK:
                        return False
                    if sign.headers.get(CONNECTION, "").lower() != "close":
                        return True
                    # It is on its way out: its successor is on the next connection.
        except TimeoutError:
            return False

    def _url(self, place: ModelRef) -> str:
        entry = self._chooser.table.entry(place.label)
        config = self._chooser.sibling(place.label)
        if entry is None:
            raise Problem("not_found_error", f"there is no proxy {place.label} any more")
        host = _ANYWHERE.get(config.host, config.host) if config is not None else "127.0.0.1"
        if not is_loopback(host):
            text = f"{place.label} cannot be asked: it listens on {host} only, not on loopback"
            raise Problem("api_error", text, status=502)
        return f"http://[{host}]:{entry.port}" if ":" in host else f"http://{host}:{entry.port}"

    def _headers(
        self, client: CIMultiDictProxy[str], chosen: Chosen, place: ModelRef
    ) -> dict[str, str]:
        return {
            **messages_headers(client.items()),
            "content-type": "application/json",
            "accept-encoding": "identity",
            TOKEN_HEADER: self._token.issue(place.label),
            HOP_HEADER: str(chosen.hop + 1),
            VIA_HEADER: ",".join((*chosen.via, self._chooser.config.label)),
            ASKED_HEADER: quote(chosen.requested or chosen.name),
        }


def _unreachable(place: ModelRef, error: Exception) -> Problem:
    text = f"{place.label} does not answer ({explain(error)}): ccproxy start {place.label}"
    return Problem("api_error", text, status=502)


def _silent(place: ModelRef) -> Problem:
    text = (
        f"{place.label} does not answer: its port is open, but no worker gives a sign of life: "
        f"ccproxy status, ccproxy logs {place.label}"
    )
    return Problem("api_error", text, status=502)
