"""
Structured output: `output_config.format` as `response_format`.

Where a provider takes only "some JSON object", or nothing at all, the prompt says the rest.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ccproxy.convert.common.conversion import Conversion
from ccproxy.protocol.literals import is_object, read
from ccproxy.protocol.messages import MessagesRequest, OutputFormat

_ANYTHING = msgspec.json.Decoder()
_NAME = "answer"


def format_of(request: MessagesRequest) -> OutputFormat | None:
    """Return the form that the answer must have; `output_format` is the older name."""
    config = request.output_config
    wanted = (config and config.format) or request.output_format
    return wanted if wanted and wanted.type == "json_schema" and is_object(wanted.schema) else None


def format_fields(
    wanted: OutputFormat | None, conversion: Conversion, *, streams: bool
) -> tuple[dict[str, Any], str | None]:
    """Return the fields that ask for it, and the instruction that says what they cannot."""
    if wanted is None:
        return {}, None
    quirks = conversion.quirks
    form = quirks.response_format
    if streams and not quirks.response_format_streams:
        form = "none"
    if form == "json_schema":
        return {"response_format": {"type": form, "json_schema": named_schema(wanted)}}, None
    fields = {"response_format": {"type": "json_object"}} if form == "json_object" else {}
    schema = str(memoryview(wanted.schema), "utf-8")
    instruction = (
        "Answer with one JSON object and nothing else: no prose, no code fence. "
        f"It must match this JSON schema:\n{schema}"
    )
    return fields, instruction


def named_schema(wanted: OutputFormat) -> dict[str, Any]:
    """Name the schema, and let it bind where OpenAI's rules for that are met."""
    schema = wanted.schema
    strict = {"strict": True} if _is_strict(read(_ANYTHING, schema, "output_config")) else {}
    return {"name": _NAME, "schema": schema, **strict}


def _is_strict(schema: object) -> bool:
    """Whether every object in *schema* is closed and requires all of its properties."""
    if isinstance(schema, list):
        return all(_is_strict(each) for each in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if isinstance(properties, dict):
        required = schema.get("required")
        if schema.get("additionalProperties") is not False or not isinstance(required, list):
            return False
        if not all(name in required for name in properties):
            return False
    elif schema.get("type") == "object":
        return False
    return all(_is_strict(inner) for inner in schema.values())
