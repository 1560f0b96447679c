"""A sign-in at an identity provider, from the redirect there to the way back."""

from __future__ import annotations

import secrets
from dataclasses import dataclass


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


def new_flow(redirect_uri: str) -> Flow:
    """Return the secrets of a new sign-in."""
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    return Flow(state=state, nonce=nonce, verifier=verifier, redirect_uri=redirect_uri)
