"""The identity provider that approves sign-ins at a gateway."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec

from ccproxy.config import settings as s
from ccproxy.config.reader import EnvReader

DAY = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """A provider of OpenID Connect, and the gateway as its client."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    """Empty: a public client."""
    session_seconds: float
    """How long a session lives that it approved."""


def read_oidc(env: EnvReader) -> OidcSettings | None:
    """Return the settings, None without a provider; mistakes are noted in *env*."""
    issuer = env.read(s.OIDC_ISSUER)
    client_id, secret = env.read(s.OIDC_CLIENT_ID), env.read(s.OIDC_CLIENT_SECRET)
    days = env.read(s.OIDC_SESSION_DAYS)
    if issuer is None:
        return None
    value = env.value(s.OIDC_ISSUER)
    for other in (s.OIDC_CLIENT_ID, s.USERS):
        if env.value(other) is None:
            fix = f"add {other.name}={other.example}"
            env.note(value, f"OIDC_ISSUER needs {other.name}", fix=fix)
    if find_spec("joserfc") is None:
        text = "OIDC_ISSUER needs a library that is not installed"
        env.note(value, text, fix="pip install 'ccproxy-fleet[oidc]'")
    return OidcSettings(
        issuer=issuer, client_id=client_id, client_secret=secret, session_seconds=days * DAY
    )
