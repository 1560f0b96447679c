"""
Request authentication: client keys, and protection of loopback listeners from web pages.

A browser on the same machine can reach a loopback port, and a page that rebinds its own name to
127.0.0.1 can even read the responses. Such requests have a foreign Host or an Origin, which no
client of the proxy sends.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING

from ccproxy.config.parsers import is_loopback
from ccproxy.config.team.users import TOKEN_PREFIX, User
from ccproxy.config.worker_config import PLACEHOLDER
from ccproxy.errors import Problem

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - not bound here
"""Never accepted as a Host, even for a listener bound to one: browsers connect to this machine."""

_NOT_FROM_PAGES = ("none", "same-origin")
"""Values of Sec-Fetch-Site for the user's own actions; from another port it is `same-site`."""

# Never worded "invalid x-api-key": Claude Code would then ask the user to log in.
_NO_KEY = (
    "this proxy requires a client key: set ANTHROPIC_AUTH_TOKEN to one of the keys in "
    "ANTHROPIC_API_KEY of the proxy's env file"
)
_WRONG_KEY = (
    "the client key is not a key of this proxy: compare ANTHROPIC_AUTH_TOKEN with "
    "ANTHROPIC_API_KEY in the proxy's env file"
)
_NO_USER = (
    "this gateway requires a user's token: sign in with /login, or set ANTHROPIC_AUTH_TOKEN to the "
    "token that the owner of the gateway gave you"
)
_UNKNOWN_USER = (
    "the token was revoked or has expired: sign in again with /login, or ask the owner of the "
    "gateway for a new one"
)
_NO_KEY_SET = (
    "this route requires a client key, because any process on this machine could use it: set "
    "ANTHROPIC_API_KEY in the proxy's env file and send that key"
)
_FOREIGN_HOST = (
    "this proxy is served only under the names localhost, 127.0.0.1 and ::1, and those in "
    "ALLOWED_HOSTS of its env file"
)
_FROM_PAGE = "requests from web pages are not served"


