"""
The web search back ends in `search_backends.toml`: stand-alone engines and the providers' own.

A back end is defined by an HTTP request and a list in the JSON response. Paths are names separated
by dots, and descend into every element of lists.
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
"""Value of WEB_SEARCH: the provider's own search."""
NO_SEARCH = "off"
"""Value of WEB_SEARCH: no search, not even the provider's."""


class SearchBackend(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The requests of a back end, and the locations of its results."""

    title: str
    method: Literal["GET", "POST"] = "POST"
    url: str = ""
    """The URL, with the model's name as `{model}`, or a path if the user provides the server."""
    api: Literal["chat", "responses"] | None = None
    """The provider's dialect for searches by its model; replaces `url`."""
    auth: str = "bearer"
    """"bearer", "none", or the name of the header with the key."""
    headers: dict[str, str] = {}
    request: dict[str, Any]
    """The JSON body, or the query of a GET request. `{query}`, `{query_json}` and `{model}` are
    replaced in strings. The strings `{allowed}` and `{blocked}` become lists of domains, and are
    omitted if empty."""
    longest_query: int = 400
    """Maximum length of a query in characters; longer ones are truncated."""
    seconds: float = 10.0
    """The timeout for the whole response."""

    results: tuple[str, ...]
    """The paths of the result lists."""
    link: tuple[str, ...] = ("url",)
    heading: tuple[str, ...] = ("title",)
    text: tuple[str, ...] = ()
    date: tuple[str, ...] = ()
    summary: tuple[str, ...] = ()
    """The paths of a model's summary of the results, which is ignored if there are no results."""
    text_with_links: tuple[str, ...] = ()
    """The paths of text that contains the results, for back ends without a result list."""
    hidden_hosts: bool = False
    """Whether links are redirects, so that domains must be checked in the titles."""
    fixes: dict[str, str] = {}
    """The suggested fix for each HTTP status with which the back end can refuse a search."""
    failures: str = ""
    """The path of the list of failed sources, which are reported if there are no results."""
    code: str = ""
    """The path of a status code in the body; values not in `ok_codes` are errors."""
    ok_codes: tuple[int, ...] = ()

    price: float = 0.0
    """In US dollars per search, without the model's tokens; 0 if free or unknown."""
    charge: str = ""
    """The path of the price in the response, which overrides `price`."""
    tokens: tuple[str, ...] = ()
    """The paths of the searching model's input and output tokens."""

    presets: tuple[str, ...] = ()
    """The presets of the providers that offer this search."""
    models: tuple[str, ...] = ()
    """Glob patterns for the models that can search; by default all models."""
    only_at: tuple[str, ...] = ()
    """Glob patterns for the base URLs with the search; by default all URLs."""
    not_at: tuple[str, ...] = ()
    key_prefix: str = ""
    """Only keys with this prefix can search; if empty, all keys can."""

    @property
    def takes_domains(self) -> tuple[bool, bool]:
        """Whether the request has fields for allowed domains and for blocked domains."""
        text = msgspec.json.encode(self.request)
        return b'"{allowed}"' in text, b'"{blocked}"' in text

    @property
    def needs_server(self) -> bool:
        """Whether the user must provide the server's URL."""
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
    """Return the searches of a provider, in order of preference."""
    return tuple(each for each in search_backends().values() if preset in each.presets)


def _matches(text: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(text.lower(), pattern) for pattern in patterns)
