"""
Who may ask: client keys, and the guard of loopback listeners against web pages.

A browser on the same machine can reach a loopback port, and a page that rebinds its own name to
127.0.0.1 can even read the answers. Such requests name a foreign host or carry an Origin, which
no client of ours does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_address
from typing import TYPE_CHECKING

from ccproxy.config.worker import PLACEHOLDER
from ccproxy.errors import Problem

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_ANYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - not bound here
"""What is listened on is no name of ours then; browsers take these for this machine."""

_NO_PAGE = ("none", "same-origin")
"""What a browser says of its user's own doing; a page on another port is `same-site`."""

_NO_KEY = (
    "this proxy wants a client key: set ANTHROPIC_AUTH_TOKEN to one of the keys that "
    "ANTHROPIC_API_KEY lists in the proxy's env file"
)
_WRONG_KEY = (
    "the client key is not one of this proxy's: compare ANTHROPIC_AUTH_TOKEN with "
    "ANTHROPIC_API_KEY in the proxy's env file"
)
_NO_KEY_SET = (
    "without a client key anybody on this machine could ask this: set ANTHROPIC_API_KEY in the "
    "proxy's env file and send it"
)
_FOREIGN_HOST = (
    "this proxy answers only under the names localhost, 127.0.0.1 and ::1, and those that "
    "ALLOWED_HOSTS lists in its env file"
)
# Never worded "invalid x-api-key": Claude Code would then ask the user to log in.


class Admission:
    """Decides by the headers alone whether a request is let in."""

    def __init__(
        self, client_keys: Iterable[str], *, host: str, allowed_hosts: Collection[str] = ()
    ) -> None:
        self._digests = [sha256(key.encode()).digest() for key in client_keys]
        self._is_on_loopback = is_loopback(host)
        is_guarded = self._is_on_loopback or allowed_hosts
        self._hosts = (
            LOOPBACK_NAMES.union({host} - _ANYWHERE, allowed_hosts) if is_guarded else None
        )

    @property
    def wants_key(self) -> bool:
        """Whether a client key is asked for at all."""
        return bool(self._digests)

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine can reach the listener."""
        return self._is_on_loopback

    def is_ours(self, key: str) -> bool:
        """Tell whether *key* means the proxy alone: one of its client keys, or the placeholder."""
        return self._lets_in(key) or key == PLACEHOLDER

    def _lets_in(self, key: str) -> bool:
        digest = sha256(key.encode("utf-8", "surrogateescape")).digest()
        # Every one of them is compared: how long it takes says nothing about which was right.
        same = [compare_digest(digest, ours) for ours in self._digests]
        return any(same)

    def check_admin(self, headers: CIMultiDictProxy[str], *, is_harmless: bool) -> None:
        """
        Let in who may see and change the worker; `check_origin` has been there before.

        Raises:
            Problem: 400 for a Host that is missing or doubled, 403 for any page, also one of this
                machine, and where only a client key could tell who asks, 401 without that key.

        """
        if len(headers.getall("Host", ())) != 1 or not headers["Host"]:
            raise Problem("invalid_request_error", "one Host header is wanted")
        if headers.get("Sec-Fetch-Site", "none") != "none":
            raise Problem("permission_error", "requests from web pages are not served")
        if not is_harmless and not self._digests:
            raise Problem("permission_error", _NO_KEY_SET)
        self.check_key(headers)

    def check_origin(self, headers: CIMultiDictProxy[str], target: str = "/") -> None:
        """
        Keep web pages away from a listener on loopback, or open to all, or with ALLOWED_HOSTS.

        Elsewhere a client key is asked for, which no page knows. *target* is that of the request
        line; one in absolute form names a host as well (RFC 9112, 3.2.2).

        Raises:
            Problem: 421 for a host that is none of ours, 403 for a page's request.

        """
        if self._hosts is None and self._digests:
            return
        if not (self._is_own(headers.get("Host", "")) and self._is_own(_authority(target))):
            raise Problem("invalid_request_error", _FOREIGN_HOST, status=421)
        site = headers.get("Sec-Fetch-Site")
        from_page = site is not None and site.strip().lower() not in _NO_PAGE
        if from_page or "Origin" in headers:
            raise Problem("permission_error", "requests from web pages are not served")

    def _is_own(self, host: str) -> bool:
        """Tell whether *host*, empty if none is named, is a name that we answer under."""
        hosts = self._hosts
        return not host or hosts is None or _host_name(host) in hosts

    def check_key(self, headers: CIMultiDictProxy[str]) -> None:
        """
        Compare every offered key with every client key, in constant time.

        Raises:
            Problem: 401, not to be repeated, if no offered key is one of ours.

        """
        if not self._digests:
            return
        offered = offered_keys(headers)
        matches = [self._lets_in(key) for key in offered]
        if not any(matches):
            text = _WRONG_KEY if offered else _NO_KEY
            raise Problem("authentication_error", text, should_retry=False)


def offered_keys(headers: CIMultiDictProxy[str]) -> list[str]:
    """Return the keys that a client presents: x-api-key, Bearer, or both."""
    keys = list(headers.getall("x-api-key", ()))
    for value in headers.getall("Authorization", ()):
        scheme, _, key = value.partition(" ")
        if scheme.lower() == "bearer":
            keys.append(key.strip())
    return [key for key in keys if key]


def is_loopback(host: str) -> bool:
    """Tell whether *host*, a name or an address, is reached from this machine only."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _authority(target: str) -> str:
    """Return the host, and whatever stands around it, of a request target; empty if none does."""
    if target == "*" or target.startswith("/"):
        return ""
    _, _, absolute = target.partition("://")
    return re.split(r"[/?#]", absolute or target, maxsplit=1)[0]


def _host_name(host: str) -> str:
    """Cut the port and IPv6's brackets off a Host header; of what is neither, leave all."""
    name, bracket, rest = host.removeprefix("[").partition("]")
    if bracket and host.startswith("["):
        return host if rest.rstrip("0123456789") not in ("", ":") else name.lower()
    return host.partition(":")[0].lower().rstrip(".")
