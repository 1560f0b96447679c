"""
Error responses in the formats of the Messages API and OpenAI's APIs.

A message often quotes the provider, and providers quote the key that they refuse; so every text
is redacted before it is sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from aiohttp import web

from ccproxy.convert.openai_clients.openai_errors import openai_error
from ccproxy.errors import Problem
from ccproxy.protocol.json_splice import fields_of
from ccproxy.protocol.messages import error_body

JSON = "application/json"

SHUTTING_DOWN = "the proxy is shutting down; try again"

_log = logging.getLogger(__name__)


def unexpected(error: BaseException | None, *, status: int = 500) -> Problem:
    """Log an unexpected exception and return the client's error, which does not quote it."""
    _log.error("request failed unexpectedly", exc_info=error)
    return Problem("api_error", "Internal error in ccproxy; see its log file", status=status)


def redacted(problem: Problem, redact: Callable[[str], str]) -> Problem:
    """Return *problem* with all keys redacted from its text."""
    text = redact(problem.message)
    return problem if text == problem.message else problem.with_message(text)


def problem_response(problem: Problem, request_id: str) -> web.Response:
    """Return the Messages API's error response; in direct mode the provider's JSON is kept."""
    own = problem.body if problem.body is not None and fields_of(problem.body) else None
    return web.Response(
        status=problem.status,
        body=own or error_body(problem, request_id),
        headers=problem_headers(problem),
        content_type=JSON,
    )


def openai_problem_response(problem: Problem, request_id: str) -> web.Response:
    """Return OpenAI's error response, for clients of `/v1/chat/completions`."""
    return web.Response(
        status=problem.status,
        body=openai_error(problem, request_id),
        headers=problem_headers(problem),
        content_type=JSON,
    )


def problem_headers(problem: Problem) -> dict[str, str]:
    """Return the headers that control whether and when a client repeats the request."""
    headers = {name.lower(): value for name, value in problem.headers}
    for own in ("content-type", "request-id"):
        headers.pop(own, None)
    if problem.retry_after is not None:
        headers["retry-after"] = str(problem.retry_after)
    if problem.should_retry is not None:
        headers["x-should-retry"] = "true" if problem.should_retry else "false"
    return headers
