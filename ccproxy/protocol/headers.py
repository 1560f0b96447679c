"""
Headers of requests to the provider, and of its answers to the client.

Only the client headers that are listed here are forwarded. Credentials (authorization, x-api-key,
cookie), forwarding information (x-forwarded-*) and hop-by-hop headers (RFC 9110, 7.6.1) are never
forwarded. Chat mode forwards no client headers; direct mode forwards those that Messages servers
use.

The user's CUSTOM_HEADER_ settings override every header that ccproxy sends, including User-Agent
and Authorization. The configuration check refuses those that would break the request's framing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from itertools import chain
from typing import Literal

from ccproxy import __version__

AuthStyle = Literal["bearer", "x-api-key", "api-key"]
_CREDENTIAL: Mapping[AuthStyle, tuple[str, str]] = {
    "bearer": ("Authorization", "Bearer "),
    "x-api-key": ("x-api-key", ""),
    "api-key": ("api-key", ""),
}
"""The header that carries the key, and the text before the key."""

USER_AGENT = f"ccproxy/{__version__}"
ANTHROPIC_VERSION = "2023-06-01"
_CACHED_CLIENTS = 256
_LARGEST_CACHED = 4 * 1024
"""Characters. Larger sets of client headers are not cached; Claude Code sends about 1,500."""

HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "proxy-connection",
    )
)
_FRAMING = frozenset(("host", "content-length"))

# Direct mode forwards these client headers: parameters of the Messages API (anthropic-*),
# attribution for gateways (x-claude-code-*), and the client's name, because some plans serve only
# coding agents.
_DIRECT_NAMES = frozenset(("accept", "user-agent", "x-app"))
_DIRECT_PREFIXES = ("anthropic-", "x-claude-code-", "x-stainless-")

# Direct mode returns these provider headers; others describe the framing of the original body.
_ANSWER_NAMES = frozenset(
    ("content-type", "request-id", "retry-after", "retry-after-ms", "x-should-retry")
)
_ANSWER_PREFIXES = ("anthropic-", "x-ratelimit-")
_LARGEST_ANSWER = 8 * 1024
"""Characters of an answer's headers. Node.js refuses an answer with more than 16 KiB of them."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def is_framing_header(name: str) -> bool:
    """Return True if a custom header *name* would break the request's framing."""
    lower = name.lower()
    return lower in HOP_BY_HOP or lower in _FRAMING or lower.startswith("proxy-")


def is_header_name(name: str) -> bool:
    """Return True if *name* is a valid header name (RFC 9110, 5.6.2)."""
    return _TOKEN.fullmatch(name) is not None


def is_header_value(text: str) -> bool:
    """Return True if *text* is a valid header value: no control characters except tab."""
    return _CONTROL.search(text) is None


class UpstreamHeaders:
    """
    Builds the headers of requests to one provider.

    Created once per worker; headers that all requests share are prepared in advance.
    """

    def __init__(self, auth: AuthStyle, *, custom: Mapping[str, str]) -> None:
        self._auth = auth
        self._custom = dict(custom)
        own = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
        }
        self._whole = _overlay(own, self._custom)
        self._stream = _overlay({**own, "Accept": "text/event-stream"}, self._custom)
        self._custom_names = {name.lower() for name in self._custom}
        # A client sends the same headers with every request.
        self._cached_forwarded = lru_cache(maxsize=_CACHED_CLIENTS)(self._forwarded)

    def chat(
        self, key: str | None, *, stream: bool, extra: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """
        Return the headers of a converted request, without a credential if *key* is None.

        *extra* contains the headers that depend on the content of the request.
        """
        headers = {**(self._stream if stream else self._whole), **self._credential(key)}
        return _overlay({**headers, **extra}, self._custom) if extra else headers

    def direct(
        self,
        key: str | None,
        client: Iterable[tuple[str, str]],
        *,
        extra: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """
        Return the headers of a Messages request in direct mode.

        They include the forwarded headers of the *client*; *key* and *extra* are as in `chat`.
        """
        headers = tuple(client)
        size = sum(map(len, chain.from_iterable(headers)))
        forwarded = self._cached_forwarded if size <= _LARGEST_CACHED else self._forwarded
        result = {**forwarded(headers), **self._credential(key)}
        return _overlay({**result, **extra}, self._custom) if extra else result

    def _forwarded(self, client: tuple[tuple[str, str], ...]) -> dict[str, str]:
        headers = messages_headers(client)
        headers.setdefault("anthropic-version", ANTHROPIC_VERSION)
        headers.setdefault("user-agent", USER_AGENT)
        headers |= {"content-type": "application/json", "accept-encoding": "identity"}
        return _overlay(headers, self._custom)

    def _credential(self, key: str | None) -> dict[str, str]:
        name, scheme = _CREDENTIAL[self._auth]
        value = f"{scheme}{key or ''}"
        # A custom header of that name replaces the credential.
        return {} if key is None or name.lower() in self._custom_names else {name: value}


def hop_by_hop_names(headers: Collection[tuple[str, str]]) -> frozenset[str]:
    """Return the lower-case names of the hop-by-hop headers (RFC 9110, 7.6.1)."""
    named = (value.split(",") for name, value in headers if name.lower() == "connection")
    return HOP_BY_HOP.union(name.strip().lower() for name in chain.from_iterable(named))


def messages_headers(client: Collection[tuple[str, str]]) -> dict[str, str]:
    """Return the headers of the *client* that Messages servers use, with lower-case names."""
    dropped = hop_by_hop_names(client)
    headers: dict[str, str] = {}
    for name, value in client:
        lower = name.lower()
        if lower in dropped or not (lower in _DIRECT_NAMES or lower.startswith(_DIRECT_PREFIXES)):
            continue
        # A list such as anthropic-beta may be split across several headers (RFC 9110, 5.3).
        headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
    return headers


def answer_headers(provider: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """
    Return the *provider* headers that a client in direct mode receives.

    Values with control characters, which lenient parsers accept, are left out, and so are headers
    that are too large for clients.
    """
    headers: list[tuple[str, str]] = []
    size = 0
    for name, value in provider:
        lower = name.lower()
        if not (lower in _ANSWER_NAMES or lower.startswith(_ANSWER_PREFIXES)):
            continue
        length = len(name) + len(value)
        if size + length <= _LARGEST_ANSWER and is_header_value(value):
            size += length
            headers.append((name, value))
    return headers


def _overlay(headers: Mapping[str, str], custom: Mapping[str, str]) -> dict[str, str]:
    """Return *headers* overridden by *custom*; names are case-insensitive."""
    names = {name.lower() for name in custom}
    rest = {name: value for name, value in headers.items() if name.lower() not in names}
    return {**rest, **custom}
