"""
Convert the tools of Responses clients for the Messages API, and calls back to the client's form.

| the client's tool          | sent as                              | a call of it becomes   |
|----------------------------|--------------------------------------|------------------------|
| function                   | the same                             | function_call          |
| in a namespace             | the same, as `NAMESPACE__NAME`       | as without a namespace |
| custom (free text)         | a function with one string, `input`  | custom_tool_call       |
| local_shell                | a function                           | local_shell_call       |
| tool_search (client's own) | a function                           | tool_search_call       |
| web_search                 | the Messages API's server tool       | web_search_call        |

The grammar of a custom tool is added to its description as an instruction to the model; it is not
enforced. Other hosted tools are omitted. So is the web search if a client tool has the same name,
because names are unique in the Messages API.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Raw

from ccproxy.convert.common.tool_names import tool_name
from ccproxy.protocol.literals import invalid_request, is_object
from ccproxy.protocol.responses_request import ToolDefinition

Kind = Literal["function", "custom", "local_shell", "tool_search"]

LOCAL_SHELL: Final = "local_shell"
TOOL_SEARCH: Final = "tool_search"
WEB_SEARCH: Final = "web_search"
CUSTOM_INPUT: Final = "input"
"""The argument with the free text in the call of a custom tool."""

_LONGEST_NAME: Final = 128
MOST_CHARACTERS: Final = 256
"""The limit for a tool's name plus its namespace; every name is hashed."""
_ANY_OBJECT: Final = {"type": "object", "properties": {}}
_STRING: Final = {"type": "string"}
_SHELL_SCHEMA: Final = {
    "type": "object",
    "properties": {
        "command": {"type": "array", "items": _STRING, "description": "The program, its arguments"},
        "working_directory": _STRING,
        "timeout_ms": {"type": "integer"},
        "env": {"type": "object", "additionalProperties": _STRING},
    },
    "required": ["command"],
}
_SHELL_DESCRIPTION: Final = "Runs a command on the user's machine and returns its output."

_FREE_TEXT: Final = (
    f"Call this tool with the free text as the argument `{CUSTOM_INPUT}`; the text itself is "
    "neither JSON nor quoted."
)


class ToolKind(NamedTuple):
    """The client's own form of a tool."""

    kind: Kind
    name: str
    namespace: str | None = None


class ToolKinds:
    """The tools of one request: their converted definitions, and their original forms."""

    def __init__(self, tools: Iterable[ToolDefinition], *, with_search: bool) -> None:
        """Convert *tools*; *with_search* means that the provider supports the web search tool."""
        self.definitions: list[dict[str, Any]] = []
        self.dropped: list[str] = []
        """The types of the omitted tools."""
        self._with_search = with_search
        self._search: dict[str, Any] | None = None
        self._kinds: dict[str, ToolKind] = {}
        for tool in tools:
            self._add(tool)
        if self._search and WEB_SEARCH in self._kinds:
            self.definitions.remove(self._search)
            self.dropped.append(f"tools.{WEB_SEARCH}")

    def kind_of(self, name: str) -> ToolKind:
        """Return the client's form of the tool named *name*; unknown names are functions."""
        return self._kinds.get(name) or ToolKind("function", name)

    def keep_only(self, names: Iterable[str]) -> None:
        """Keep only the tools with these sent *names*."""
        allowed = set(names)
        self.definitions = [tool for tool in self.definitions if tool["name"] in allowed]

    def _add(self, tool: ToolDefinition, namespace: str | None = None) -> None:
        match tool.type:
            case "function" if tool.name:
                self._define(ToolKind("function", tool.name, namespace), _function(tool))
            case "custom" if tool.name:
                self._define(ToolKind("custom", tool.name, namespace), _custom(tool))
            case "namespace" if namespace is None:
                for inner in _described(tool):
                    self._add(inner, tool.name)
            case "local_shell":
                fields = {"description": _SHELL_DESCRIPTION, "input_schema": _SHELL_SCHEMA}
                self._define(ToolKind("local_shell", LOCAL_SHELL), fields)
            case "tool_search" if tool.execution == "client":
                self._define(ToolKind("tool_search", TOOL_SEARCH), _function(tool))
            case "web_search" | "web_search_preview" if self._with_search:
                if self._search is None:
                    self._search = _search(tool)
                    self.definitions.append(self._search)
            case _:
                self.dropped.append(f"tools.{tool.type}")

    def _define(self, kind: ToolKind, fields: dict[str, Any]) -> None:
        if len(kind.name) + len(kind.namespace or "") > MOST_CHARACTERS:
            text = f"a tool name can have at most {MOST_CHARACTERS} characters"
            raise invalid_request(text, "tools")
        name = sent_name(kind.name, kind.namespace)
        if name not in self._kinds:  # the same tool can be added again
            self._kinds[name] = kind
            self.definitions.append({"name": name, **fields})


def _described(namespace: ToolDefinition) -> list[ToolDefinition]:
    """Return a namespace's tools, with its description prepended to that of the first tool."""
    first, *others = namespace.tools or (ToolDefinition("empty namespace"),)
    if namespace.description:
        about = f"{namespace.name}: {namespace.description}"
        description = "\n\n".join(filter(None, (about, first.description)))
        first = msgspec.structs.replace(first, description=description)
    return [first, *others]


def sent_name(name: str, namespace: str | None) -> str:
    """Return the name of a tool in the converted request."""
    if namespace:
        name = f"{namespace}{name}" if namespace.endswith("__") else f"{namespace}__{name}"
    return tool_name(name, _LONGEST_NAME)


def _function(tool: ToolDefinition) -> dict[str, Any]:
    schema: Raw | dict[str, Any] = tool.parameters if is_object(tool.parameters) else _ANY_OBJECT
    fields: dict[str, Any] = {"input_schema": schema}
    if tool.description:
        fields["description"] = tool.description
    if tool.strict:
        fields["strict"] = True
    return fields


def _custom(tool: ToolDefinition) -> dict[str, Any]:
    grammar = (tool.format or {}).get("definition")
    texts = [tool.description, _FREE_TEXT]
    if isinstance(grammar, str):
        syntax = (tool.format or {}).get("syntax")
        texts.append(f"The text must match this grammar ({syntax}):\n{grammar}")
    schema = {
        "type": "object",
        "properties": {CUSTOM_INPUT: {"type": "string", "description": "The free text."}},
        "required": [CUSTOM_INPUT],
        "additionalProperties": False,
    }
    return {"description": "\n\n".join(filter(None, texts)), "input_schema": schema}


def _search(tool: ToolDefinition) -> dict[str, Any]:
    search: dict[str, Any] = {"type": "web_search_20250305", "name": WEB_SEARCH}
    domains = (tool.filters or {}).get("allowed_domains")
    if domains:
        search["allowed_domains"] = domains
    if tool.user_location:
        search["user_location"] = tool.user_location
    return search
