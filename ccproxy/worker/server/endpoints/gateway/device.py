"""
/device: the page on which a user approves a sign-in of Claude Code.

The user enters the code that Claude Code shows, and the personal token. The page has no session of
its own, so that nothing can be approved with what a browser sends by itself. Forms of other sites
are refused three times: by Origin, by Sec-Fetch-Site, and by a field that belongs to a cookie.
"""

from __future__ import annotations

import re
import secrets
from html import escape

from aiohttp import web

from ccproxy.worker.gateway.gateway import USER_CODE_LENGTH, USER_CODE_LETTERS, Gateway
from ccproxy.worker.server.endpoints.gateway.oauth import address_of, form_of, gateway_of, origin_of
from ccproxy.worker.server.http import ClientRequest

_COOKIE = "ccproxy_approval"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_CODE = re.compile(f"[{USER_CODE_LETTERS}]{{{USER_CODE_LENGTH}}}")
_STYLE = "body{font:16px sans-serif;max-width:30em;margin:4em auto}input{font:inherit;width:100%}"
_FORM = """
<p>Claude Code on some machine asks to use this gateway in your name. Continue only if
<b>you</b> started this sign-in, and Claude Code shows the same code.</p>
<form method="post" action="/device">
<input type="hidden" name="form" value="{form}">
<p><label>Code<input name="user_code" value="{code}" autocomplete="off" required></label></p>
<p><label>Your token, which begins with ccu_
<input name="token" type="password" autocomplete="off"></label></p>
<p><button name="action" value="approve">Approve</button>
<button name="action" value="deny">Refuse</button></p>
</form>"""


async def show(request: ClientRequest) -> web.Response:
    """Show the form; a code in the address is filled in, but never sent by itself."""
    _check(request, is_form=False)
    return _form(request, _code_of(request.query.get("user_code", "")))


async def decide(request: ClientRequest) -> web.Response:
    """Approve or refuse a sign-in."""
    _check(request, is_form=True)
    gateway, form = gateway_of(request), await form_of(request)
    nonce = request.cookies.get(_COOKIE, "")
    if not gateway.is_form_token(nonce, form.get("form", "")):
        return _page("<p>This form has expired. Open the page again from Claude Code.</p>", 403)
    address = address_of(request)
    if not gateway.wrong_tokens.allows(address):
        return _page("<p>Too many wrong entries. Wait ten minutes.</p>", 429)
    code = _code_of(form.get("user_code", ""))
    if not gateway.sign_ins.is_pending(code):
        gateway.wrong_tokens.note(address)
        text = "This code is wrong or has expired. Compare it with Claude Code, or begin again."
        return _form(request, code, text)
    if form.get("action") == "deny":
        gateway.sign_ins.deny(code)
        return _page("<p>The sign-in was refused. You can close this page.</p>")
    return _approve(request, gateway, code, form.get("token", "").strip())


def _approve(request: ClientRequest, gateway: Gateway, code: str, token: str) -> web.Response:
    user = gateway.approve(code, token)
    if user is None:
        gateway.wrong_tokens.note(address_of(request))
        gateway.log.warning("sign_in.wrong_token", address=address_of(request))
        return _form(request, code, "This token is not valid. Ask the owner of the gateway.")
    gateway.log.info("sign_in.approved", user=user.name, address=address_of(request))
    text = f"Signed in as {user.email or user.name}. Return to Claude Code; close this page."
    return _page(f"<p>{escape(text)}</p>")


def _check(request: ClientRequest, *, is_form: bool) -> None:
    request.worker.authenticator.check_own_page(
        request.headers, request.raw_path, origin=origin_of(request), is_form=is_form
    )


def _code_of(text: str) -> str:
    """Return the code that a user has typed; empty if it cannot be one."""
    code = re.sub(r"[\s-]", "", text[:100]).upper()
    return code if _CODE.fullmatch(code) else ""


def _form(request: ClientRequest, code: str, error: str = "") -> web.Response:
    nonce = secrets.token_urlsafe(24)
    fields = _FORM.format(form=gateway_of(request).form_token(nonce), code=escape(code))
    notice = f'<p role="alert"><b>{escape(error)}</b></p>' if error else ""
    response = _page(notice + fields, 400 if error else 200)
    response.set_cookie(
        _COOKIE,
        nonce,
        path="/device",
        httponly=True,
        samesite="Strict",
        secure=origin_of(request).startswith("https://"),
    )
    return response


def _page(content: str, status: int = 200) -> web.Response:
    title = "Sign in to the gateway"
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1>{content}</html>"
    )
    return web.Response(status=status, text=text, content_type="text/html", headers=_HEADERS)
