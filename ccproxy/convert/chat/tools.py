"""
Tool definitions and tool_choice.

Rules:
    1. Every tool that the client runs becomes a function; a server tool (web_search_…, an MCP
       toolset) would run at Anthropic and is left out.
    2. A deferred tool that carries its schema is kept: Claude Code's tool search sends it so once
       the model has found it. The placeholder that tool search begins with is left out.
    3. What a provider cannot be made to do by tool_choice, it is asked to do in the prompt.

A client sends the same tools with every turn, and they are half of its request: the converted
list is kept, and found again by the bytes that it was made from. They are compared, not hashed:
that is ten times cheaper. Only what is small is kept, since a client may send what it likes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from ccproxy.convert.common.client_tools import client_tool
from ccproxy.convert.common.conversion import Conversion
from ccproxy.convert.common.names import tool_name
from ccproxy.convert.common.schema import to_parameters
from ccproxy.protocol.literals import (
    invalid_request,
    is_object,
    is_present,
    is_string,
    literal,
    read,
)
from ccproxy.protocol.messages import Tool, ToolChoice, tools_of
from ccproxy.providers.quirks import Quirks

PLACEHOLDER: Final = "DeferredToolPlaceholder"
"""Claude Code's stand-in for the tools that are not loaded yet: "never call this tool"."""

_SETS_KEPT: Final = 16
_LARGEST_SET: Final = 1024 * 1024
"""Bytes, before and after the conversion."""
_SCHEMAS_KEPT: Final = 1024
_LARGEST_SCHEMA: Final = 16 * 1024

_ANYTHING = msgspec.json.Decoder()
_FIELDS = msgspec.json.Decoder(list[dict[str, Raw]])
_HANDLED: Final = frozenset({"name", "type", "description", "input_schema", "defer_loading"})
"""The fields of a tool that its conversion looks at; the others are left out and named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSet:
    """The converted tools of a request."""

    definitions: Raw
    """The JSON list, ready to be sent."""
    sent_names: Mapping[str, str]
    """The client's name -> the sent one, of every tool."""
    dropped: tuple[str, ...]


class _Kept(NamedTuple):
    tools: Raw
    dialect: str
    longest: int
    tool_set: ToolSet


_kept: list[_Kept] = []
"""The last one used is the first."""

NO_TOOLS: Final = ToolSet(definitions=Raw(b"[]"), sent_names={}, dropped=())


def to_chat_tools(tools: Raw, conversion: Conversion) -> ToolSet:
    """Convert the tools of a request."""
    if not is_present(tools):
        return NO_TOOLS
    quirks = conversion.quirks
    tool_set = _tool_set(tools, quirks.schema, quirks.tool_name_length)
    for what in tool_set.dropped:
        conversion.drop(what)
    for name, sent in tool_set.sent_names.items():
        if sent != name:
            conversion.tool_names[sent] = name
    return tool_set


def _tool_set(tools: Raw, dialect: str, longest: int) -> ToolSet:
    for index, kept in enumerate(_kept):
        if kept.tools == tools and (kept.dialect, kept.longest) == (dialect, longest):
            _kept.insert(0, _kept.pop(index))
            return kept.tool_set
    tool_set = _converted(tools, dialect, longest)
    if len(memoryview(tools)) + len(memoryview(tool_set.definitions)) <= _LARGEST_SET:
        # A copy: a view would keep the whole request.
        _kept.insert(0, _Kept(tools.copy(), dialect, longest, tool_set))
        del _kept[_SETS_KEPT:]
    return tool_set


def _converted(tools: Raw, dialect: str, longest: int) -> ToolSet:
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
        names[tool.name] = tool_name(tool.name, longest)
        definitions.append({"type": "function", "function": {"name": names[tool.name], **function}})
        dropped |= {f"tools.*.{name}": None for name in fields[index] if name not in _HANDLED}
    encoded = Raw(msgspec.json.encode(definitions))
    return ToolSet(definitions=encoded, sent_names=names, dropped=tuple(dropped))


def _function(tool: Tool, dialect: str, index: int) -> dict[str, Any] | None:
    """Return description and parameters, None for what the client does not run."""
    known = client_tool(tool.type) if tool.type else None
    if known and not is_object(tool.input_schema):
        description, schema = known
        return {"description": literal(description), "parameters": to_parameters(schema, dialect)}
    if tool.name == PLACEHOLDER and tool.defer_loading:
        return None
    if is_object(tool.input_schema):
        raw = bytes(memoryview(tool.input_schema))
        convert = _kept_parameters if len(raw) <= _LARGEST_SCHEMA else _parameters
        parameters = convert(raw, dialect)
    elif tool.type in (None, "custom") and not tool.defer_loading:
        if is_present(tool.input_schema):
            raise invalid_request(
                "Input should be a valid dictionary", "tools", index, "input_schema"
            )
        parameters = Raw(b'{"type":"object","properties":{}}')
    else:
        return None
    described = {"description": tool.description} if is_string(tool.description) else {}
    return {**described, "parameters": parameters}


def _parameters(schema: bytes, dialect: str) -> Raw:
    return Raw(msgspec.json.encode(to_parameters(read(_ANYTHING, schema, "tools"), dialect)))


_kept_parameters = lru_cache(maxsize=_SCHEMAS_KEPT)(_parameters)


# Which tool the model must call...


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What tool_choice becomes."""

    fields: Mapping[str, Any]
    """tool_choice and parallel_tool_calls, as far as they are sent."""
    instruction: str | None = None
    """What the prompt must ask for, because tool_choice cannot say it here."""
    without_tools: bool = False
    """True: the tools must not be sent, which is the only way to forbid them here."""


def to_chat_choice(choice: ToolChoice | None, tools: ToolSet, conversion: Conversion) -> Choice:
    """Convert tool_choice, which means something only where there are *tools*."""
    if choice is None or not tools.sent_names:
        return Choice(fields={})
    fields: dict[str, Any] = {}
    if choice.disable_parallel_tool_use and choice.type != "none":
        if conversion.quirks.parallel_tool_calls:
            fields["parallel_tool_calls"] = False
        else:
            conversion.drop("tool_choice.disable_parallel_tool_use")
    name = tools.sent_names.get(choice.name or "")
    said, instruction = _said(choice.type, name, conversion.quirks)
    if said is not None:
        fields["tool_choice"] = said
    forbidden = choice.type == "none" and said is None
    if forbidden:
        fields = {}
    return Choice(fields=fields, instruction=instruction, without_tools=forbidden)


def _said(kind: str, name: str | None, quirks: Quirks) -> tuple[Any, str | None]:
    """Return the value of tool_choice, and the instruction that replaces what it cannot say."""
    known = quirks.tool_choices
    weakest = "auto" if "auto" in known else None
    if kind == "none":
        return ("none" if "none" in known else None), None
    if kind == "tool" and name is not None:
        if "function" in known:
            return {"type": "function", "function": {"name": name}}, None
        strongest = quirks.required_word if "required" in known else weakest
        return strongest, f"Answer by calling the tool {name}."
    if kind == "any":
        if "required" in known:
            return quirks.required_word, None
        return weakest, "Answer by calling one of the tools."
    return weakest, None
