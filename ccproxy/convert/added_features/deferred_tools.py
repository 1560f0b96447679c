"""
Select the tools to send with a request, and those that the model must search for first.

Providers limit the number of tools (OpenAI and Copilot: 128), and every tool costs tokens in
every turn. Above the limit, or if the client requests the API's tool search, tools are deferred:
those of MCP servers first, then the last of the others. Deferred tools that the conversation has
used or found are sent after all others, in order of first use. The list therefore grows only at its
end, which preserves the provider's prompt cache.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import msgspec
from msgspec import Raw

from ccproxy.protocol.json_splice import fields_of
from ccproxy.protocol.lenient_json import string

TOOL_SEARCH_TYPE: Final = "tool_search_tool_"
"""Prefix of the type of the API's tool search."""
FUNCTION: Final = "tool_search"
FOUND_TOOLS: Final = 5
"""The maximum number of results of a search; the API returns three to five."""
LISTED: Final = 6_000
"""The maximum length of the list of names in the description of the search function."""
PLACEHOLDER: Final = "DeferredToolPlaceholder"
"""Claude Code's placeholder for unloaded tools, described as "never call this tool"."""

_MCP: Final = "mcp__"
_TEXT: Final = 2_000
"""The number of characters read from a description or a query."""
_LOADED_SHARE: Final = 4
"""The limit divided by this number is reserved for tools found by searches."""
_NAME_WEIGHT: Final = 3.0
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_a-zA-Z]+")
_NAMES = re.compile(r"[\w-]+")
_DEPTH: Final = 8
"""The nesting limit; references in results are nested in list, message, list, block and list."""
_MAX_TERMS: Final = 32
_DESCRIPTION: Final = (
    "Finds tools that are available but not loaded yet. Call it before you conclude that a tool is "
    "missing. Pass key words, or the exact name of a tool. The tools that it finds can be called "
    "afterwards. Tools that can be found: "
)
_QUERY: Final = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "Keywords or tool names"}},
    "required": ["query"],
}
_RAW_TOOLS = msgspec.json.Decoder(list[Raw])


class _Tool(msgspec.Struct):
    name: str = ""
    type: str | None = None
    description: Any = None
    input_schema: Any = None
    defer_loading: bool | None = None


@dataclass(frozen=True, slots=True)
class _DeferredTool:
    raw: Raw
    name: str
    name_terms: frozenset[str]
    terms: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class ToolPlan:
    """The tools of one request."""

    initial: tuple[Raw, ...]
    """The tools sent with every turn."""
    held: tuple[_DeferredTool, ...]
    """The deferred tools, which a search can find even after they are loaded."""
    loaded: tuple[str, ...]
    """The names of the deferred tools that the conversation has used or found, in order."""
    function: str
    """The name of the search function."""
    room: int
    """The maximum number of loaded tools."""

    @cached_property
    def _by_name(self) -> dict[str, _DeferredTool]:
        return {tool.name: tool for tool in self.held}

    def tools(self, matches: Sequence[str] = (), *, searches: bool = True) -> list[Raw]:
        """Return the tools to send after searches that found *matches*."""
        loaded = list(dict.fromkeys((*self.loaded, *matches)))[-self.room :]
        search = [self._search] if searches else []
        return [*self.initial, *search, *(self._by_name[name].raw for name in loaded)]

    @cached_property
    def _search(self) -> Raw:
        names, rest = "", len(self.held)
        for tool in self.held:
            if len(names) + len(tool.name) > LISTED:
                break
            names += f"{', ' if names else ''}{tool.name}"
            rest -= 1
        more = f" and {rest} more" if rest else ""
        description = f"{_DESCRIPTION}{names}{more}."
        fields = {"name": self.function, "description": description, "input_schema": _QUERY}
        return Raw(msgspec.json.encode(fields))

    def find(self, query: str) -> list[str]:
        """Return the names of the tools that match *query*, best matches first."""
        query = query[:_TEXT]
        names = set(_NAMES.findall(query))
        named = [tool.name for tool in self.held if tool.name in names]
        if named:
            return named[:FOUND_TOOLS]
        terms = list(dict.fromkeys(_terms(query)))[:_MAX_TERMS]
        weights = {term: self._weight(term) for term in terms}
        scores = {tool.name: _score(tool, weights) for tool in self.held}
        best = sorted((name for name in scores if scores[name]), key=lambda name: -scores[name])
        return best[:FOUND_TOOLS]

    def _weight(self, term: str) -> float:
        """Return the weight of *term*; rare terms weigh more."""
        count = sum(term in tool.terms for tool in self.held)
        return math.log(1 + len(self.held) / count) if count else 0.0


