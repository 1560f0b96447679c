"""
Limits and sampling: max_tokens, temperature, top_p, top_k, stop and the user's name.

Nothing is sent that the client left out; what the provider refuses is left out and noted.
"""

from __future__ import annotations

import hashlib
from typing import Any

from ccproxy.convert.common.conversion import Conversion
from ccproxy.protocol.messages import MessagesRequest
from ccproxy.providers.quirks import Target

_LARGEST = 2**31 - 1


def limit_fields(request: MessagesRequest, target: Target, *, least: int = 1) -> dict[str, Any]:
    """
    Return the limit of the answer's length in tokens.

    It is lowered to what the model can put out, because Claude Code asks for up to 128,000; where
    only the window is known, to half of it. A cache warm-up (0) asks for one token. `least` goes
    before the client's number, not before the model's limit.
    """
    wanted = max(request.max_tokens or 1, least)
    limit = target.max_output or (target.window and target.window // 2) or _LARGEST
    return {target.quirks.max_tokens_field: max(1, min(wanted, limit))}


def sampling_fields(
    request: MessagesRequest, conversion: Conversion, *, effort: str | None = None
) -> dict[str, Any]:
    """
    Return temperature, top_p and top_k as far as the provider takes them.

    *effort* is the reasoning_effort that is sent; some models take them only without any.
    """
    quirks = conversion.quirks
    sampling = quirks.sampling or (quirks.sampling_without_effort and effort in (None, "none"))
    given: dict[str, float | int | None] = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
    }
    taken = {"temperature": sampling, "top_p": sampling, "top_k": quirks.top_k}
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if taken[name]:
            fields[name] = value
        else:
            conversion.drop(name)
    if "temperature" in fields:
        lowest, highest = quirks.temperature_range
        moved = min(max(fields["temperature"], lowest), highest)
        fields["temperature"] = int(moved) if moved == int(moved) else moved
    if "top_k" in fields:
        fields["top_k"] = min(max(fields["top_k"], 0), _LARGEST)
    return fields


def stops_of(request: MessagesRequest) -> tuple[str, ...]:
    """Return the stop sequences that mean something, each once."""
    return tuple(dict.fromkeys(filter(None, request.stop_sequences or ())))


def stop_fields(stops: tuple[str, ...], conversion: Conversion) -> dict[str, Any]:
    """Return the stop sequences that the provider takes; all are enforced here besides."""
    if not stops:
        return {}
    if not conversion.quirks.stop:
        conversion.drop("stop_sequences")
        return {}
    return {"stop": list(stops[: conversion.quirks.max_stops])}


def user_fields(request: MessagesRequest, conversion: Conversion) -> dict[str, Any]:
    """Return the user's name, hashed: it is longer than the 64 characters that OpenAI takes."""
    user_id = request.metadata.user_id if request.metadata else None
    if user_id and conversion.quirks.user_field != "none":
        return {conversion.quirks.user_field: hashlib.sha256(user_id.encode()).hexdigest()}
    if request.metadata:
        conversion.drop("metadata")
    return {}
