"""
The checks that requests from browsers must pass.

| check | refuses | status |
|---|---|---|
| Host is the loopback address and our port | DNS rebinding | 421 |
| Origin, if there is one, is ours | forms and scripts of other pages | 403 |
| Sec-Fetch-Site is same-origin or none | the same, even without Origin | 403 |
| the session's cookie and token | everything without a session | 401 |

Links from other pages are refused as well, because no feature needs them.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from ccproxy.ui.sign_in import SignIn

TOKEN_HEADER = "x-ccproxy-ui-token"  # noqa: S105 - the name of a header
OPEN_PATHS = frozenset({"/", "/session", "/sign_in.js", "/sign_in.css", "/icon.svg"})
"""Paths served without a session, where `/` is the sign-in page. None of them contains data."""
DATA_PREFIX = "/api/"

CONTENT_SECURITY_POLICY = "; ".join((
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
))  # fmt: skip
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
    "Server": "ccproxy",
}
_HOSTS = ("127.0.0.1", "localhost")


class BrowserGuard:
    """The checks for a page on *port*."""

    def __init__(self, sign_in: SignIn, *, port: Callable[[], int]) -> None:
        self._sign_in = sign_in
        self._port = port

    @property
    def cookie_name(self) -> str:
        """The name of the cookie, with the port because all ports of a host share its cookies."""
        return f"ccproxy_ui_{self._port()}"

    def has_session(self, request: web.Request) -> bool:
        """Return True if the request has a session's cookie."""
        return self._sign_in.knows_cookie(request.cookies.get(self.cookie_name, ""))

    def middleware(self) -> Middleware:
        """Return the middleware that refuses requests."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            refusal = self._refusal(request)
            return _refused(*refusal) if refusal else await handler(request)

        return guard

    def _refusal(self, request: web.Request) -> tuple[int, str] | None:
        hosts = [f"{name}:{self._port()}" for name in _HOSTS]
        headers = request.headers
        if headers.getall("Host", []) not in [[host] for host in hosts]:
            return 421, f"this page is served at http://{hosts[0]} only"
        origin = headers.get("Origin")
        if origin is not None and origin != f"http://{headers['Host']}":
            return 403, "requests from other pages are refused"
        if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return 403, "requests from other pages are refused"
        return self._refusal_without_session(request)

    def _refusal_without_session(self, request: web.Request) -> tuple[int, str] | None:
        path = request.path
        if path in OPEN_PATHS:
            return None
        cookie = request.cookies.get(self.cookie_name, "")
        token = request.headers.get(TOKEN_HEADER, "")
        if path.startswith(DATA_PREFIX):
            accepted = self._sign_in.accepts(cookie, token)
        else:
            accepted = self._sign_in.knows_cookie(cookie)
        return None if accepted else (401, "sign in with the link that `ccproxy ui` prints")


def _refused(status: int, text: str) -> web.Response:
    """Return a refusal as JSON."""
    return web.json_response({"error": text}, status=status)


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Add the headers that every response has."""
    for name, value in HEADERS.items():
        response.headers[name] = value
