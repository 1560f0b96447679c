"""Requests to the Messages API like those of a client; their text is the same in every run."""

from __future__ import annotations

import base64
import json
import random
from functools import cache
from typing import Any

MODEL = "claude-sonnet-4-20250514"
SIZES = {"turn": 150_000, "long": 2_200_000, "endless": 8_000_000}
"""Sizes of conversations in bytes: an ordinary turn, a long session, an extreme session."""

_VOCABULARY = (
    "module worker request stream buffer token parser server client timeout retry queue index "
    "return value path option check state before after while every naïve Zürich 数据 “quoted” "
    'src/app/main.py line 42 def class import self None True "x": {"y": [1, 2]}, \\d+ → ok'
)
_TOOLS = (
    "Task Bash Glob Grep Read Edit Write NotebookEdit WebFetch WebSearch TodoWrite BashOutput "
    "KillShell SlashCommand ExitPlanMode AskUserQuestion Skill mcp__db__query mcp__git__diff "
    "mcp__web__open"
)


@cache
def request(name: str, *, stream: bool) -> bytes:
    """
    Return the body called *name*.

    `small` (150 bytes), `turn`, `long`, `endless` (conversations, see `SIZES`) or `image`
    (500 KB, nearly all of it a single image).
    """
    # Not for secrets: with a fixed seed every run sends the same bytes.
    random_ = random.Random(name)
    if name == "small":
        body = _body([{"role": "user", "content": "Say hello in one short sentence."}])
    elif name == "image":
        body = _body([{"role": "user", "content": _picture(random_)}])
    else:
        body = _conversation(random_, SIZES[name])
    return json.dumps(body | {"stream": stream}, ensure_ascii=False).encode()


def _body(messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 1024, "messages": messages}


def _picture(random_: random.Random) -> list[dict[str, Any]]:
    data = base64.b64encode(random_.randbytes(375_000)).decode()
    source = {"type": "base64", "media_type": "image/png", "data": data}
    return [
        {"type": "text", "text": "What is in the picture?"},
        {"type": "image", "source": source},
    ]


def _conversation(random_: random.Random, size: int) -> dict[str, Any]:
    """Return a system prompt, twenty tools, and thirty rounds of tool call and result."""
    cached = {"cache_control": {"type": "ephemeral"}}
    body = _body([]) | {
        "max_tokens": 32_000,
        "temperature": 1,
        "system": [
            {"type": "text", "text": "You are a coding assistant in a terminal.", **cached},
            {"type": "text", "text": _text(random_, 14_800), **cached},
        ],
        "tools": [_tool(random_, number, name) for number, name in enumerate(_TOOLS.split())],
        "metadata": {"user_id": "user_abc_account__session_0123"},
    }
    rounds = 30
    room = max(400, (size - len(json.dumps(body, ensure_ascii=False).encode())) // rounds - 700)
    question = [{"type": "text", "text": _text(random_, 300)}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
    for number in range(rounds):
        messages += _round(random_, number, room)
    messages[-1]["content"].append({"type": "text", "text": "continue", **cached})
    return body | {"messages": messages}


def _round(random_: random.Random, number: int, room: int) -> list[dict[str, Any]]:
    """Return a tool call and its result; every third call is an edit with old and new text."""
    identity = f"toolu_{number:022d}"
    path = f"/home/dev/src/module_{number}.py"
    if number % 3 == 0:
        call: dict[str, Any] = {"file_path": path, "old_string": _text(random_, room // 4)}
        call |= {"new_string": _text(random_, room // 4), "replace_all": False}
        name, size_left = "Edit", room // 2
    else:
        call = {"file_path": path, "offset": number * 10, "limit": 200}
        name, size_left = "Read", room
    content: Any = _text(random_, size_left)
    if number % 2:
        content = [{"type": "text", "text": content}]
    result = {"type": "tool_result", "tool_use_id": identity, "content": content}
    if number % 7 == 6:
        result["is_error"] = True
    text = {"type": "text", "text": _text(random_, 200)}
    use = {"type": "tool_use", "id": identity, "name": name, "input": call}
    return [
        {"role": "assistant", "content": [text, use]},
        {"role": "user", "content": [result]},
    ]


def _tool(random_: random.Random, number: int, name: str) -> dict[str, Any]:
    status = {"type": "string", "enum": ["pending", "in_progress", "completed"]}
    item = {"type": "object", "properties": {"status": status}, "required": ["status"]}
    kinds: list[dict[str, Any]] = [
        {"type": "string"},
        {"type": "number", "minimum": 0},
        {"type": "array", "minItems": 1, "items": item},
        {"type": "string", "enum": ["content", "files_with_matches", "count"]},
    ]
    properties = {
        f"parameter_{index}": kinds[index % 4] | {"description": _text(random_, 90)}
        for index in range(4 + number % 5)
    }
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": properties,
        "required": ["parameter_0"],
        "additionalProperties": False,
    }
    text = _text(random_, 1500 + 60 * number)
    return {"name": name, "description": text, "input_schema": schema}


def _text(random_: random.Random, size: int) -> str:
    """Return about *size* bytes of words and lines."""
    vocabulary = _VOCABULARY.split()
    words: list[str] = []
    length = 0
    while length < size:
        token = random_.choice(vocabulary) + ("\n" if random_.random() < 0.06 else "")
        words.append(token)
        length += len(token.encode()) + 1
    return " ".join(words)
