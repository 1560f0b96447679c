"""
Tool definitions and tool_choice.

Rules:
    1. Every tool that the client runs becomes a function. Server tools (web_search_…, an MCP
       toolset) would run on Anthropic's servers and are left out.
    2. A deferred tool with a schema is kept: Claude Code's tool search sends it in this form after
       the model has found it. The placeholder of tool search is left out.
    3. A tool_choice that the provider does not support is replaced by an instruction in the prompt.

A client sends the same tools with every turn, and they make up half of the request, so converted
lists are cached. The keys are the original bytes: comparing them is ten times cheaper than hashing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from ccproxy.convert.added_features.deferred_tools import PLACEHOLDER, defers_tools
from ccproxy.convert.added_features.search_tool import search_tool
from ccproxy.convert.common.client_tools import client_tool
from ccproxy.convert.common.conversion import Conversion
from ccproxy.convert.common.schema import to_parameters
from ccproxy.convert.common.tool_names import tool_name
from ccproxy.protocol.literals import (
    ANY_JSON,
    invalid_request,
    is_object,
    is_present,
    is_string,
    literal,
    read,
)
from ccproxy.protocol.messages import Tool, ToolChoice, tools_of
from ccproxy.providers.quirks import Quirks

_CACHED_SETS: Final = 16
_LARGEST_SET: Final = 1024 * 1024
"""Total bytes before and after conversion; larger sets are not cached."""
_CACHED_SCHEMAS: Final = 1024
_LARGEST_SCHEMA: Final = 16 * 1024

_FIELDS = msgspec.json.Decoder(list[dict[str, Raw]])
_CONVERTED_FIELDS: Final = frozenset(
    {"name", "type", "description", "input_schema", "defer_loading"}
)
"""Fields of a tool that the conversion reads; others are dropped and recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSet:
    """The converted tools of a request."""

    definitions: Raw
    """JSON list."""
    sent_names: Mapping[str, str]
    """The client's name -> the sent name, for every tool."""
    dropped: tuple[str, ...]
    searches: bool = False
    """True: the client's tools include the API's web search."""
    finds_tools: bool = False
    """True: the client's tools include the API's tool search."""
    derived: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    """Data that another dialect derived from the set; it is cached with the set."""

    def only(self, name: str) -> ToolSet:
        """Return the set with only one tool; *name* is the client's name for it."""
        position = list(self.sent_names).index(name)
        definition = msgspec.json.decode(self.definitions, type=list[Raw])[position]
        return ToolSet(
            definitions=Raw(b"[" + bytes(definition) + b"]"),
            sent_names={name: self.sent_names[name]},
            dropped=self.dropped,
        )


class _CachedSet(NamedTuple):
    tools: Raw
    dialect: str
    max_name: int
    tool_set: ToolSet


_cached_sets: list[_CachedSet] = []  # most recently used first

NO_TOOLS: Final = ToolSet(definitions=Raw(b"[]"), sent_names={}, dropped=())


def to_chat_tools(tools: Raw, conversion: Conversion) -> ToolSet:
    """Convert the tools of a request."""
    if not is_present(tools):
        return NO_TOOLS
    quirks = conversion.quirks
    tool_set = _tool_set(tools, quirks.schema, quirks.tool_name_length)
    for path in tool_set.dropped:
        conversion.drop(path)
    for name, sent_name in tool_set.sent_names.items():
        if sent_name != name:
            conversion.tool_names[sent_name] = name
    return tool_set


def _tool_set(tools: Raw, dialect: str, max_name: int) -> ToolSet:
    for index, cached in enumerate(_cached_sets):
        if cached.tools == tools and (cached.dialect, cached.max_name) == (dialect, max_name):
            _cached_sets.insert(0, _cached_sets.pop(index))
            return cached.tool_set
    tool_set = _convert(tools, dialect, max_name)
    if len(memoryview(tools)) + len(memoryview(tool_set.definitions)) <= _LARGEST_SET:
        # Copied, because a view would keep the whole request in memory.
        _cached_sets.insert(0, _CachedSet(tools.copy(), dialect, max_name, tool_set))
        del _cached_sets[_CACHED_SETS:]
    return tool_set


