"""A scripted identity provider: discovery, authorization page, tokens and keys, on loopback."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

CLIENT_ID, CLIENT_SECRET = "ccproxy-gateway", "hidden-secret-of-the-gateway"


def new_key(name: str) -> RSAKey:
    """Return a key for signing tokens."""
    return RSAKey.generate_key(2048, {"kid": name})


FIRST_KEY = new_key("first")


def _encoded(content: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


class OidcProvider:
    """
    The provider; `async with OidcProvider() as provider` runs it.

    Attributes:
        claims: Replacements for claims of the next tokens; None removes a claim.
        key, algorithm: The key and algorithm that sign them.
        listed: The published keys.
        document: Replacements for values of the discovery document.
        requests: The requested paths.
        pages: The handlers for a real browser, by path; a scripted one uses `sign_in`.
    """

    def __init__(self) -> None:
        self.key = FIRST_KEY
        self.algorithm = "RS256"
        self.listed = [self.key.as_dict(private=False)]
        self.claims: dict[str, Any] = {}
        self.document: dict[str, Any] = {}
        self.requests: list[str] = []
        self.pages: dict[str, Callable[[web.Request], Awaitable[web.Response]]] = {}
        self._codes: dict[str, Mapping[str, str]] = {}

    async def __aenter__(self) -> OidcProvider:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._keys)
        app.router.add_post("/token", self._token)
        app.router.add_get("/{page}", self._page)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def settings(self) -> dict[str, str]:
        """Return the settings of a gateway that uses this provider."""
        return {
            "OIDC_ISSUER": self.url,
            "OIDC_CLIENT_ID": CLIENT_ID,
            "OIDC_CLIENT_SECRET": CLIENT_SECRET,
        }

    def sign_in(self, page: str) -> dict[str, str]:
        """Sign in on *page*, the provider's; return the query of the redirect to the gateway."""
        url = urlsplit(page)
        query = dict(parse_qsl(url.query))
        assert f"{url.scheme}://{url.netloc}{url.path}" == f"{self.url}/authorize"
        assert (query["response_type"], query["client_id"]) == ("code", CLIENT_ID)
        assert (query["code_challenge_method"], query["scope"]) == ("S256", "openid email")
        code = f"code-{len(self._codes)}"
        self._codes[code] = query
        return {"code": code, "state": query["state"]}

    async def _page(self, request: web.Request) -> web.Response:
        return await self.pages[request.path](request)

    async def _discovery(self, request: web.Request) -> web.Response:
        self.requests.append(request.path)
        usual = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        }
        return web.json_response({**usual, **self.document})

    async def _keys(self, request: web.Request) -> web.Response:
        self.requests.append(request.path)
        return web.json_response({"keys": self.listed})

    async def _token(self, request: web.Request) -> web.Response:
        self.requests.append(request.path)
        form = await request.post()
        asked = self._codes.pop(str(form["code"]), None)
        login = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        digest = sha256(str(form["code_verifier"]).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        is_valid = (
            asked is not None
            and request.headers.get("Authorization") == f"Basic {login}"
            and challenge == asked["code_challenge"]
            and form["redirect_uri"] == asked["redirect_uri"]
        )
        if asked is None or not is_valid:
            return web.json_response({"error": "invalid_grant"}, status=400)
        return web.json_response({"id_token": self._id_token(asked["nonce"])})

    def _id_token(self, nonce: str) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": "42",
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
            "email": "anna@example.com",
            "email_verified": True,
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": self.algorithm, "kid": self.key.kid}
        if self.algorithm == "none":
            return f"{_encoded(header)}.{_encoded(claims)}."
        if self.algorithm == "HS256":
            public = OctKey.import_key(FIRST_KEY.as_pem(private=False))
            return jwt.encode(header, claims, public, algorithms=["HS256"])
        return jwt.encode(header, claims, self.key, algorithms=[self.algorithm])
