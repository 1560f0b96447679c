"""
Identifies users at an OpenID Connect identity provider with the authorization code flow.

Endpoints and keys come from the provider's discovery document. The flow uses PKCE, a state and a
nonce. An ID token is accepted only if one of the provider's current keys signed it with an
asymmetric algorithm, recently and for this gateway. The email in the token counts only if the
provider has verified it.
"""

from __future__ import annotations

import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, import_key

from ccproxy.config import parsers
from ccproxy.config.forward_proxy import proxy_for
from ccproxy.config.team.gateway_settings import OidcSettings
from ccproxy.worker.gateway.oidc_flow import Flow, IdentityError, verified_email
from ccproxy.worker.upstream.auxiliary_request import AuxiliaryRequestError, read_limited
from ccproxy.worker.upstream.connections import explain, open_session

ALGORITHMS = ["RS256", "PS256", "ES256"]
"""Accepted signature algorithms; neither `none` nor any algorithm with a shared secret."""
CACHE_SECONDS = 3600.0
RETRY_SECONDS = 30.0
"""Minimum time between requests for the keys, even if a token has an unknown key ID."""
LEEWAY = 60
"""Seconds by which the clocks may differ."""
REPLY_LIMIT = 1024 * 1024
_TIMEOUT = aiohttp.ClientTimeout(total=10)


class IdentityProvider:
    """A client of one identity provider."""

    def __init__(
        self,
        settings: OidcSettings,
        *,
        ca_bundle: Path | None,
        proxy: str | None,
    ) -> None:
        self._settings = settings
        self._ca_bundle = ca_bundle
        self._proxy = proxy
        self._clock = time.time
        self._document: Mapping[str, Any] = {}
        self._document_at = 0.0
        self._keys = KeySet([])
        self._keys_at = 0.0

    @property
    def host(self) -> str:
        """The provider's host, which is shown on the sign-in page."""
        return urlsplit(self._settings.issuer).netloc

    async def authorization_url(self, flow: Flow) -> str:
        """
        Return the URL of the provider's sign-in page.

        Raises:
            IdentityError: If the provider's endpoint cannot be determined.

        """
        challenge = urlsafe_b64encode(sha256(flow.verifier.encode()).digest()).rstrip(b"=")
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": flow.redirect_uri,
            "scope": "openid email",
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": challenge.decode(),
            "code_challenge_method": "S256",
        }
        page = await self._endpoint("authorization_endpoint")
        return f"{page}{'&' if '?' in page else '?'}{urlencode(query)}"

    async def email_of(self, code: str, flow: Flow) -> str:
        """
        Return the verified email of the user who returned from the provider with *code*.

        Raises:
            IdentityError: If the provider does not confirm the user's identity and email.

        """
        url = await self._endpoint("token_endpoint")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": flow.redirect_uri,
            "code_verifier": flow.verifier,
            "client_id": self._settings.client_id,
        }
        headers = {"Accept": "application/json"}
        if secret := self._settings.client_secret:
            if "client_secret_basic" in self._methods():
                login = f"{quote(self._settings.client_id, safe='')}:{quote(secret, safe='')}"
                headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
            else:
                form["client_secret"] = secret
        reply = await self._fetch("POST", url, data=form, headers=headers)
        token = reply.get("id_token")
        if not isinstance(token, str):
            raise IdentityError(f"no ID token, but this error: {str(reply.get('error'))[:100]}")
        return verified_email(await self._claims(token, flow.nonce), self._settings.issuer)

    async def _claims(self, token: str, nonce: str) -> Mapping[str, Any]:
        """Return the claims of a valid ID token; fetch the keys again if none of them matches."""
        await self._read_keys(CACHE_SECONDS)
        try:
            signed = self._decode(token)
        except (JoseError, ValueError):
            await self._read_keys(RETRY_SECONDS)
            try:
                signed = self._decode(token)
            except (JoseError, ValueError) as error:
                raise IdentityError(f"the ID token is not valid: {error}"[:200]) from error
        self._check(signed.claims, nonce)
        return signed.claims

    def _decode(self, token: str) -> jwt.Token:
        return jwt.decode(token, self._keys, algorithms=ALGORITHMS)

    def _check(self, claims: Mapping[str, Any], nonce: str) -> None:
        rules = jwt.JWTClaimsRegistry(
            now=lambda: int(self._clock()),
            leeway=LEEWAY,
            iss={"essential": True, "value": self._settings.issuer},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        )
        try:
            rules.validate(dict(claims))
        except JoseError as error:
            raise IdentityError(f"the ID token is not valid: {error}"[:200]) from error
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        own = self._settings.client_id
        if own not in audiences or (len(audiences) > 1 and claims.get("azp") != own):
            raise IdentityError("the ID token is for a different client")
        if claims.get("nonce") != nonce:
            raise IdentityError("the ID token is for a different sign-in")

    async def _read_keys(self, most_age: float) -> None:
        """Fetch the provider's keys unless the current ones are less than *most_age* s old."""
        if self._clock() - self._keys_at < most_age:
            return
        url = await self._endpoint("jwks_uri")
        listed = (await self._fetch("GET", url)).get("keys")
        keys = []
        for one in listed if isinstance(listed, list) else []:
            try:
                # Only public keys: anyone who has a shared secret could sign with it.
                if one.get("kty") in ("RSA", "EC") and one.get("use", "sig") == "sig":
                    keys.append(import_key(one))
            except (JoseError, ValueError, AttributeError, KeyError):
                continue  # an unsupported kind of key; joserfc raises KeyError for a curve
        self._keys, self._keys_at = KeySet(keys), self._clock()

    async def _endpoint(self, name: str) -> str:
        if self._clock() - self._document_at >= CACHE_SECONDS:
            url = f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration"
            document = await self._fetch("GET", url)
            if document.get("issuer") != self._settings.issuer:
                raise IdentityError(f"{url} is the document of a different issuer")
            self._document, self._document_at = document, self._clock()
        url = str(self._document.get(name, ""))
        try:
            parsers.issuer(url.partition("?")[0])
        except ValueError as error:
            raise IdentityError(f"{name} of the issuer {error}") from error
        return url

    def _methods(self) -> list[Any]:
        methods = self._document.get("token_endpoint_auth_methods_supported")
        return methods if isinstance(methods, list) else ["client_secret_basic"]

    async def _fetch(self, method: str, url: str, **options: Any) -> Mapping[str, Any]:  # noqa: ANN401 - aiohttp's
        try:
            async with (
                open_session(self._ca_bundle, timeout=_TIMEOUT) as session,
                session.request(
                    method, url, allow_redirects=False, proxy=proxy_for(url, self._proxy), **options
                ) as response,
            ):
                reply = msgspec.json.decode(await read_limited(response, REPLY_LIMIT))
        except AuxiliaryRequestError as error:
            raise IdentityError(f"{url}: {error}") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise IdentityError(f"{url} does not answer: {explain(error)}") from error
        except msgspec.DecodeError as error:
            raise IdentityError(f"{url} does not answer with JSON") from error
        if not isinstance(reply, dict):
            raise IdentityError(f"{url} does not answer with a JSON object")
        return reply
