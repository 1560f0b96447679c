"""
Request parameters for the answer: length, sampling, stop sequences, format and user.

Parameters that the client omits are not sent. Parameters that the provider refuses are left out
and recorded as dropped.
"""

from __future__ import annotations

import hashlib
from typing import Any

from ccproxy.convert.common.conversion import Conversion, session_key
from ccproxy.convert.common.schema import format_instruction, named_schema
from ccproxy.protocol.messages import MessagesRequest, OutputFormat
from ccproxy.providers.quirks import Target

_INT_MAX = 2**31 - 1


def limit_fields(request: MessagesRequest, target: Target, *, least: int = 1) -> dict[str, Any]:
    """
    Return the token limit of the answer, which is at least *least*.

    The limit is lowered to the model's maximum, because Claude Code requests up to 128,000 tokens,
    or to half of the context window if only the window is known. A cache warm-up (0) requests one
    token.
    """
    requested = max(request.max_tokens or 1, least)
    limit = target.max_output or (target.window and target.window // 2) or _INT_MAX
    return {target.quirks.max_tokens_field: max(1, min(requested, limit))}


def sampling_fields(
    request: MessagesRequest, conversion: Conversion, *, effort: str | None = None
) -> dict[str, Any]:
    """
    Return those of temperature, top_p and top_k that the provider accepts.

    *effort* is the reasoning_effort that is sent; some models accept sampling parameters only if
    none is sent.
    """
    quirks = conversion.quirks
    sampling = quirks.sampling or (quirks.sampling_without_effort and effort in (None, "none"))
    accepted = {"temperature": sampling, "top_p": sampling, "top_k": quirks.top_k}
    fields: dict[str, Any] = {}
    for name, is_accepted in accepted.items():
        value = getattr(request, name)
        if value is None:
            continue
        if is_accepted:
            fields[name] = value
        else:
            conversion.drop(name)
    if "temperature" in fields:
        lowest, highest = quirks.temperature_range
        temperature = min(max(fields["temperature"], lowest), highest)
        is_whole = temperature == int(temperature)
        fields["temperature"] = int(temperature) if is_whole else temperature
    if "top_k" in fields:
        fields["top_k"] = min(max(fields["top_k"], 0), _INT_MAX)
    return fields


def stop_sequences_of(request: MessagesRequest) -> tuple[str, ...]:
    """Return the distinct non-empty stop sequences."""
    return tuple(dict.fromkeys(filter(None, request.stop_sequences or ())))


def stop_fields(sequences: tuple[str, ...], conversion: Conversion) -> dict[str, Any]:
    """Return the stop sequences that the provider accepts; ccproxy itself enforces all of them."""
    if not sequences:
        return {}
    if not conversion.quirks.stop:
        conversion.drop("stop_sequences")
        return {}
    return {"stop": list(sequences[: conversion.quirks.max_stops])}


def format_fields(
    requested: OutputFormat | None, conversion: Conversion, *, streams: bool, thinking: bool
) -> tuple[dict[str, Any], str | None]:
    """Return `response_format`, and an instruction for the prompt if that field is not enough."""
    if requested is None:
        return {}, None
    quirks = conversion.quirks
    form = quirks.response_format
    is_refused = (streams and not quirks.response_format_streams) or (
        thinking and not quirks.format_with_thinking
    )
    if is_refused:
        form = "none"
    if form == "json_schema":
        return {"response_format": {"type": form, "json_schema": named_schema(requested)}}, None
    fields = {"response_format": {"type": "json_object"}} if form == "json_object" else {}
    return fields, format_instruction(requested.schema)


def metadata_fields(request: MessagesRequest, conversion: Conversion) -> dict[str, Any]:
    """
    Return the fields derived from `metadata.user_id`, as hashes of at most 64 characters.

    The prompt cache key is derived from the session ID in `user_id`. Requests with the same key go
    to the same machine, whose cache contains most of the session's prompt.
    """
    quirks = conversion.quirks
    user_id = request.metadata.user_id if request.metadata else None
    fields: dict[str, Any] = {}
    if user_id and quirks.user_field != "none":
        fields[quirks.user_field] = hashlib.sha256(user_id.encode()).hexdigest()
    if user_id and quirks.cache_key:
        fields["prompt_cache_key"] = session_key(user_id)
    if request.metadata and not fields:
        conversion.drop("metadata")
    return fields
