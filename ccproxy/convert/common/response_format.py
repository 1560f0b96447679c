"""Structured output: the requested format, and what replaces it where it is not supported."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from ccproxy.protocol.literals import is_object, read
from ccproxy.protocol.messages import MessagesRequest, OutputFormat

_NAME = "answer"
"""Name of the schema; the APIs of providers require one, the Messages API has none."""

_ANYTHING = msgspec.json.Decoder()


def requested_format(request: MessagesRequest) -> OutputFormat | None:
    """Return the JSON schema format of *request*; `output_format` is the older field."""
    config = request.output_config
    chosen = (config and config.format) or request.output_format
    return chosen if chosen and chosen.type == "json_schema" and is_object(chosen.schema) else None


def format_instruction(schema: Raw) -> str:
    """Return an instruction for the prompt that requests JSON of this *schema*."""
    return (
        "Answer with one JSON object and nothing else: no prose, no code fence. "
        f"It must match this JSON schema:\n{str(memoryview(schema), 'utf-8')}"
    )


def named_schema(requested: OutputFormat) -> dict[str, Any]:
    """Return name and schema, and `strict` if the schema meets OpenAI's rules for it."""
    schema = requested.schema
    strict = {"strict": True} if _is_closed(read(_ANYTHING, schema, "output_config")) else {}
    return {"name": _NAME, "schema": schema, **strict}


def _is_closed(schema: object) -> bool:
    """Return True if every object in *schema* is closed and requires all of its properties."""
    if isinstance(schema, list):
        return all(_is_closed(each) for each in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if isinstance(properties, dict):
        required = schema.get("required")
        if schema.get("additionalProperties") is not False or not isinstance(required, list):
            return False
        names = {name for name in required if isinstance(name, str)}
        if not names.issuperset(properties):
            return False
    elif schema.get("type") == "object":
        return False
    return all(_is_closed(inner) for inner in schema.values())
