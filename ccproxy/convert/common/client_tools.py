"""
Definitions of the tools that the Messages API defines by type and the client runs.

Other models need a description and a schema (API reference: bash, text editor, memory and computer
use tools).
"""

from __future__ import annotations

from typing import Any, Final

_TEXT: Final = {"type": "string"}
_POINT: Final = {
    "type": "array",
    "items": {"type": "integer"},
    "description": "x and y in pixels from the top left",
}
_FILE_FIELDS: Final = {
    "file_text": {**_TEXT, "description": "For create: the content of the file"},
    "old_str": {**_TEXT, "description": "For str_replace: the text to replace"},
    "new_str": {**_TEXT, "description": "For str_replace and insert: the new text"},
    "insert_line": {"type": "integer", "description": "For insert: the line to insert after"},
    "insert_text": {**_TEXT, "description": "For insert: the new text"},
    "view_range": {
        "type": "array",
        "items": {"type": "integer"},
        "description": "First and last line, counted from 1; -1 as the last means the end",
    },
}


def _schema(required: list[str], **properties: object) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}


def _commands(*names: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(names)}


CLIENT_TOOLS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "bash_": (
        "Run a command in a persistent bash session.",
        _schema(
            [],
            command={**_TEXT, "description": "The command to run"},
            restart={"type": "boolean", "description": "Restart the session instead"},
        ),
    ),
    "text_editor_": (
        "View, create and edit text files.",
        _schema(
            ["command", "path"],
            command=_commands("view", "create", "str_replace", "insert", "undo_edit"),
            path={**_TEXT, "description": "Absolute path of the file or directory"},
            **_FILE_FIELDS,
        ),
    ),
    "memory_": (
        "Keep notes across conversations in files under /memories.",
        _schema(
            ["command"],
            command=_commands("view", "create", "str_replace", "insert", "delete", "rename"),
            path={**_TEXT, "description": "Path under /memories"},
            **_FILE_FIELDS,
            old_path={**_TEXT, "description": "For rename"},
            new_path={**_TEXT, "description": "For rename"},
        ),
    ),
    "computer_2": (
        "Use a computer's screen, mouse and keyboard.",
        _schema(
            ["action"],
            action=_commands(
                *("screenshot", "left_click", "right_click", "middle_click", "double_click"),
                *("triple_click", "left_click_drag", "left_mouse_down", "left_mouse_up"),
                *("mouse_move", "cursor_position", "key", "hold_key", "type", "scroll"),
                *("wait", "zoom"),
            ),
            coordinate=_POINT,
            start_coordinate=_POINT,
            text={**_TEXT, "description": "What to type, or the keys to press"},
            scroll_direction=_commands("up", "down", "left", "right"),
            scroll_amount={"type": "integer"},
            duration={"type": "number", "description": "Seconds"},
            region={"type": "array", "items": {"type": "integer"}},
        ),
    ),
}
"""Prefix of a tool's type (a date follows) -> description and input schema."""


def client_tool(kind: str) -> tuple[str, dict[str, Any]] | None:
    """Return the description and schema of a tool of type *kind*, or None for other types."""
    for prefix, definition in CLIENT_TOOLS.items():
        if kind.startswith(prefix):
            return definition
    return None
