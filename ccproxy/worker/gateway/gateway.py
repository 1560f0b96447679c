"""
The gateway of one worker: maps tokens to users, and signs Claude Code in.

A user has a personal token (`ccproxy users add NAME`). It is used as ANTHROPIC_AUTH_TOKEN, and to
approve Claude Code's sign-ins on a page of the gateway. An identity provider can approve them, too.
A session is valid only as long as the token or email that approved it, so a single edit of
`users.toml` revokes all of a user's access, at every entry.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from structlog.typing import FilteringBoundLogger

from ccproxy.config.team.users import (
    TOKEN_PREFIX,
    User,
    Users,
    oidc_approval,
)
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.store.sign_in_records import SignInRecords
from ccproxy.worker.gateway.address_limit import AddressLimit
from ccproxy.worker.gateway.sign_ins import SignedIn, SignIns, TokenPair
from ccproxy.worker.gateway.signed_values import SignedValues
from ccproxy.worker.gateway.telemetry_relay import TelemetryRelay
from ccproxy.worker.gateway.user_directory import UserDirectory

if TYPE_CHECKING:
    from ccproxy.worker.gateway.identity_provider import IdentityProvider
    from ccproxy.worker.redis.shared_pool import SharedPool

MOST_TOKENS = 4
"""Maximum number of tokens to look up per request; clients normally send one."""
_WINDOW = 600.0


class Gateway:
    """The users of an entry, and their sign-ins."""

    def __init__(
        self,
        config: WorkerConfig,
        directory: UserDirectory,
        sign_ins: SignIns,
        *,
        secret: bytes,
        log: FilteringBoundLogger,
        clock: Callable[[], float],
    ) -> None:
        """
        Create the gateway of *config*; *secret* signs the values that browsers store.

        *secret* and *clock* (seconds since the epoch) are the same in every worker and replica.
        """
        oidc = config.gateway.oidc
        self.directory = directory
        self.sign_ins = sign_ins
        self.public_url = config.gateway.public_url
        self.provider = _provider(config)
        self.telemetry = _telemetry(config, log)
        self.log = log
        self.new_sign_ins = AddressLimit(30, _WINDOW, clock=time.monotonic)
        self.wrong_tokens = AddressLimit(10, _WINDOW, clock=time.monotonic)
        self.signed = SignedValues(hmac.digest(secret, b"ccproxy-sign-in", "sha256"), clock=clock)
        self._session_seconds = 0.0 if oidc is None else oidc.session_seconds
        self._clock = clock
        self._indexed: Users | None = None
        """The users that are indexed in `_by_approval`."""
        self._by_approval: Mapping[str, User] = {}

    def is_public_host(self, host: str) -> bool:
        """Return True if *host*, taken from a Host header, is the host of the public address."""
        public = urlsplit(self.public_url)
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        return bool(public.hostname) and name.lower().rstrip(".") == public.hostname

    async def user_of(self, tokens: Iterable[str]) -> User | None:
        """
        Return the user of the first valid personal or session token, or None.

        Raises:
            Problem: If sessions are stored in Redis and Redis is unavailable.

        """
        own = (token for token in tokens if token.startswith(TOKEN_PREFIX))
        for token in islice(own, MOST_TOKENS):
            user = self.directory.owner_of(token)
            if user is None and (session := await self.sign_ins.find(token)) is not None:
                user = self._user_with(session.approval)
            if user is not None:
                return user
        return None

    async def refresh(self, token: str) -> tuple[User, TokenPair] | None:
        """Exchange a refresh *token* for new tokens; return None if it is invalid."""
        refreshed = await self.sign_ins.refresh(token)
        if refreshed is None:
            return None
        session, pair = refreshed
        user = self._user_with(session.approval)
        if user is None or self._is_too_old(session, user):
            await self.sign_ins.close_session(pair.access)
            return None
        return user, pair

    async def sign_in(self, approval: str) -> tuple[User, TokenPair] | None:
        """Open a session for a sealed *approval*; return None if the approval was revoked."""
        user = self._user_with(approval)
        return None if user is None else (user, await self.sign_ins.open_session(approval))

    def _user_with(self, approval: str) -> User | None:
        """Return the user with the sealed *approval*, or None if it was revoked."""
        users = self.directory.users
        if users is not self._indexed:
            self._by_approval = {
                self.sign_ins.sealed(one): user
                for user in users.by_name.values()
                for one in user.approvals
            }
            self._indexed = users
        return self._by_approval.get(approval)

    def _is_too_old(self, session: SignedIn, user: User) -> bool:
        """Return True if the identity provider must confirm *user* again."""
        is_of_provider = session.approval == self.sign_ins.sealed(oidc_approval(user.email))
        return is_of_provider and self._clock() - session.since > self._session_seconds


def make_gateway(
    config: WorkerConfig,
    users_file: Path,
    *,
    state: Path,
    secret: bytes,
    shared: SharedPool | None,
    log: FilteringBoundLogger,
) -> Gateway:
    """
    Return the gateway of *config* for the users in *users_file*.

    Sign-ins are stored in Redis if the key pool is *shared*, otherwise in the folder *state*.

    Raises:
        ConfigError: If the users file is invalid.
        CcproxyError, OSError, sqlite3.Error: If the sign-ins file cannot be opened.

    """
    directory = UserDirectory(users_file, log=log)
    if shared is None:
        clock: Callable[[], float] = time.time
        sign_ins = SignIns(SignInRecords(state, clock=clock), secret=secret, clock=clock)
    else:
        clock = shared.backend.clock
        sign_ins = SignIns(shared.records(), secret=shared.secret, clock=clock)
    own = config.services.signing_key or secret
    return Gateway(config, directory, sign_ins, secret=own, log=log, clock=clock)


def _telemetry(config: WorkerConfig, log: FilteringBoundLogger) -> TelemetryRelay | None:
    url = config.gateway.telemetry_url
    if url is None:
        return None
    return TelemetryRelay(url, ca_bundle=config.ca_bundle, proxy=config.upstream_proxy, log=log)


def _provider(config: WorkerConfig) -> IdentityProvider | None:
    if config.gateway.oidc is None:
        return None
    # joserfc is an extra; only workers that need it should pay its import time and memory.
    from ccproxy.worker.gateway.identity_provider import IdentityProvider

    return IdentityProvider(
        config.gateway.oidc, ca_bundle=config.ca_bundle, proxy=config.upstream_proxy
    )
