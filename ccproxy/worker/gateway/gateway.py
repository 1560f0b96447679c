"""
The gateway of one worker: who a token belongs to, and the sign-in of Claude Code.

A user has a personal token (`ccproxy users add NAME`). It serves as ANTHROPIC_AUTH_TOKEN, and
approves sign-ins of Claude Code on a page of the gateway; an identity provider can do the latter as
well. A session ends with what approved it, the token or the user's email, so that one edit of
`users.toml` revokes everything of a user, at every entry.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from structlog.typing import FilteringBoundLogger

from ccproxy.config.team.users import (
    OIDC_PREFIX,
    TOKEN_PREFIX,
    User,
    hash_token,
    oidc_approval,
)
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.store.sign_ins import SignedIn, SignIns, TokenPair
from ccproxy.worker.gateway.address_limit import AddressLimit
from ccproxy.worker.gateway.signed_values import SignedValues
from ccproxy.worker.gateway.telemetry_relay import TelemetryRelay
from ccproxy.worker.gateway.user_directory import UserDirectory

if TYPE_CHECKING:
    from ccproxy.worker.gateway.identity_provider import IdentityProvider

USER_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so no words, and no characters that look alike (RFC 8628, 6.1)."""
USER_CODE_LENGTH = 8
_WINDOW = 600.0


class Gateway:
    """The users of an entry and their sign-ins."""

    def __init__(
        self,
        directory: UserDirectory,
        sign_ins: SignIns,
        *,
        public_url: str,
        secret: bytes,
        provider: IdentityProvider | None = None,
        session_seconds: float = 0.0,
        telemetry: TelemetryRelay | None = None,
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Prepare the gateway; *public_url* is its address, *secret* protects the approval page.

        Sessions that the *provider* approved end after *session_seconds*.
        """
        self.directory = directory
        self.sign_ins = sign_ins
        self.public_url = public_url
        self.provider = provider
        self.telemetry = telemetry
        self.log = log
        self.new_sign_ins = AddressLimit(30, _WINDOW, clock=clock)
        self.wrong_tokens = AddressLimit(10, _WINDOW, clock=clock)
        self._form_key = hmac.digest(secret, b"ccproxy-approval-form", "sha256")
        key = hmac.digest(secret, b"ccproxy-sign-in", "sha256")
        self.signed = SignedValues(key, clock=time.time)
        self._session_seconds = session_seconds

    def is_public_host(self, host: str) -> bool:
        """Return True if *host*, of a Host header, is that of the public address."""
        public = urlsplit(self.public_url)
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        return bool(public.hostname) and name.lower().rstrip(".") == public.hostname

    def user_of(self, token: str) -> User | None:
        """Return the user of *token*, personal or of a session; None if it is not valid."""
        if not token.startswith(TOKEN_PREFIX):
            return None
        if (user := self.directory.owner_of(token)) is not None:
            return user
        who = self.sign_ins.find(token)
        return None if who is None else self._current(who)

    def refresh(self, token: str) -> tuple[User, TokenPair] | None:
        """Return new tokens in exchange for a refresh *token*; None if it is not valid."""
        renewed = self.sign_ins.refresh(token)
        if renewed is None:
            return None
        who, pair = renewed
        user = self._current(who)
        if user is None or self._is_too_old(who):
            self.sign_ins.close_session(pair.access)
            return None
        return user, pair

    def sign_in(self, who: SignedIn) -> tuple[User, TokenPair] | None:
        """Open a session for an approved sign-in; None if its user was revoked meanwhile."""
        user = self._current(who)
        return None if user is None else (user, self.sign_ins.open_session(who))

    def approve(self, user_code: str, token: str) -> User | None:
        """Approve a sign-in with the personal *token* of a user; None if it is not one."""
        user = self.directory.owner_of(token)
        if user is None:
            self.sign_ins.note_mistake(user_code)
            return None
        self.sign_ins.approve(user_code, SignedIn(user=user.name, token=hash_token(token)))
        return user

    def approve_as(self, user_code: str, user: User) -> None:
        """Approve a sign-in for *user*, whom the identity provider has identified."""
        who = SignedIn(user=user.name, token=oidc_approval(user.email))
        self.sign_ins.approve(user_code, who)

    def form_token(self, nonce: str) -> str:
        """Return the hidden field of an approval page whose cookie is *nonce*."""
        return hmac.new(self._form_key, nonce.encode(), "sha256").hexdigest()

    def is_form_token(self, nonce: str, value: str) -> bool:
        """Return True if a form was filled in on the page with the cookie *nonce*."""
        field = value.encode("utf-8", "surrogatepass")
        return bool(nonce) and hmac.compare_digest(self.form_token(nonce).encode(), field)

    def close(self) -> None:
        """Close the file of sign-ins."""
        self.sign_ins.close()

    def _current(self, who: SignedIn) -> User | None:
        user = self.directory.user(who.user)
        return user if user is not None and who.token in user.approvals else None

    def _is_too_old(self, who: SignedIn) -> bool:
        """Return True if the identity provider has to confirm the user of a session again."""
        return who.token.startswith(OIDC_PREFIX) and time.time() - who.since > self._session_seconds


def make_gateway(
    config: WorkerConfig,
    users_file: Path,
    *,
    state: Path,
    secret: bytes,
    log: FilteringBoundLogger,
) -> Gateway:
    """
    Return the gateway of *config* for the users of *users_file*.

    Raises:
        ConfigError: If the file of users has mistakes.
        CcproxyError, OSError, sqlite3.Error: If the file of sign-ins cannot be opened.

    """
    return Gateway(
        UserDirectory(users_file, log=log),
        SignIns(state, new_secret=_new_token, clock=time.time),
        public_url=config.gateway.public_url,
        secret=config.services.signing_key or secret,
        provider=_provider(config),
        session_seconds=config.gateway.oidc.session_seconds if config.gateway.oidc else 0.0,
        telemetry=_telemetry(config, log),
        log=log,
    )


def _telemetry(config: WorkerConfig, log: FilteringBoundLogger) -> TelemetryRelay | None:
    url = config.gateway.telemetry_url
    if url is None:
        return None
    return TelemetryRelay(url, ca_bundle=config.ca_bundle, proxy=config.upstream_proxy, log=log)


def _provider(config: WorkerConfig) -> IdentityProvider | None:
    if config.gateway.oidc is None:
        return None
    # joserfc is an extra, and costs time and memory that only such a worker should pay.
    from ccproxy.worker.gateway.identity_provider import IdentityProvider

    return IdentityProvider(
        config.gateway.oidc, ca_bundle=config.ca_bundle, proxy=config.upstream_proxy
    )


def new_user_code() -> str:
    """Return a code that a user can type."""
    return "".join(secrets.choice(USER_CODE_LETTERS) for _ in range(USER_CODE_LENGTH))


def _new_token() -> str:
    return TOKEN_PREFIX + secrets.token_urlsafe(32)
