"""A sign-in at an identity provider, from the redirect there to the way back."""

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
    """The provider did not confirm who the user is; the text is for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What belongs to one sign-in."""

    state: str
    """Comes back with the browser: the answer belongs to this browser's request."""
    nonce: str
    """Comes back in the ID token: the token was issued for this request."""
    verifier: str
    """The PKCE verifier: a stolen code cannot be used without it."""
    redirect_uri: str
    user_code: str
    """The sign-in that it may approve."""


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
    Return the email of a user; IdentityError unless the provider states that it is verified.

    Anyone may be able to give an account the email of someone else. Microsoft Entra ID has no
    `email_verified`, but the optional claim `xms_edov`: the owner of the email's domain has been
    verified ("Migrate away from using email claims for user identification", Microsoft).
    """
    email = claims.get("email")
    is_verified = claims.get("email_verified")
    if is_verified is None and urlsplit(issuer).hostname in _ENTRA:
        is_verified = claims.get("xms_edov")
    # Some providers send texts, and Entra ID numbers.
    if not isinstance(email, str) or is_verified not in (True, "true", "1"):
        raise IdentityError("the ID token has no verified email")
    return email
