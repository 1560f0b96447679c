"""
The web search tool of a Messages request: its limits, and the query of Claude Code's WebSearch.

Claude Code's WebSearch sends a request with no other tool and a single text, "Perform a web search
for the query: …" (measured with 2.1.329 and 2.1.332). Answering it needs no model, which could only
hallucinate. Other clients combine the search with their own tools.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw

from ccproxy.errors import Problem
from ccproxy.protocol.json_splice import NOT_JSON
from ccproxy.protocol.literals import BRACKET, is_string, text_of
from ccproxy.protocol.messages import MessagesRequest, blocks_of

SEARCH_TYPE: Final = "web_search_"
"""Prefix of the tool's type, followed by a date."""
DEFAULT_USES: Final = 8
"""The limit for a request if the tool has no `max_uses`; Claude Code sends 8."""
_SIDE_PREFIX = re.compile(r"\s*Perform a web search for the query:\s*", re.IGNORECASE)


class SearchTool(msgspec.Struct, frozen=True):
    """The search tool of a request."""

    name: str = "web_search"
    type: str = ""
    max_uses: int | None = None
    allowed_domains: list[str] | None = None
    blocked_domains: list[str] | None = None

    @property
    def uses(self) -> int:
        """The maximum number of searches."""
        return DEFAULT_USES if self.max_uses is None else max(0, self.max_uses)

    @property
    def is_contradictory(self) -> bool:
        """Whether both kinds of domains are set, which the API refuses."""
        return bool(self.allowed_domains and self.blocked_domains)

    def url_filter(self) -> Callable[[str], bool]:
        """Return a function that returns True if the domains allow a result with its URL."""
        # Indexed, because a client may list megabytes of domains.
        paths: dict[str, list[str]] = defaultdict(list)
        for domain in self.allowed_domains or self.blocked_domains or ():
            host, path = _host_and_path(domain)
            paths[host].append(path)
        is_allowed = bool(self.allowed_domains)
        return lambda url: _is_listed(url, paths) is is_allowed


class _Head(msgspec.Struct):
    type: str | None = None
    name: str = ""

    @property
    def is_search(self) -> bool:
        return (self.type or "").startswith(SEARCH_TYPE)


_HEAD = msgspec.json.Decoder(_Head)
_HEADS = msgspec.json.Decoder(list[_Head])
_RAW_TOOLS = msgspec.json.Decoder(list[Raw])
_TOOL = msgspec.json.Decoder(SearchTool)


def search_tool(tools: Raw) -> tuple[SearchTool, bool] | None:
    """
    Return the web search in *tools* and whether it is the only tool, or None.

    Definitions that the API would refuse are ignored, such as one with the name of a client tool.
    """
    if SEARCH_TYPE.encode() not in bytes(tools) or memoryview(tools)[0] != BRACKET:
        return None
    try:
        listed = _HEADS.decode(tools)
        searches = [i for i, each in enumerate(listed) if each.is_search]
        search = _TOOL.decode(_RAW_TOOLS.decode(tools)[searches[0]])
    except (IndexError, *NOT_JSON):
        return None
    if any(each.name == search.name and not each.is_search for each in listed):
        return None
    return search, len(listed) == 1


def without_search(tools: Raw, function: Raw | None) -> list[Raw]:
    """Return *tools* with the search removed, or replaced with *function*."""
    remaining_tools: list[Raw] = []
    for raw in _RAW_TOOLS.decode(tools):
        if not _HEAD.decode(raw).is_search:
            remaining_tools.append(raw)
        elif function is not None:
            remaining_tools.append(function)
            function = None
    return remaining_tools


def side_query(request: MessagesRequest) -> str | None:
    """Return the query of Claude Code's WebSearch, or None for any other request."""
    last = request.messages[-1]
    if last.role != "user":
        return None
    try:
        blocks = blocks_of(last.content)
    except Problem:
        return None
    texts = [text_of(block.text) for block in blocks if is_string(block.text)]
    match = _SIDE_PREFIX.match(texts[-1]) if texts else None
    return texts[-1][match.end() :].strip() if match else None


def _host_and_path(domain: str) -> tuple[str, str]:
    """Return the host of *domain* and the beginning of the paths that it includes."""
    host, _, path = domain.split("://", 1)[-1].partition("/")
    return host.lower().removeprefix("*.").removeprefix("www.").rstrip("."), path.rstrip("*")


def _is_listed(url: str, paths: Mapping[str, list[str]]) -> bool:
    """Return True if *paths* includes the host of *url*, or a parent domain, and its path."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    host, path = (parts.hostname or "").rstrip("."), parts.path.lstrip("/")
    while host:
        if any(path.startswith(beginning) for beginning in paths.get(host, ())):
            return True
        host = host.partition(".")[2]
    return False
