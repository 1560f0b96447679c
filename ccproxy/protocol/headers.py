"""
The headers of a request to the provider, and of its answer to the client.

Nothing of the client's goes on unless it is named here. What it authenticates with
(authorization, x-api-key, cookie), what tells where it is (x-forwarded-*) and what belongs to
one connection only (RFC 9110, 7.6.1) never does. In chat mode no header of the client's is sent
at all; in direct mode those that Messages servers act on are.

The user's CUSTOM_HEADER_ settings win over everything that ccproxy would send, User-Agent and
Authorization included. Those that would break the framing of the request are refused when the
configuration is read.
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
"""The header that carries the key, and what stands before the key in it."""

USER_AGENT = f"ccproxy/{__version__}"
ANTHROPIC_VERSION = "2023-06-01"
_CLIENTS_KEPT = 256
_LARGEST_KEPT = 4 * 1024
"""Characters of a client's headers that are remembered; Claude Code sends some 1,500."""

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

# Direct mode keeps these of the client's: what the Messages API is steered by (anthropic-*), what
# gateways attribute by (x-claude-code-*), and who asks: some plans serve coding agents only.
_DIRECT_NAMES = frozenset(("accept", "user-agent", "x-app"))
_DIRECT_PREFIXES = ("anthropic-", "x-claude-code-", "x-stainless-")

# Direct mode keeps these of the provider's: the rest describes a body that is framed anew.
_ANSWER_NAMES = frozenset(
    ("content-type", "request-id", "retry-after", "retry-after-ms", "x-should-retry")
)
_ANSWER_PREFIXES = ("anthropic-", "x-ratelimit-")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def is_framing_header(name: str) -> bool:
    """Whether no custom header may have the *name*: it would break the request's framing."""
    lower = name.lower()
    return lower in HOP_BY_HOP or lower in _FRAMING or lower.startswith("proxy-")


def is_header_name(name: str) -> bool:
    """Whether *name* can be a header's name (RFC 9110, 5.6.2)."""
    return _TOKEN.fullmatch(name) is not None


def is_header_value(text: str) -> bool:
    """Whether *text* can be a header's value: no line breaks, NUL or other control signs."""
    return _CONTROL.search(text) is None


class UpstreamHeaders:
    """
    Writes the headers of every request to one provider.

    Made once per worker; what is the same for all requests is put together here.
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
        self._kept = lru_cache(maxsize=_CLIENTS_KEPT)(self._kept_of)

    def chat(self, key: str | None, *, stream: bool) -> dict[str, str]:
        """Return the headers of a Chat Completions request with *key*; None sends none."""
        prepared = self._stream if stream else self._whole
        return {**prepared, **self._credential(key)}

    def direct(self, key: str | None, client: Iterable[tuple[str, str]]) -> dict[str, str]:
        """
        Return the headers of a Messages request with *key*, with those of the *client's* that
        Messages servers act on.
        """
        headers = tuple(client)
        size = sum(map(len, chain.from_iterable(headers)))
        kept = self._kept if size <= _LARGEST_KEPT else self._kept_of
        return {**kept(headers), **self._credential(key)}

    def _kept_of(self, client: tuple[tuple[str, str], ...]) -> dict[str, str]:
        kept = messages_headers(client)
        kept.setdefault("anthropic-version", ANTHROPIC_VERSION)
        kept.setdefault("user-agent", USER_AGENT)
        kept |= {"content-type": "application/json", "accept-encoding": "identity"}
        return _overlay(kept, self._custom)

    def _credential(self, key: str | None) -> dict[str, str]:
        name, scheme = _CREDENTIAL[self._auth]
        value = f"{scheme}{key or ''}"
        # An Authorization of the user's own is the credential then.
        return {} if key is None or name.lower() in self._custom_names else {name: value}


def hop_by_hop_names(headers: Collection[tuple[str, str]]) -> frozenset[str]:
    """Return the names, in lower case, of what belongs to one connection only (RFC 9110, 7.6.1)."""
    named = (value.split(",") for name, value in headers if name.lower() == "connection")
    return HOP_BY_HOP.union(name.strip().lower() for name in chain.from_iterable(named))


def messages_headers(client: Collection[tuple[str, str]]) -> dict[str, str]:
    """Return those of the *client's* headers that Messages servers act on, in lower case."""
    dropped = hop_by_hop_names(client)
    kept: dict[str, str] = {}
    for name, value in client:
        lower = name.lower()
        if lower in dropped or not (lower in _DIRECT_NAMES or lower.startswith(_DIRECT_PREFIXES)):
            continue
        # A list such as anthropic-beta may come as several headers (RFC 9110, 5.3).
        kept[lower] = f"{kept[lower]}, {value}" if lower in kept else value
    return kept


def answer_headers(provider: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """
    Return those of the *provider's* headers that a client in direct mode may see.

    A value with a control sign in it, which a lenient parser lets through, is left out.
    """
    return [
        (name, value)
        for name, value in provider
        if (name.lower() in _ANSWER_NAMES or name.lower().startswith(_ANSWER_PREFIXES))
        and is_header_value(value)
    ]


def _overlay(headers: Mapping[str, str], custom: Mapping[str, str]) -> dict[str, str]:
    """Put *custom* over *headers*; names are compared without regard to case."""
    names = {name.lower() for name in custom}
    kept = {name: value for name, value in headers.items() if name.lower() not in names}
    return {**kept, **custom}
