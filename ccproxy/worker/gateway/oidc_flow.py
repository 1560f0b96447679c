"""A sign-in at an identity provider, from the redirect to the callback."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_ENTRA = frozenset(
    {
        *("login.microsoftonline.com", "sts.windows.net"),
        *("login.microsoftonline.us", "login.partner.microsoftonline.cn"),
    }
)
"""Hosts of Microsoft Entra ID's issuers: global, US government, China."""


class IdentityError(Exception):
    """The provider did not confirm a user's identity; the message is for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """The secret values of one sign-in."""

    state: str
    """Returned by the browser: proves that the response belongs to this browser's request."""
    nonce: str
    """Returned in the ID token: proves that the token was issued for this request."""
    verifier: str
    """The PKCE verifier: a stolen code cannot be used without it."""
    redirect_uri: str
    user_code: str
    """The user code of the sign-in that this flow can approve."""


def new_flow(redirect_uri: str, user_code: str) -> Flow:
    """Return a flow with new secrets."""
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    return Flow(
        state=state,
        nonce=nonce,
        verifier=verifier,
        redirect_uri=redirect_uri,
        user_code=user_code,
    )


def verified_email(claims: Mapping[str, Any], issuer: str) -> str:
    """
    Return a user's email; raise IdentityError unless the provider has verified it.

    Otherwise, an account could claim another person's email. Instead of `email_verified`, Microsoft
    Entra ID has the optional claim `xms_edov`: the email's domain belongs to the organization
    ("Migrate away from using email claims for user identification", Microsoft).
    """
    email = claims.get("email")
    is_verified = claims.get("email_verified")
    if is_verified is None and urlsplit(issuer).hostname in _ENTRA:
        is_verified = claims.get("xms_edov")
    # Some providers send strings, and Entra ID sends numbers.
    if not isinstance(email, str) or is_verified not in (True, "true", "1"):
        raise IdentityError("the ID token has no verified email")
    return email