def defers_tools(tools: Raw) -> bool:
    """Return True if the client requests the API's tool search."""
    return TOOL_SEARCH_TYPE.encode() in memoryview(tools).tobytes() and any(
        _is_search(_decoded(raw)) for raw in _RAW_TOOLS.decode(tools)
    )


def tool_plan(body: bytes, limit: int) -> ToolPlan | None:
    """
    Return the tools of the request *body*, or None if all of them can be sent.

    *limit* is the provider's maximum number of tools, 0 if unlimited.
    """
    fields = fields_of(body) or {}
    tools = [(raw, _decoded(raw)) for raw in _RAW_TOOLS.decode(fields.get("tools", Raw(b"[]")))]
    search = next((tool for _, tool in tools if _is_search(tool)), None)
    own = [(raw, tool) for raw, tool in tools if not _is_search(tool) and tool.name != PLACEHOLDER]
    deferred = {tool.name for _, tool in own if search and tool.defer_loading}
    is_over = 0 < limit < len(own)
    if not is_over and not deferred:
        return None
    if is_over and len(own) - len(deferred) >= limit:
        deferred |= {tool.name for _, tool in own if tool.name.startswith(_MCP)}
    deferred -= {_forced(fields)}
    initial = [(raw, tool) for raw, tool in own if tool.name not in deferred]
    room = len(own)
    if limit:
        most = limit - 1 - limit // _LOADED_SHARE
        forced = [each for each in initial if each[1].name == _forced(fields)]
        initial = initial[: max(0, most)]
        initial += [each for each in forced if each not in initial]
        room = max(1, limit - 1 - len(initial))
    names = {tool.name for _, tool in initial}
    held = tuple(_held(raw, tool) for raw, tool in own if tool.name not in names)
    held_names = {tool.name for tool in held}
    used = _used_names(msgspec.json.decode(fields["messages"]))
    return ToolPlan(
        initial=tuple(raw for raw, _ in initial),
        held=held,
        loaded=tuple(dict.fromkeys(name for name in used if name in held_names)),
        function=_free_name(search.name if search else FUNCTION, names | held_names),
        room=room,
    )


def _decoded(raw: Raw) -> _Tool:
    return msgspec.json.decode(raw, type=_Tool)


def _is_search(tool: _Tool) -> bool:
    return (tool.type or "").startswith(TOOL_SEARCH_TYPE)


def _forced(fields: dict[str, Raw]) -> str:
    """Return the name of the tool that the client forces."""
    choice = msgspec.json.decode(fields["tool_choice"]) if "tool_choice" in fields else None
    return string(choice.get("name")) if isinstance(choice, dict) else ""


def _free_name(name: str, other_names: set[str]) -> str:
    while name in other_names:
        name += "_"
    return name


def _used_names(content: object, depth: int = _DEPTH) -> Iterator[str]:
    """Yield the names of the tools that messages or blocks use or refer to."""
    if not depth:
        return
    if isinstance(content, dict):
        match content.get("type"):
            case "tool_use":
                yield str(content.get("name"))
            case "tool_reference":
                yield str(content.get("tool_name"))
            case _:
                yield from _used_names(content.get("content"), depth - 1)
                yield from _used_names(content.get("tool_references"), depth - 1)
    elif isinstance(content, list):
        for each in content:
            yield from _used_names(each, depth - 1)


def _held(raw: Raw, tool: _Tool) -> _DeferredTool:
    text = [string(tool.description)[:_TEXT], *_argument_texts(tool.input_schema)]
    names = frozenset(_terms(tool.name))
    terms = names.union(_terms("\n".join(text)))
    return _DeferredTool(raw=raw, name=tool.name, name_terms=names, terms=terms)


def _argument_texts(schema: object) -> Iterator[str]:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    for name, value in properties.items() if isinstance(properties, dict) else ():
        yield name
        if isinstance(value, dict):
            yield string(value.get("description"))[:_TEXT]


def _terms(text: str) -> list[str]:
    """Return the words of *text* in lower case, without a plural "s"."""
    words = [part.lower() for part in _WORDS.findall(text)]
    return [part[:-1] if len(part) > 3 and part[-1] == "s" else part for part in words]


def _score(tool: _DeferredTool, weights: dict[str, float]) -> float:
    return sum(
        weight * (_NAME_WEIGHT if term in tool.name_terms else 1.0)
        for term, weight in weights.items()
        if term in tool.terms
    )
