"""
Message threads: conversations that the server stores (beta `message-threads-2026-08-12`).

A client that continues a thread sends only its new messages. ccproxy and most providers store no
conversations, so such a request must fail with the error that makes the SDKs resend everything:
`thread_unsupported_request` for `create`, and `thread_not_found` for `continue`. Without an error,
the model would answer without the conversation.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ccproxy.errors import Problem
from ccproxy.protocol.json_splice import fields_of
from ccproxy.worker.server.http import ClientRequest

_BETA = "message-threads"
_FIELD = b'"thread"'
_WINDOW = 4096
"""Bytes to search at each end of a body if the beta header is missing."""


def refuse_thread(request: ClientRequest, body: bytes) -> None:
    """
    Refuse a request that uses a thread, unless the provider is Anthropic itself.

    Raises:
        Problem: 400 with the `details` that determine the SDK's next step.
    """
    if not _may_have_thread(request, body) or request.worker.config.takes_anthropic_keys:
        return
    fields = fields_of(body)
    raw = fields.get("thread") if fields else None
    thread = msgspec.json.decode(raw) if raw is not None else None
    if thread is None:
        return
    kind = thread.get("type") if isinstance(thread, dict) else None
    if kind == "continue":
        text = "thread: not found; this proxy stores no conversations: send all messages"
        raise _problem(request, text, {"error_code": "thread_not_found"})
    text = "thread: not supported by this proxy; send all messages without it"
    details = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    raise _problem(request, text, details)


def _may_have_thread(request: ClientRequest, body: bytes) -> bool:
    if any(_BETA in value for value in request.headers.getall("anthropic-beta", ())):
        return True
    return _FIELD in body[:_WINDOW] or _FIELD in body[-_WINDOW:]


def _problem(request: ClientRequest, text: str, details: dict[str, Any]) -> Problem:
    kind = "invalid_request_error"
    body = {
        "type": "error",
        "error": {"type": kind, "message": text, "details": details},
        "request_id": request.record.request_id,
    }
    return Problem(kind, text, should_retry=False, body=msgspec.json.encode(body))
