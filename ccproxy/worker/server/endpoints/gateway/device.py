"""
/device: the page on which a user approves a sign-in of Claude Code.

The user enters the code that Claude Code shows, and the personal token. The page has no session, so
that nothing can be approved with data that a browser sends automatically. Forms from other sites
are blocked by three checks: Origin, Sec-Fetch-Site, and a field that must match a cookie.

An identity provider can replace the token. The user then confirms the code after returning:
otherwise, a link that contains a stranger's code would pass without a prompt through a provider
that remembers its users.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Literal

from aiohttp import web

from ccproxy.config.team.users import User, hash_token, oidc_approval
from ccproxy.errors import Problem
from ccproxy.worker.gateway.gateway import Gateway
from ccproxy.worker.gateway.oidc_flow import Flow, IdentityError, new_flow
from ccproxy.worker.gateway.sign_ins import DEVICE_SECONDS, USER_CODE_LENGTH, USER_CODE_LETTERS
from ccproxy.worker.server.endpoints.gateway.oauth import address_of, form_of, gateway_of, origin_of
from ccproxy.worker.server.http import ClientRequest

if TYPE_CHECKING:
    from ccproxy.worker.gateway.identity_provider import IdentityProvider

_COOKIE = "ccproxy_approval"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    # Not no-referrer, because browsers would then send `Origin: null` with the page's own form.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_CODE = re.compile(f"[{USER_CODE_LETTERS}]{{{USER_CODE_LENGTH}}}")
_STYLE = "body{font:16px sans-serif;max-width:30em;margin:4em auto}input{font:inherit;width:100%}"
_FORM = """
<p>Claude Code on some machine requests access to this gateway on your behalf. Continue only if
<b>you</b> started this sign-in, and Claude Code shows the same code.</p>
<form method="post" action="/device">
<input type="hidden" name="form" value="{form}">
<p><label>Code<input name="user_code" value="{code}" autocomplete="off" required></label></p>
{proof}
<p><button name="action" value="approve">Approve</button>
<button name="action" value="deny">Deny</button></p>
{provider}
</form>"""
_PERSONAL = """<p><label>Your token, which begins with ccu_
<input name="token" type="password" autocomplete="off"></label></p>"""
_PROVIDER = """<p>or</p>
<p><button name="action" value="oidc">Sign in with {host}</button></p>"""
_IDENTITY = """<input type="hidden" name="identity" value="{identity}">
<p>You are signed in as <b>{email}</b>.</p>"""
_FLOW_COOKIE = "ccproxy_sign_in"
_PAGE = "approval page"
_FLOW = "sign-in at the provider"
_IDENTIFIED = "identity for approval"
_WRONG_CODE = (
    "This code is wrong or has expired. Compare it with the one in Claude Code, or start again."
)
_NOT_CONFIRMED = "<p>The identity provider did not confirm your identity. Start again.</p>"
_TOO_MANY = "<p>Too many failed attempts. Wait ten minutes.</p>"


async def show(request: ClientRequest) -> web.Response:
    """Show the form; a code in the URL is filled in, but never submitted automatically."""
    _check(request, is_form=False)
    return _form(request, _code_of(request.query.get("user_code", "")))


async def decide(request: ClientRequest) -> web.Response:
    """Approve or deny a sign-in."""
    _check(request, is_form=True)
    gateway, form = gateway_of(request), await form_of(request)
    nonce = request.cookies.get(_COOKIE, "")
    own = gateway.signed.open(_PAGE, form.get("form", ""))
    if not nonce or own.get("nonce") != nonce:
        return _page("<p>This form has expired. Open the page again from Claude Code.</p>", 403)
    address = address_of(request)
    if not gateway.wrong_tokens.allows(address):
        return _page(_TOO_MANY, 429)
    code = _code_of(form.get("user_code", ""))
    if not await gateway.sign_ins.is_pending(code):
        gateway.wrong_tokens.note(address)
        return _form(request, code, _WRONG_CODE)
    if form.get("action") == "deny":
        await gateway.sign_ins.deny(code)
        return _page("<p>The sign-in was denied. You can close this page.</p>")
    if form.get("action") == "oidc" and gateway.provider is not None:
        return await _go_to_provider(request, gateway.provider, code)
    if identity := form.get("identity"):
        return await _approve_identity(request, gateway, code, identity, nonce)
    return await _approve(request, gateway, code, form.get("token", "").strip())


async def return_from_provider(request: ClientRequest) -> web.Response:
    """Identify the user who returns from the identity provider, and ask for confirmation."""
    _check(request, is_form=False)
    gateway, address = gateway_of(request), address_of(request)
    provider = gateway.provider
    if provider is None:
        raise Problem("not_found_error", "this gateway has no identity provider")
    saved = gateway.signed.open(_FLOW, request.cookies.get(_FLOW_COOKIE, ""))
    state = request.query.get("state", "").encode("utf-8", "surrogatepass")
    if not saved or not hmac.compare_digest(saved["state"].encode(), state):
        return _page("<p>This sign-in has expired. Start again in Claude Code.</p>", 403)
    if not gateway.wrong_tokens.allows(address):
        return _page(_TOO_MANY, 429)
    flow = Flow(**saved)
    try:
        email = await provider.email_of(request.query.get("code", ""), flow)
    except IdentityError as error:
        gateway.wrong_tokens.note(address)
        gateway.log.warning("sign_in.not_identified", address=address, reason=str(error))
        return _without_flow(_page(_NOT_CONFIRMED, 403))
    user = gateway.directory.user_with_email(email)
    if user is None:
        gateway.log.warning("sign_in.unknown_email", address=address, email=email[:100])
        text = f"{email[:100]} is not a user of this gateway. Ask its owner for access."
        return _without_flow(_page(f"<p>{escape(text)}</p>", 403))
    return _without_flow(_form(request, flow.user_code, user=user))


async def _go_to_provider(
    request: ClientRequest, provider: IdentityProvider, code: str
) -> web.Response:
    """Return a page that opens the provider's: the form's policy forbids a redirect."""
    gateway = gateway_of(request)
    flow = new_flow(f"{origin_of(request)}/device/oidc", code)
    try:
        url = escape(await provider.authorization_url(flow))
    except IdentityError as error:
        gateway.log.error("sign_in.provider_unavailable", reason=str(error))
        return _form(request, code, "The identity provider does not respond. Try again later.")
    response = _page(
        f'<meta http-equiv="refresh" content="0; url={url}">'
        f'<p><a href="{url}">Continue to the identity provider</a></p>'
    )
    sealed = gateway.signed.seal(_FLOW, asdict(flow), seconds=DEVICE_SECONDS)
    # Lax, because the provider redirects the browser back here.
    _set_cookie(request, response, _FLOW_COOKIE, sealed, same_site="Lax")
    return response


async def _approve_identity(
    request: ClientRequest, gateway: Gateway, code: str, identity: str, nonce: str
) -> web.Response:
    fields = gateway.signed.open(_IDENTIFIED, identity)
    user = gateway.directory.user_with_email(fields.get("email", ""))
    if user is None or (fields["user_code"], fields["nonce"]) != (code, nonce):
        gateway.wrong_tokens.note(address_of(request))
        return _page(_NOT_CONFIRMED, 403)
    return await _end(request, code, user, oidc_approval(user.email))


async def _approve(request: ClientRequest, gateway: Gateway, code: str, token: str) -> web.Response:
    user = gateway.directory.owner_of(token)
    if user is None:
        await gateway.sign_ins.note_mistake(code)
        gateway.wrong_tokens.note(address_of(request))
        gateway.log.warning("sign_in.wrong_token", address=address_of(request))
        return _form(request, code, "This token is not valid. Ask the owner of the gateway.")
    return await _end(request, code, user, hash_token(token))


async def _end(request: ClientRequest, code: str, user: User, approval: str) -> web.Response:
    """Approve the sign-in, unless it was already approved, denied or has expired."""
    gateway = gateway_of(request)
    if not await gateway.sign_ins.approve(code, approval):
        return _form(request, code, _WRONG_CODE)
    gateway.log.info("sign_in.approved", user=user.name, address=address_of(request))
    text = f"Signed in as {user.email or user.name}. Close this page and return to Claude Code."
    return _page(f"<p>{escape(text)}</p>")


def _check(request: ClientRequest, *, is_form: bool) -> None:
    request.worker.authenticator.check_own_page(
        request.headers, request.raw_path, origin=origin_of(request), is_form=is_form
    )


def _code_of(text: str) -> str:
    """Return the code that a user typed, or an empty string if it cannot be a code."""
    code = re.sub(r"[\s-]", "", text[:100]).upper()
    return code if _CODE.fullmatch(code) else ""


def _form(
    request: ClientRequest, code: str, error: str = "", user: User | None = None
) -> web.Response:
    """Return the page with the form; *user*, if any, was identified by the provider."""
    nonce = secrets.token_urlsafe(24)
    gateway = gateway_of(request)
    fields = _FORM.format(
        form=gateway.signed.seal(_PAGE, {"nonce": nonce}, seconds=DEVICE_SECONDS),
        code=escape(code),
        proof=_PERSONAL if user is None else _identity(gateway, user, code, nonce),
        # Last, because the Enter key presses the first button.
        provider=_provider_button(gateway) if user is None else "",
    )
    notice = f'<p role="alert"><b>{escape(error)}</b></p>' if error else ""
    response = _page(notice + fields, 400 if error else 200)
    _set_cookie(request, response, _COOKIE, nonce, same_site="Strict")
    return response


def _provider_button(gateway: Gateway) -> str:
    provider = gateway.provider
    return "" if provider is None else _PROVIDER.format(host=escape(provider.host))


def _identity(gateway: Gateway, user: User, code: str, nonce: str) -> str:
    fields = {"email": user.email, "user_code": code, "nonce": nonce}
    sealed = gateway.signed.seal(_IDENTIFIED, fields, seconds=DEVICE_SECONDS)
    return _IDENTITY.format(identity=sealed, email=escape(user.email))


def _set_cookie(
    request: ClientRequest,
    response: web.Response,
    name: str,
    value: str,
    *,
    same_site: Literal["Lax", "Strict"],
) -> None:
    response.set_cookie(
        name,
        value,
        path="/device",
        httponly=True,
        samesite=same_site,
        secure=origin_of(request).startswith("https://"),
    )


def _without_flow(response: web.Response) -> web.Response:
    """Delete the cookie of the provider's sign-in, which can be completed only once."""
    response.del_cookie(_FLOW_COOKIE, path="/device")
    return response


def _page(content: str, status: int = 200) -> web.Response:
    title = "Sign in to the gateway"
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1>{content}</html>"
    )
    return web.Response(status=status, text=text, content_type="text/html", headers=_HEADERS)
