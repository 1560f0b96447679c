"""
Relay the provider's own errors in direct mode, unchanged if they use the Messages API's format.

As in chat mode, the classified error replaces any other body (OpenAI's format, HTML, a gateway's
JSON). It also replaces context overflows in a wording that Claude Code does not recognize and would
not react to by compacting, and messages that make it show "Not logged in" instead of the error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import msgspec

from ccproxy.convert.errors import phrases
from ccproxy.convert.errors.causes import Cause
from ccproxy.convert.errors.classify import ProviderError
from ccproxy.errors import STATUS_OF_KIND, Problem
from ccproxy.protocol.json_splice import NOT_JSON

_RECOGNIZED_OVERFLOW = re.compile(
    r"prompt is too long|input length and `?max_tokens`? exceed context limit"
    r"|maximum context length|capability_rejected: prompt_too_long",
    re.IGNORECASE,
)
"""The wordings that make Claude Code compact the conversation (measured)."""


class _Detail(msgspec.Struct):
    type: str
    message: str


class _MessagesError(msgspec.Struct):
    type: Literal["error"]
    error: _Detail


_DECODER = msgspec.json.Decoder(_MessagesError)


def with_own_body(
    error: ProviderError, *, status: int, headers: Sequence[tuple[str, str]], body: bytes
) -> ProviderError:
    """
    Return *error* with the provider's *status*, *headers* and *body* for the client.

    The classified error keeps its own body if the provider's body must not be relayed.
    """
    problem = error.problem
    own_body = body if _is_relayed(error.cause, body) else None
    return replace(
        error,
        problem=Problem(
            problem.kind,
            problem.message,
            status=status if own_body is not None and status >= 400 else problem.status,
            retry_after=problem.retry_after,
            should_retry=problem.should_retry,
            body=own_body,
            headers=tuple(headers),
            refusal=problem.refusal,
        ),
    )


def _is_relayed(cause: Cause, body: bytes) -> bool:
    try:
        error = _DECODER.decode(body).error
    except NOT_JSON:
        return False
    if cause is Cause.OVERFLOW and not _RECOGNIZED_OVERFLOW.search(error.message):
        return False
    return error.type in STATUS_OF_KIND and not phrases.LOGIN.search(error.message)
