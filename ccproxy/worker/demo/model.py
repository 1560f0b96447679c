"""
What the demo model says: a function from a Chat Completions request to a reply.

It runs a command if the user asks for one and a tool for it is offered, uses the result, and
otherwise repeats what it was told. The same request always gets the same reply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]

LONGEST_QUOTE = 2000
"""Characters of a text or a result that the model repeats."""

_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
_COMMAND = re.compile(
    r"\b(?:run|execute)\b[^`:\n]{0,40}(?:`([^`\n]+)`|:[ \t]*([^`\n]+))", re.IGNORECASE
)
_SHELL_TOOLS = ("bash", "shell", "run_command")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Either text or one call of a tool."""

    text: str = ""
    tool: str = ""
    arguments: str = ""
    call_id: str = ""

    @property
    def finish_reason(self) -> str:
        """Why the answer ends."""
        return "tool_calls" if self.tool else "stop"


def reply_to(request: Json) -> Reply:
    """Say what a request deserves."""
    messages = [one for one in _list(request.get("messages")) if isinstance(one, Mapping)]
    spoken, results = _last_turn(messages)
    if results:
        return Reply(text="The command printed:\n\n" + "\n".join(results))
    if schema := _schema(request):
        return Reply(text=json.dumps(_example(schema)))
    if "<summary>" in spoken:
        return Reply(text="<summary>A session with ccproxy's demo model.</summary>")
    command, tool = _command(spoken), _shell_tool(request)
    if command and tool:
        arguments = {"command": command, "description": "Run what the user asked for"}
        return Reply(tool=tool, arguments=json.dumps(arguments), call_id=f"call_{len(messages)}")
    return Reply(text=_small_talk(spoken))


def tokens(text: str) -> int:
    """Count tokens as roughly as a demo may."""
    return max(1, len(text) // 4)


def _last_turn(messages: Sequence[Json]) -> tuple[str, list[str]]:
    """Return what the user said last, or the results of the tools that ran since."""
    results: list[str] = []
    for message in reversed(messages):
        text = _REMINDER.sub("", _text(message.get("content"))).strip()
        match message.get("role"):
            case "tool":
                results.insert(0, text[:LONGEST_QUOTE] or "(nothing)")
            case "user" if text:
                return text, results
            case "assistant" if results:
                return "", results
    return "", results


def _command(spoken: str) -> str:
    found = _COMMAND.search(spoken)
    return (found[1] or found[2]).strip() if found else ""


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
    """Return the plainest value that has the form of *schema*."""
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


def _small_talk(spoken: str) -> str:
    quote = " ".join(spoken.split())[:LONGEST_QUOTE]
    heard = f"You said: {quote}\n\n" if quote else ""
    return (
        "This is ccproxy's demo model: your message went through the whole proxy, there and back. "
        f"{heard}Ask me to run a command, for example: run `date`"
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
