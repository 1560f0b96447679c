"""Requests of other workers of the fleet: how they are recognised, and who pays for them."""

from __future__ import annotations

from ccproxy.worker.accounting.payers import PAYER_HEADER
from ccproxy.worker.peers.fleet_token import HEADER as TOKEN_HEADER
from ccproxy.worker.server.http import ClientRequest


def is_from_peer(request: ClientRequest) -> bool:
    """Return True if another worker of the fleet sends it; its token replaces the client key."""
    transport = request.transport
    if TOKEN_HEADER not in request.headers or transport is None:
        return False
    address = transport.get_extra_info("peername")
    return bool(address) and request.worker.siblings.is_peer(request.headers, address[0])


def payer_of(request: ClientRequest) -> tuple[int | None, str]:
    """
    Return the number of the client key, and the header of a peer that names another payer.

    Neither is of interest, and both may be left out, if no client key has a budget.
    """
    worker = request.worker
    if is_from_peer(request):
        return None, request.headers.get(PAYER_HEADER, "")
    if not worker.payers.has_clients:
        return None, ""
    return worker.authenticator.client_of(request.headers), ""