def _convert(tools: Raw, dialect: str, max_name: int) -> ToolSet:
    definitions: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    dropped: dict[str, None] = {}
    fields = read(_FIELDS, tools, "tools")
    for index, tool in enumerate(tools_of(tools)):
        function = _function(tool, dialect, index)
        if function is None or tool.name in names:
            dropped[f"tools.{tool.name or tool.type}"] = None
            continue
        if not tool.name:
            raise invalid_request("Field required", "tools", index, "name")
        names[tool.name] = tool_name(tool.name, max_name)
        definitions.append({"type": "function", "function": {"name": names[tool.name], **function}})
        others = (name for name in fields[index] if name not in _CONVERTED_FIELDS)
        dropped |= {f"tools.*.{name}": None for name in others}
    encoded = Raw(msgspec.json.encode(definitions))
    return ToolSet(
        definitions=encoded,
        sent_names=names,
        dropped=tuple(dropped),
        searches=search_tool(tools) is not None,
        finds_tools=defers_tools(tools),
    )


def _function(tool: Tool, dialect: str, index: int) -> dict[str, Any] | None:
    """Return the description and parameters, or None if the client does not run the tool."""
    builtin = client_tool(tool.type) if tool.type else None
    if builtin and not is_object(tool.input_schema):
        description, schema = builtin
        return {"description": literal(description), "parameters": to_parameters(schema, dialect)}
    if tool.name == PLACEHOLDER and tool.defer_loading:
        return None
    if is_object(tool.input_schema):
        raw = bytes(memoryview(tool.input_schema))
        convert = _cached_parameters if len(raw) <= _LARGEST_SCHEMA else _parameters
        parameters = convert(raw, dialect)
    elif tool.type in (None, "custom") and not tool.defer_loading:
        if is_present(tool.input_schema):
            text = "Input should be a valid dictionary"
            raise invalid_request(text, "tools", index, "input_schema")
        parameters = Raw(b'{"type":"object","properties":{}}')
    else:
        return None
    description_field = {"description": tool.description} if is_string(tool.description) else {}
    return {**description_field, "parameters": parameters}


def _parameters(schema: bytes, dialect: str) -> Raw:
    return Raw(msgspec.json.encode(to_parameters(read(ANY_JSON, schema, "tools"), dialect)))


_cached_parameters = lru_cache(maxsize=_CACHED_SCHEMAS)(_parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatToolChoice:
    """The converted tool_choice."""

    fields: Mapping[str, Any]
    """The `tool_choice` and `parallel_tool_calls` fields to send, if any."""
    instruction: str | None = None
    """Instruction for the prompt that replaces an unsupported tool_choice."""
    without_tools: bool = False
    """True: no tools are sent, because this provider offers no other way to forbid them."""
    only_tool: str | None = None
    """The client's name for the only tool to send, which `required` then forces."""


def to_chat_choice(
    choice: ToolChoice | None, tools: ToolSet, conversion: Conversion, *, thinking: bool = False
) -> ChatToolChoice:
    """
    Convert tool_choice; without *tools* it has no effect and is left out.

    *thinking* is true if the model thinks; some providers then refuse a forced tool.
    """
    if choice is None or not tools.sent_names:
        return ChatToolChoice(fields={})
    fields: dict[str, Any] = {}
    if choice.disable_parallel_tool_use and choice.type != "none":
        if conversion.quirks.parallel_tool_calls:
            fields["parallel_tool_calls"] = False
        else:
            conversion.drop("tool_choice.disable_parallel_tool_use")
    name = tools.sent_names.get(choice.name or "")
    supported: Collection[str] = conversion.quirks.tool_choices
    if thinking and not conversion.quirks.forced_choice_with_thinking:
        supported = {"auto", "none"}.intersection(supported)
    value, instruction = _choice_value(choice.type, name, supported, conversion.quirks)
    if value is not None:
        fields["tool_choice"] = value
    is_forbidden = choice.type == "none" and value is None
    if is_forbidden:
        fields = {}
    is_named = name is not None and choice.type == "tool" and "function" not in supported
    return ChatToolChoice(
        fields=fields,
        instruction=instruction,
        without_tools=is_forbidden,
        only_tool=choice.name if is_named and "required" in supported else None,
    )


def is_forced(choice: ToolChoice | None) -> bool:
    """Return True if the model must call a tool."""
    return choice is not None and choice.type in ("any", "tool")


def _choice_value(
    kind: str, name: str | None, supported: Collection[str], quirks: Quirks
) -> tuple[Any, str | None]:
    """Return the tool_choice value, and an instruction if the value cannot express the choice."""
    weakest = "auto" if "auto" in supported else None
    if kind == "none":
        return ("none" if "none" in supported else None), None
    if kind == "tool" and name is not None:
        if "function" in supported:
            return {"type": "function", "function": {"name": name}}, None
        if "required" in supported:
            return quirks.required_word, None
        return weakest, f"Answer by calling the tool {name}."
    if kind == "any":
        if "required" in supported:
            return quirks.required_word, None
        return weakest, "Answer by calling one of the tools."
    return weakest, None
