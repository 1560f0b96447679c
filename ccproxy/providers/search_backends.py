"""
The web search back ends of `search_backends.toml`: stand-alone engines and those of providers.

A back end is one HTTP request and a list in its JSON answer. Paths are names separated by dots;
lists on the way are followed into each of their elements.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import msgspec

OWN_SEARCH = "provider"
"""Value of WEB_SEARCH: the search of the provider itself."""
NO_SEARCH = "off"
"""Value of WEB_SEARCH: no search, not even the provider's."""


class SearchBackend(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one back end is asked, and where its results are."""

    title: str
    method: Literal["GET", "POST"] = "POST"
    url: str = ""
    """Address; `{model}` is the model's name. A path: the user names the server."""
    api: Literal["chat", "responses"] | None = None
    """Dialect of the provider in which its model searches; replaces `url`."""
    auth: str = "bearer"
    """"bearer", "none", or the name of the header that holds the key."""
    headers: dict[str, str] = {}
    request: dict[str, Any]
    """JSON body, or query of a GET. `{query}`, `{query_json}`, `{model}` are replaced in texts;
    the texts `{allowed}` and `{blocked}` become lists of domains, and are left out if empty."""
    longest_query: int = 400
    """Characters; longer queries are cut."""
    seconds: float = 10.0
    """Limit for the whole answer."""

    results: tuple[str, ...]
    """Paths of the lists of results."""
    link: tuple[str, ...] = ("url",)
    heading: tuple[str, ...] = ("title",)
    text: tuple[str, ...] = ()
    date: tuple[str, ...] = ()
    summary: tuple[str, ...] = ()
    """Paths of a text that a model wrote from the results; it counts only if there are any."""
    text_with_links: tuple[str, ...] = ()
    """Paths of a text that contains the results, for back ends without a list."""
    hidden_hosts: bool = False
    """True: links are redirects, so domains cannot be checked by them but by the titles."""
    fixes: dict[str, str] = {}
    """What to do about a status with which the back end refuses a search."""
    failures: str = ""
    """Path of the sources that did not answer; they count if there are no results."""
    code: str = ""
    """Path of a status in the body; other values than `ok_codes` are errors."""
    ok_codes: tuple[int, ...] = ()

    price: float = 0.0
    """US dollars per search, without the tokens of a model; 0 is also for an unknown price."""
    charge: str = ""
    """Path of the price in the answer, which precedes `price`."""
    tokens: tuple[str, ...] = ()
    """Paths of the input and output tokens of the model that searched."""

    presets: tuple[str, ...] = ()
    """Presets of the providers that offer this search."""
    models: tuple[str, ...] = ()
    """Glob patterns of the models that can search; empty: all."""
    only_at: tuple[str, ...] = ()
    """Glob patterns of base URLs; empty: all."""
    not_at: tuple[str, ...] = ()
    key_prefix: str = ""
    """Keys without it cannot search."""

    @property
    def takes_domains(self) -> tuple[bool, bool]:
        """Whether the request has a field for allowed domains, and one for blocked domains."""
        text = msgspec.json.encode(self.request)
        return b'"{allowed}"' in text, b'"{blocked}"' in text

    @property
    def needs_server(self) -> bool:
        """True if the user must name the server."""
        return self.url.startswith("/")

    def serves(self, *, base_url: str, model: str, key: str) -> bool:
        """Return True if the provider at *base_url* offers the search for *model* and *key*."""
        return (
            (not self.only_at or _matches(base_url, self.only_at))
            and not _matches(base_url, self.not_at)
            and (not self.models or _matches(model, self.models))
            and key.startswith(self.key_prefix)
        )


@cache
def search_backends() -> Mapping[str, SearchBackend]:
    """Read `search_backends.toml` once per process; the keys are the values of WEB_SEARCH."""
    text = Path(__file__).with_name("search_backends.toml").read_text(encoding="utf-8")
    return MappingProxyType(msgspec.convert(tomllib.loads(text), dict[str, SearchBackend]))


@cache
def searches_of(preset: str) -> tuple[SearchBackend, ...]:
    """Return the searches of a provider, the preferred one first."""
    return tuple(each for each in search_backends().values() if preset in each.presets)


def _matches(text: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(text.lower(), pattern) for pattern in patterns)
