"""
The demo model: a function from a Chat Completions request to a reply.

It calls a shell tool if the user wants to run a command and the request offers such a tool, reports
the result, and otherwise repeats the user's text. The same request always gets the same reply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ccproxy.worker.admin.turn_text import without_reminders

Json = Mapping[str, Any]

MAX_QUOTE_CHARS = 2000
"""Length to which text or a tool result is truncated before it is repeated."""

_COMMAND = re.compile(
    r"\b(?:run|execute)\b[^`:\n]{0,40}(?:`([^`\n]+)`|:[ \t]*([^`\n]+))", re.IGNORECASE
)
_SHELL_TOOLS = ("bash", "shell", "run_command")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReply:
    """Either text or a single tool call."""

    text: str = ""
    tool: str = ""
    arguments: str = ""
    call_id: str = ""

    @property
    def finish_reason(self) -> str:
        """The reason why the answer ends."""
        return "tool_calls" if self.tool else "stop"


def reply_to(request: Json) -> DemoReply:
    """Return the reply to *request*."""
    messages = [item for item in _list(request.get("messages")) if isinstance(item, Mapping)]
    user_text, results = _last_turn(messages)
    if results:
        return DemoReply(text="The command printed:\n\n" + "\n".join(results))
    if schema := _schema(request):
        return DemoReply(text=json.dumps(_example(schema)))
    if "<summary>" in user_text:
        return DemoReply(text="<summary>A session with ccproxy's demo model.</summary>")
    command, tool = _command(user_text), _shell_tool(request)
    if command and tool:
        arguments = {"command": command, "description": "Run what the user asked for"}
        return DemoReply(
            tool=tool, arguments=json.dumps(arguments), call_id=f"call_{len(messages)}"
        )
    return DemoReply(text=_small_talk(user_text))


def tokens(text: str) -> int:
    """Return the approximate number of tokens."""
    return max(1, len(text) // 4)


def _last_turn(messages: Sequence[Json]) -> tuple[str, list[str]]:
    """Return the user's last text and the tool results after it."""
    results: list[str] = []
    for message in reversed(messages):
        text = without_reminders(_text(message.get("content"))).strip()
        match message.get("role"):
            case "tool":
                results.insert(0, text[:MAX_QUOTE_CHARS] or "(nothing)")
            case "user" if text:
                return text, results
            case "assistant" if results:
                return "", results
    return "", results


def _command(user_text: str) -> str:
    match = _COMMAND.search(user_text)
    return (match[1] or match[2]).strip() if match else ""


def _shell_tool(request: Json) -> str:
    for tool in _list(request.get("tools")):
        function = tool.get("function") if isinstance(tool, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if isinstance(name, str) and name.lower() in _SHELL_TOOLS:
            return name
    return ""


def _schema(request: Json) -> Json | None:
    form = request.get("response_format")
    named = form.get("json_schema") if isinstance(form, Mapping) else None
    schema = named.get("schema") if isinstance(named, Mapping) else None
    return schema if isinstance(schema, Mapping) else None


def _example(schema: Json) -> object:
    """Return the simplest value that satisfies *schema*."""
    if options := _list(schema.get("enum")):
        return options[0]
    properties = schema.get("properties")
    match schema.get("type"):
        case "object" if isinstance(properties, Mapping):
            return {name: _example(part) for name, part in properties.items()}
        case "object":
            return {}
        case "array":
            return []
        case "boolean":
            return False
        case "integer" | "number":
            return 0
    return "ccproxy demo"


def _small_talk(user_text: str) -> str:
    quote = " ".join(user_text.split())[:MAX_QUOTE_CHARS]
    echo = f"You said: {quote}\n\n" if quote else ""
    return (
        "This is ccproxy's demo model. Your message passed through the whole proxy and back. "
        f"{echo}Ask me to run a command, for example: run `date`"
    )


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(_texts(_list(content)))


def _texts(parts: Sequence[Any]) -> Iterator[str]:
    for part in parts:
        text = part.get("text") if isinstance(part, Mapping) else None
        if isinstance(text, str):
            yield text


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
