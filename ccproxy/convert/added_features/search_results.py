"""
Build requests to a search back end, and read the results from its response.

Results are untrusted: HTML and control characters are removed, long text is truncated, imitations
of the client's tags are neutralized, and only plain http(s) links are accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import unescape
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from ccproxy.convert.added_features.search_tool import SearchTool
from ccproxy.convert.added_features.untrusted_text import without_imitations
from ccproxy.convert.common.usage import token_count
from ccproxy.protocol.json_splice import NOT_JSON
from ccproxy.protocol.lenient_json import string
from ccproxy.providers.search_backends import SearchBackend

MAX_RESULTS: Final = 10
MAX_TEXT: Final = 800
"""The maximum length of a result's text in characters."""
MAX_TOTAL: Final = 8000
"""The maximum total length of the text of all results, in characters."""
MAX_SUMMARY: Final = 8000
MAX_CHARGE: Final = 100.0
"""In US dollars per search; a higher charge must be an error of the back end."""
_MAX_LINK = 2000
_MAX_SITES = 10

_TAG = re.compile(r"<[a-zA-Z/!][^<>]{0,500}>")
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
_NOT_IN_LINK = re.compile(rf"""{_UNSAFE.pattern}|[\s<>"\\^`{{|}}]""")
"""Characters that RFC 3986 excludes, and that could end the block with the link."""
_PLACEHOLDER = re.compile(r"\{(?:query|query_json|model)\}")
_SPACE = re.compile(r"[ \t]+")
_LINK = re.compile(r"https?://[^\s<>\"')\]}]{3,2000}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """A search result."""

    url: str
    title: str
    text: str = ""
    date: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOutcome:
    """The outcome of a search."""

    results: tuple[SearchResult, ...] = ()
    summary: str = ""
    """A summary of the results, if the back end returns one."""
    error: str = ""
    """One of the API's error codes, or empty if the search succeeded."""
    reason: str = ""
    """The cause of the failure and the fix, for the user."""
    fee: float = 0.0
    """In US dollars."""
    usage: Mapping[str, int] = field(default_factory=dict)
    """The token counts of the searching model, in the fields of the Messages API."""


# The request


def search_request(
    backend: SearchBackend, query: str, tool: SearchTool, *, model: str
) -> dict[str, Any]:
    """Return the JSON body, or the query parameters of a GET request."""
    takes_allowed, takes_blocked = backend.takes_domains
    allowed, blocked = tool.allowed_domains or [], tool.blocked_domains or []
    terms = _site_terms(
        [] if takes_allowed else allowed,
        [] if takes_blocked else blocked,
        room=backend.longest_query // 2,
    )
    query = query[: backend.longest_query - len(terms)].strip() + terms
    texts = {
        "{query}": query,
        "{query_json}": msgspec.json.encode(query).decode(),
        "{model}": model,
    }
    lists = {"{allowed}": allowed, "{blocked}": blocked}
    filled = _filled(backend.request, texts, lists)
    return filled if isinstance(filled, dict) else {}


def _site_terms(allowed: list[str], blocked: list[str], *, room: int) -> str:
    """
    Return the domains as `site:` operators, which most search engines support.

    Domains that do not fit into *room* characters are left out; results are filtered anyway.
    """
    for count in range(_MAX_SITES, 0, -1):
        terms = "".join(f" -site:{name}" for name in blocked[:count])
        if allowed:
            terms = " (" + " OR ".join(f"site:{name}" for name in allowed[:count]) + ")"
        if len(terms) <= room:
            return terms
    return ""


def _filled(value: Any, texts: Mapping[str, str], lists: Mapping[str, list[str]]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        pairs = ((name, _filled(inner, texts, lists)) for name, inner in value.items())
        return {name: inner for name, inner in pairs if inner is not None}
    if isinstance(value, list):
        return [_filled(inner, texts, lists) for inner in value]
    if not isinstance(value, str):
        return value
    if value in lists:
        return lists[value] or None
    return _PLACEHOLDER.sub(lambda match: texts[match[0]], value)


# The response


def read_results(backend: SearchBackend, body: bytes, tool: SearchTool) -> SearchOutcome:
    """Read the *body* of a response with status 200."""
    try:
        answer = msgspec.json.decode(body)
    except NOT_JSON:
        return failed(f"{backend.title} did not answer with JSON")
    if backend.code:
        code = next(_walk(answer, backend.code), None)
        if code not in backend.ok_codes:
            return failed(f"{backend.title} answered with code {_clean(str(code), 100)}")
    results = _linked(answer, backend) if backend.text_with_links else _listed(answer, backend)
    admits = tool.url_filter()
    unique_results = _distinct(
        each for each in results if _is_plain_link(each.url) and admits(_source(each, backend))
    )
    if not unique_results and (silent := _silent_sources(answer, backend)):
        return failed(f"{backend.title} has no results, because sources failed: {silent}")
    summary = (
        _first_texts(answer, backend.summary or backend.text_with_links) if unique_results else ""
    )
    if backend.summary and (tool.blocked_domains or tool.allowed_domains):
        summary = ""  # it may cover results that the domains exclude
    return SearchOutcome(
        results=unique_results,
        summary=summary,
        fee=_fee(answer, backend),
        usage=_usage(answer, backend),
    )


def _fee(answer: object, backend: SearchBackend) -> float:
    charge: Any = next(_walk(answer, backend.charge), None) if backend.charge else None
    is_charge = isinstance(charge, int | float) and 0 <= charge <= MAX_CHARGE
    return float(charge) if is_charge else backend.price


def _silent_sources(answer: object, backend: SearchBackend) -> str:
    """Return the names of failed sources; the back end sends strings or (name, reason) pairs."""
    sources = _walk(answer, backend.failures) if backend.failures else ()
    texts = [": ".join(map(str, each)) if isinstance(each, list) else str(each) for each in sources]
    return _clean(", ".join(texts[:MAX_RESULTS]), 300)


def _usage(answer: object, backend: SearchBackend) -> dict[str, int]:
    counts = [next(_walk(answer, path), None) for path in backend.tokens]
    names = ("input_tokens", "output_tokens")
    pairs = zip(names, counts, strict=False)
    return {name: count for name, each in pairs if (count := token_count(each)) is not None}


def failed(reason: str, *, code: str = "unavailable") -> SearchOutcome:
    """Return the outcome of a failed search."""
    return SearchOutcome(error=code, reason=reason)


def refused(backend: SearchBackend, status: int, *, key: str) -> SearchOutcome:
    """
    Return the outcome of a search that the back end refused with *status*.

    *key* is the name of the setting with its API key.
    """
    reason = f"{backend.title} refused the search ({status})"
    fix = backend.fixes.get(str(status))
    match status:
        case 429:
            fix = fix or "too many requests, or out of credit"
            return failed(f"{reason}: {fix}", code="too_many_requests")
        case 401 | 402 | 403:
            fix = fix or f"check {key} and the credit of its account"
        case 400 | 422:
            return failed(reason, code="invalid_tool_input")
        case _ if 300 <= status < 400:
            fix = "it redirects, which is not followed; set WEB_SEARCH to the final address"
    return failed(f"{reason}: {fix}" if fix else reason)


def _listed(answer: object, backend: SearchBackend) -> Iterator[SearchResult]:
    for path in backend.results:
        for item in _walk(answer, path):
            if isinstance(item, dict) and (url := _first(item, backend.link)):
                yield SearchResult(
                    url=url,
                    title=_clean(_first(item, backend.heading), 300) or url,
                    text=_clean(_first(item, backend.text), MAX_TEXT),
                    date=_clean(_first(item, backend.date), 40) or None,
                )


def _linked(answer: object, backend: SearchBackend) -> Iterator[SearchResult]:
    for path in backend.text_with_links:
        for text in _walk(answer, path):
            for match in _LINK.finditer(string(text)):
                url = match[0].rstrip(".,;:!?")
                yield SearchResult(url=url, title=url)


def _distinct(results: Iterator[SearchResult]) -> tuple[SearchResult, ...]:
    """Return the first results with distinct links, limiting the length of their text."""
    unique_results: dict[str, SearchResult] = {}
    room = MAX_TOTAL
    for result in results:
        if result.url in unique_results:
            continue
        text = result.text[:room]
        room -= len(text)
        unique_results[result.url] = SearchResult(
            url=result.url, title=result.title, text=text, date=result.date
        )
        if len(unique_results) == MAX_RESULTS:
            break
    return tuple(unique_results.values())


def _source(result: SearchResult, backend: SearchBackend) -> str:
    """Return the URL to check against the domains; its host is the title if links redirect."""
    return f"https://{result.title}/" if backend.hidden_hosts else result.url


def _is_plain_link(url: str) -> bool:
    """Return True if *url* is an http(s) URL without credentials."""
    if len(url) > _MAX_LINK or _NOT_IN_LINK.search(url):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc


def _first_texts(answer: object, paths: tuple[str, ...]) -> str:
    for path in paths:
        if text := _clean("\n".join(map(string, _walk(answer, path))), MAX_SUMMARY):
            return text
    return ""


def _first(item: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Return the first non-empty text at the paths *names*."""
    texts = (string(value) for name in names for value in _walk(item, name))
    return next((text for text in texts if text.strip()), "")


def _walk(value: object, path: str) -> Iterator[Any]:
    """Return every value at *path*, descending into the elements of lists."""
    values: list[object] = [value]
    for name in path.split("."):
        inner = [each[name] for each in values if isinstance(each, dict) and name in each]
        values = [each for one in inner for each in (one if isinstance(one, list) else [one])]
    return iter(values)


def _clean(text: str, limit: int) -> str:
    """Return *text* without HTML or control characters, truncated to *limit* characters."""
    text = without_imitations(unescape(_TAG.sub("", text[: 4 * limit])))
    text = _SPACE.sub(" ", _UNSAFE.sub(" ", text)).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"
