"""
Convert tool definitions and tool_choice for the Responses API.

Function definitions are flat in this API, and `strict` is always sent: without it the API tries
strict mode and makes every optional property of the schema required. The Messages API's web search
server tool becomes the provider's own search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from ccproxy.convert.added_features.search_tool import SEARCH_TYPE
from ccproxy.convert.chat.tools import NO_TOOLS, ToolSet, to_chat_choice, to_chat_tools
from ccproxy.convert.common.conversion import Conversion
from ccproxy.protocol.literals import is_present, read
from ccproxy.protocol.messages import ToolChoice

_SEARCH: Final = {"type": "web_search"}
_TOOLS = msgspec.json.Decoder(list[dict[str, Any]])


@dataclass(frozen=True, slots=True)
class ResponsesTools:
    """The converted tools of a request."""

    definitions: Raw
    """The encoded JSON list."""
    functions: ToolSet
    search_name: str | None
    """The client's name for the web search, or None."""

    @property
    def count(self) -> int:
        """The number of tools sent."""
        return len(self.functions.sent_names) + (self.search_name is not None)


NO_RESPONSES_TOOLS: Final = ResponsesTools(Raw(b"[]"), NO_TOOLS, None)


def to_responses_tools(tools: Raw, conversion: Conversion) -> ResponsesTools:
    """Convert the tools of a request, or reuse the result of an earlier one."""
    if not is_present(tools):
        return NO_RESPONSES_TOOLS
    functions = to_chat_tools(tools, conversion)
    searches = conversion.quirks.web_search
    converted: ResponsesTools | None = functions.derived.get(searches)
    if converted is None:
        converted = functions.derived[searches] = _converted(tools, functions, searches=searches)
    if converted.search_name is not None:
        conversion.dropped.pop(f"tools.{converted.search_name}", None)
    return converted


def _converted(tools: Raw, functions: ToolSet, *, searches: bool) -> ResponsesTools:
    client_tools = read(_TOOLS, tools, "tools")
    strict_names = {tool.get("name") for tool in client_tools if tool.get("strict") is True}
    client_names = {sent_name: name for name, sent_name in functions.sent_names.items()}
    definitions: list[dict[str, Any]] = []
    for tool in _TOOLS.decode(functions.definitions):
        function = tool["function"]
        is_strict = client_names[function["name"]] in strict_names
        definitions.append({"type": "function", **function, "strict": is_strict})
    search_name = None
    for tool in client_tools if searches else ():
        is_search = str(tool.get("type")).startswith(SEARCH_TYPE)
        if is_search and tool.get("name") not in functions.sent_names:
            search_name = str(tool.get("name"))
            definitions.append(_search(tool))
            break
    return ResponsesTools(Raw(msgspec.json.encode(definitions)), functions, search_name)


def _search(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the client's web search; `max_uses` has no counterpart."""
    search: dict[str, Any] = dict(_SEARCH)
    if isinstance(tool.get("allowed_domains"), list) and tool["allowed_domains"]:
        search["filters"] = {"allowed_domains": tool["allowed_domains"]}
    if isinstance(tool.get("user_location"), dict):
        search["user_location"] = tool["user_location"]
    return search


class ResponsesChoice(NamedTuple):
    """The converted tool_choice."""

    fields: Mapping[str, Any]
    instruction: str | None
    without_tools: bool


def to_responses_choice(
    choice: ToolChoice | None, tools: ResponsesTools, conversion: Conversion
) -> ResponsesChoice:
    """Convert tool_choice, which has no effect without *tools*."""
    if choice is None or not tools.count:
        return ResponsesChoice({}, None, without_tools=False)
    if choice.type == "tool" and choice.name == tools.search_name:
        return ResponsesChoice({"tool_choice": _forced_search(tools)}, None, without_tools=False)
    if not tools.functions.sent_names:
        required = "required" if choice.type == "any" else "auto"
        kind = "none" if choice.type == "none" else required
        return ResponsesChoice({"tool_choice": kind}, None, without_tools=False)
    converted = to_chat_choice(choice, tools.functions, conversion)
    fields = dict(converted.fields)
    if isinstance(forced := fields.get("tool_choice"), dict):
        fields["tool_choice"] = {"type": "function", "name": forced["function"]["name"]}
    return ResponsesChoice(fields, converted.instruction, converted.without_tools)


def _forced_search(tools: ResponsesTools) -> Any:  # noqa: ANN401 - a string or an object
    """Return a tool_choice that forces the search, which the field cannot name directly."""
    if tools.count == 1:
        return "required"
    return {"type": "allowed_tools", "mode": "required", "tools": [_SEARCH]}
