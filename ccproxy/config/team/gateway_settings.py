"""The settings that turn an entry into a team gateway."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from ccproxy.config import settings as s
from ccproxy.config.reader import EnvReader
from ccproxy.config.team.tls_files import TlsFiles, read_tls
from ccproxy.config.team.users import read_users
from ccproxy.errors import ConfigError

DAY = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """An OpenID Connect provider, and the gateway's registration as its client."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    """Empty for a public client."""
    session_seconds: float
    """Lifetime of a session that the provider approved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """The users of an entry, and how they reach it and sign in."""

    users_file: Path | None
    """None if the entry has no users and therefore is not a gateway."""
    public_url: str
    """The gateway's origin; if empty, the origin of the request, on loopback only."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    """Trusted reverse proxies: their X-Forwarded-For names the client."""
    telemetry_url: str | None
    """The address to which clients' telemetry is forwarded; None to discard it."""
    oidc: OidcSettings | None
    """The identity provider for sign-ins; None if users have only personal tokens."""
    tls: TlsFiles | None
    """The certificate for https; None if the port serves http."""


def read_gateway(env: EnvReader) -> GatewaySettings:
    """Return the gateway settings; mistakes in them and in the users file are noted in *env*."""
    path = _users_file(env)
    return GatewaySettings(
        users_file=path,
        public_url=env.read(s.PUBLIC_URL),
        trusted_proxies=env.read(s.TRUSTED_PROXIES),
        telemetry_url=env.read(s.TELEMETRY_URL),
        oidc=_oidc(env),
        tls=read_tls(env),
    )


def _users_file(env: EnvReader) -> Path | None:
    path_text = env.read(s.USERS)
    if path_text is None:
        return None
    path = env.path(path_text)
    try:
        read_users(path)
    except ConfigError as error:
        env.mistakes += error.mistakes
    if env.value(s.REDIS_URL) is not None and env.value(s.SIGNING_KEY) is None:
        # Without it, anyone who can write to Redis could sign in as any user.
        fix = "add SIGNING_KEY=…, the same secret on every replica, made with: openssl rand -hex 32"
        env.note(env.value(s.USERS), "USERS with REDIS_URL needs SIGNING_KEY", fix=fix)
    return path


def _oidc(env: EnvReader) -> OidcSettings | None:
    """Return the OIDC settings, or None if no provider is configured; note mistakes in *env*."""
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
    env.check_extra(s.OIDC_ISSUER, "joserfc", "oidc")
    return OidcSettings(
        issuer=issuer, client_id=client_id, client_secret=secret, session_seconds=days * DAY
    )