class Authenticator:
    """Decides from the headers alone whether to serve a request."""

    def __init__(
        self,
        client_keys: Iterable[str],
        *,
        host: str,
        allowed_hosts: Collection[str] = (),
        has_users: bool = False,
    ) -> None:
        """*has_users* is True on a team gateway."""
        self._has_users = has_users
        self._digests = [sha256(key.encode()).digest() for key in client_keys]
        self.is_on_loopback = is_loopback(host)
        """Whether only this machine can reach the listener."""
        checks_host = self.is_on_loopback or allowed_hosts
        self._hosts = (
            _LOOPBACK_NAMES.union({host} - _ANY_ADDRESS, allowed_hosts) if checks_host else None
        )

    @property
    def requires_key(self) -> bool:
        """Whether a client key or a user's token is required."""
        return bool(self._digests) or self._has_users

    def is_own(self, key: str) -> bool:
        """Return True if *key* is for the proxy only: a client key, a token, or the placeholder."""
        is_client_key = bool(self._clients_of([key]))
        return is_client_key or key == PLACEHOLDER or key.startswith(TOKEN_PREFIX)

    def client_of(self, headers: CIMultiDictProxy[str]) -> int | None:
        """Return the index of the client key that a request sends, or None."""
        return next(iter(self._clients_of(offered_keys(headers))), None)

    def _clients_of(self, keys: Iterable[str]) -> list[int]:
        """Return the indexes of the client keys among *keys*."""
        digests = [sha256(_encoded(key)).digest() for key in keys]
        # Compare every pair, so that the time does not depend on which one matches.
        matches = [[compare_digest(one, own) for one in digests] for own in self._digests]
        return [number for number, row in enumerate(matches) if any(row)]

    def check_origin(self, headers: CIMultiDictProxy[str], target: str = "/") -> None:
        """
        Refuse web pages on a loopback listener, on one without client keys, or with ALLOWED_HOSTS.

        Elsewhere the client key is sufficient protection, because no page has that key. *target* is
        the request target, which also contains a host in its absolute form (RFC 9112, 3.2.2).

        Raises:
            Problem: 421 for a foreign host, 403 for a page's request.
        """
        if self._hosts is None and self.requires_key:
            return
        self._check_host(headers, target)
        site = headers.get("Sec-Fetch-Site")
        from_page = site is not None and site.strip().lower() not in _NOT_FROM_PAGES
        if from_page or "Origin" in headers:
            raise Problem("permission_error", _FROM_PAGE)

    def check_own_page(
        self, headers: CIMultiDictProxy[str], target: str, *, origin: str, is_form: bool
    ) -> None:
        """
        Refuse requests for one of the proxy's own pages that another site initiated.

        Any site may link to the page. If *is_form*, only the page itself, at *origin*, may send the
        form.

        Raises:
            Problem: 421 for a foreign host, 403 for a form from another site.
        """
        self._check_host(headers, target)
        site = headers.get("Sec-Fetch-Site", "none").strip().lower()
        is_foreign = site not in _NOT_FROM_PAGES or headers.get("Origin", origin) != origin
        if is_form and is_foreign:
            raise Problem("permission_error", _FROM_PAGE)

    def _check_host(self, headers: CIMultiDictProxy[str], target: str) -> None:
        if not (self._is_own_host(headers.get("Host", "")) and self._is_own_host(_host_of(target))):
            raise Problem("invalid_request_error", _FOREIGN_HOST, status=421)

    def _is_own_host(self, host: str) -> bool:
        hosts = self._hosts
        return not host or hosts is None or _host_name(host) in hosts

    def check_key(self, headers: CIMultiDictProxy[str], user: User | None = None) -> User | None:
        """
        Require a client key or a user's token; return *user* if no client key matches.

        Any of the offered keys may match: during a bypass, a session sends both the proxy's key
        and its own.

        Raises:
            Problem: 401, which must not be retried, if no offered key is a client key.
        """
        if not self.requires_key:
            return None
        keys = offered_keys(headers)
        if self._clients_of(keys):
            return None
        if user is not None:
            return user
        unknown, missing = (_UNKNOWN_USER, _NO_USER) if self._has_users else (_WRONG_KEY, _NO_KEY)
        raise Problem("authentication_error", unknown if keys else missing, should_retry=False)

    def check_admin(
        self, headers: CIMultiDictProxy[str], user: User | None, *, is_harmless: bool
    ) -> User | None:
        """
        Check a request that shows or changes the worker, after `check_origin`.

        Raises:
            Problem: 400 for a missing or repeated Host; 403 for any web page, even a local one, and
                for a route that is not harmless if no client key is set; 401 without a key.
        """
        if len(headers.getall("Host", ())) != 1 or not headers["Host"]:
            raise Problem("invalid_request_error", "exactly one Host header is required")
        if headers.get("Sec-Fetch-Site", "none") != "none":
            raise Problem("permission_error", _FROM_PAGE)
        if not is_harmless and not self.requires_key:
            raise Problem("permission_error", _NO_KEY_SET)
        user = self.check_key(headers, user)
        if user is not None and not user.is_admin:
            text = f"{user.name} may not use the routes of the proxy itself: set admin = true"
            raise Problem("permission_error", f"{text} for the user in users.toml")
        return user


def offered_keys(headers: CIMultiDictProxy[str]) -> list[str]:
    """Return the request's keys: x-api-key first, as in Anthropic's API, then Bearer."""
    keys = list(headers.getall("x-api-key", ()))
    for value in headers.getall("Authorization", ()):
        scheme, _, key = value.partition(" ")
        if scheme.lower() == "bearer":
            keys.append(key.strip())
    return [key for key in keys if key]


def _encoded(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _host_of(target: str) -> str:
    """Return the host and port of a request target, or an empty string."""
    if target == "*" or target.startswith("/"):
        return ""
    _, _, absolute = target.partition("://")
    return re.split(r"[/?#]", absolute or target, maxsplit=1)[0]


def _host_name(host: str) -> str:
    """Return a Host header without port and IPv6 brackets, or unchanged if it is malformed."""
    name, bracket, rest = host.removeprefix("[").partition("]")
    if bracket and host.startswith("["):
        return host if rest.rstrip("0123456789") not in ("", ":") else name.lower()
    name, _, port = host.partition(":")
    return host if port.strip("0123456789") else name.lower().rstrip(".")
