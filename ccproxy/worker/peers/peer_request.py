"""Identification of requests from other workers of the fleet, and of their payers."""

from __future__ import annotations

from collections.abc import Sequence

from ccproxy.keys.budgets import BudgetState
from ccproxy.keys.gateway.spending_notice import LIMIT_PREFIX, fullest, limit_headers
from ccproxy.worker.accounting.payers import PAYER_HEADER, payer_for_user
from ccproxy.worker.peers.fleet_token import HEADER as TOKEN_HEADER
from ccproxy.worker.server.http import ClientRequest


def is_from_peer(request: ClientRequest) -> bool:
    """Return True if *request* was sent by a worker of the fleet, which needs no client key."""
    if TOKEN_HEADER not in request.headers or (transport := request.transport) is None:
        return False
    address = transport.get_extra_info("peername")
    return bool(address) and request.worker.peer_client.is_peer(request.headers, address[0])


def payer_of(request: ClientRequest) -> tuple[int | None, str]:
    """
    Return the number of the client key and the payer header, which replaces the number for a peer
    or user.

    If no client key has a budget, neither is needed, and both can be missing.
    """
    worker = request.worker
    if request.user is not None:
        return None, payer_for_user(worker.config.label, request.user.name)
    if is_from_peer(request):
        return None, request.headers.get(PAYER_HEADER, "")
    if not worker.payers.has_clients:
        return None, ""
    return worker.authenticator.client_of(request.headers), ""


def client_of(request: ClientRequest) -> str:
    """Return a distinct name for the sender of *request*; empty if there is only one sender."""
    worker = request.worker
    if request.record.user:
        return f"user {request.record.user}"
    if is_from_peer(request):
        return request.headers.get(PAYER_HEADER, "")
    if len(worker.config.client_keys) < 2:
        return ""
    return f"key {worker.authenticator.client_of(request.headers)}"


def budgets_of(request: ClientRequest) -> list[BudgetState]:
    """Return the budgets of the user who sent *request*; empty if there is no user."""
    user = request.user
    if user is None or not user.budgets:
        return []
    account = request.worker.payers.user_of(payer_of(request)[1])
    return [] if account is None else account[0].states(user)


def without_limits(
    request: ClientRequest, headers: Sequence[tuple[str, str]]
) -> Sequence[tuple[str, str]]:
    """Return a provider's *headers*; for a user, leave out the limits of the provider's account."""
    if not request.record.user:  # also set for requests from a peer
        return headers
    return [one for one in headers if not one[0].lower().startswith(LIMIT_PREFIX)]


def limits_of_user(request: ClientRequest) -> list[tuple[str, str]]:
    """Return the headers from which Claude Code shows users their remaining budget."""
    state = fullest(budgets_of(request))
    return [] if state is None else [*limit_headers(state).items()]
