"""
Errors in OpenAI's format: the body of an HTTP response, and the codes that clients act on.

Codex CLI retries a request up to five times after most stream errors. It reports
`context_length_exceeded`, `insufficient_quota` and `server_is_overloaded` at once with its own
message, and `invalid_prompt` at once with ours. After `rate_limit_exceeded` it waits for the time
in the message (measured with 0.171).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ccproxy.errors import Problem

CONTEXT_LENGTH: Final = "context_length_exceeded"
_TOO_LONG: Final = re.compile(r"prompt is too long|exceed context limit", re.IGNORECASE)
_LOST_RESPONSE: Final = re.compile(r"Previous response with id .* not found", re.DOTALL)
_CODES: Final[Mapping[str, str]] = {
    "authentication_error": "invalid_api_key",
    "billing_error": "insufficient_quota",
    "not_found_error": "model_not_found",
    "rate_limit_error": "rate_limit_exceeded",
    "overloaded_error": "server_is_overloaded",
    "api_error": "server_error",
    "timeout_error": "server_error",
}


_STREAM_CODES: Final[Mapping[str, str]] = {
    "billing_error": "insufficient_quota",
    "rate_limit_error": "rate_limit_exceeded",
    "overloaded_error": "server_error",
    "api_error": "server_error",
    "timeout_error": "server_error",
    "conflict_error": "server_error",
}
"""The codes of a failed response; all others become `invalid_prompt`, which is not retried."""


def error_code(problem: Problem) -> str | None:
    """Return OpenAI's code for *problem*, or None."""
    if _TOO_LONG.search(problem.message):
        return CONTEXT_LENGTH
    if _LOST_RESPONSE.match(problem.message):
        return "previous_response_not_found"
    return _CODES.get(problem.kind)


def openai_error(problem: Problem, request_id: str) -> bytes:
    """Return the body of OpenAI's error response."""
    code = error_code(problem)
    is_lost = code == "previous_response_not_found"
    error = {
        "message": problem.message,
        "type": problem.kind,
        "param": "previous_response_id" if is_lost else None,
        "code": code,
    }
    return msgspec.json.encode({"error": error, "request_id": request_id})


def stream_error(problem: Problem) -> dict[str, Any]:
    """Return the error object for a response that fails after it has started."""
    message = problem.message
    if problem.retry_after is not None and problem.kind == "rate_limit_error":
        message = f"{message} Please try again in {problem.retry_after}s."
    is_too_long = error_code(problem) == CONTEXT_LENGTH
    code = CONTEXT_LENGTH if is_too_long else _STREAM_CODES.get(problem.kind, "invalid_prompt")
    return {"code": code, "message": message}
