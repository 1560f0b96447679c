"""
Claude Code's sign-in: /.well-known/oauth-authorization-server, and POST /oauth/….

The device flow of RFC 8628, as Claude Code uses it: no client id, no scope, form-encoded. Unknown
parameters are ignored (RFC 6749, 3.2), because every release of the client may add some.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from ccproxy.config.team.users import User
from ccproxy.errors import Problem
from ccproxy.worker.gateway.address_limit import client_address, network_of
from ccproxy.worker.gateway.gateway import Gateway
from ccproxy.worker.gateway.sign_ins import (
    ACCESS_SECONDS,
    DEVICE_SECONDS,
    POLL_SECONDS,
    TokenPair,
)
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.json_response import json_response

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
FORM_LIMIT = 8192
"""Maximum bytes of a form; it is low because the sender is not authenticated."""
MAX_FIELDS = 32

_NOT_STORED = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_ERRORS = {
    "pending": ("authorization_pending", "the sign-in has not been approved yet"),
    "slow_down": ("slow_down", f"poll at most every {POLL_SECONDS} seconds"),
    "denied": ("access_denied", "the sign-in was denied"),
    "expired": ("expired_token", "the sign-in has expired or was already completed: start again"),
}


async def metadata(request: ClientRequest) -> web.Response:
    """Return the URLs of the other endpoints (RFC 8414)."""
    origin = origin_of(request)
    return json_response(
        {
            "issuer": origin,
            "device_authorization_endpoint": f"{origin}/oauth/device_authorization",
            "token_endpoint": f"{origin}/oauth/token",
            "revocation_endpoint": f"{origin}/oauth/revoke",
            "grant_types_supported": [DEVICE_GRANT, "refresh_token"],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["none"],
        }
    )


async def device_authorization(request: ClientRequest) -> web.Response:
    """Start a sign-in."""
    gateway, origin = gateway_of(request), origin_of(request)
    await form_of(request)
    address = address_of(request)
    allowed = gateway.new_sign_ins.allows(address)
    gateway.new_sign_ins.note(address)
    begun = await gateway.sign_ins.begin() if allowed else None
    if begun is None:
        text = "too many sign-ins were started: wait ten minutes and try again"
        return _error("slow_down", text, status=429)
    user_code, device_code = begun
    half = len(user_code) // 2
    displayed_code = f"{user_code[:half]}-{user_code[half:]}"
    gateway.log.info("sign_in.begun", address=address)
    return _answer(
        {
            "device_code": device_code,
            "user_code": displayed_code,
            "verification_uri": f"{origin}/device",
            "verification_uri_complete": f"{origin}/device?user_code={displayed_code}",
            "expires_in": DEVICE_SECONDS,
            "interval": POLL_SECONDS,
        }
    )


async def token(request: ClientRequest) -> web.Response:
    """Return the tokens of an approved sign-in, or new ones for a refresh token."""
    gateway, form = gateway_of(request), await form_of(request)
    match form.get("grant_type"):
        case "refresh_token":
            refreshed = await gateway.refresh(form.get("refresh_token", ""))
            if refreshed is None:
                text = "the session has ended or was revoked: sign in again"
                return _error("invalid_grant", text, status=401)
            return _tokens(*refreshed)
        case grant if grant == DEVICE_GRANT:
            return await _poll(gateway, form.get("device_code", ""))
        case _:
            return _error(
                "unsupported_grant_type", f"grant_type must be {DEVICE_GRANT} or refresh_token"
            )


async def revoke(request: ClientRequest) -> web.Response:
    """End the session of a token (RFC 7009); an unknown token is not an error."""
    gateway, form = gateway_of(request), await form_of(request)
    await gateway.sign_ins.close_session(form.get("token", ""))
    return _answer({})


def gateway_of(request: ClientRequest) -> Gateway:
    """Return the gateway; its routes exist only if there is one."""
    gateway = request.worker.gateway
    if gateway is None:
        raise RuntimeError("a gateway route was called without a gateway")
    return gateway


def origin_of(request: ClientRequest) -> str:
    """
    Return the gateway's origin, never taken from a Host header that a stranger can choose.

    Raises:
        Problem: If PUBLIC_URL is not set, and other machines can reach the gateway.
    """
    if origin := gateway_of(request).public_url:
        return origin
    if request.worker.authenticator.is_on_loopback:
        return f"http://{request.headers.get('Host', '')}"  # checked by the authenticator
    text = "sign-in needs PUBLIC_URL in the env file of this gateway: the address that users enter"
    raise Problem("not_found_error", text)


def address_of(request: ClientRequest) -> str:
    """Return the client's network, for counting attempts."""
    transport = request.transport
    peer = transport.get_extra_info("peername") if transport is not None else None
    if not peer:
        return ""
    forwarded = request.headers.getall("X-Forwarded-For", ())
    trusted = request.worker.config.gateway.trusted_proxies
    return network_of(client_address(str(peer[0]), forwarded, trusted))


async def form_of(request: ClientRequest) -> Mapping[str, str]:
    """
    Return the fields of a form-encoded body; only the first value of a repeated field.

    Raises:
        Problem: If the body is too large, or has too many fields.
    """
    length = request.content_length
    if request.can_read_body and (length is None or length > FORM_LIMIT):
        text = f"send a form with a Content-Length of at most {FORM_LIMIT} bytes"
        raise Problem("request_too_large", text)
    body = (await request.body()).decode("utf-8", "replace")
    try:
        fields = parse_qsl(body, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise Problem("invalid_request_error", "the form has too many fields") from error
    return dict(reversed(fields))


async def _poll(gateway: Gateway, device_code: str) -> web.Response:
    state, approval = await gateway.sign_ins.poll(device_code)
    if state != "approved":
        return _error(*_ERRORS[state])
    if (signed_in := await gateway.sign_in(approval)) is None:
        return _error(*_ERRORS["denied"])
    user, _ = signed_in
    gateway.log.info("sign_in.completed", user=user.name)
    return _tokens(*signed_in)


def _tokens(user: User, pair: TokenPair) -> web.Response:
    # The email is the account that approved the sign-in; Claude Code has its user confirm it.
    body = {
        "access_token": pair.access,
        "token_type": "Bearer",
        "expires_in": ACCESS_SECONDS,
        "refresh_token": pair.refresh,
        "email": user.email or user.name,
    }
    return _answer(body)


def _answer(body: Mapping[str, Any], *, status: int = 200) -> web.Response:
    response = json_response(body, status=status)
    response.headers.update(_NOT_STORED)
    return response


def _error(code: str, text: str, *, status: int = 400) -> web.Response:
    return _answer({"error": code, "error_description": text}, status=status)
