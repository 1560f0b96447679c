"""Direct mode relays errors of the Messages API and converts all others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ccproxy.convert.direct.error_relay import with_own_body
from ccproxy.convert.errors.classify import ProviderError, classify_error
from ccproxy.providers.quirks import PLAIN


def relayed(status: int, body: Any) -> ProviderError:
    data = json.dumps(body).encode()
    error = classify_error(status, {}, data, quirks=PLAIN)
    return with_own_body(error, status=status, headers=[("x-own", "1")], body=data)


def messages_error(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, messages_error("invalid_request_error", "tools: Field required")),
        (529, messages_error("overloaded_error", "Overloaded")),
        (400, messages_error("invalid_request_error", "prompt is too long: 2 tokens > 1 maximum")),
    ],
)
def test_an_error_of_the_messages_api_is_relayed(status: int, body: Any) -> None:
    problem = relayed(status, body).problem
    assert (problem.status, problem.body) == (status, json.dumps(body).encode())
    assert problem.headers == (("x-own", "1"),)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": 400, "message": "no", "type": "invalid_request_error"}},
        {"detail": "Not Found"},
        messages_error("server_error", "a type that the Messages API does not have"),
        {"type": "error", "error": "text"},
        ["error"],
    ],
)
def test_another_form_is_converted(body: Any) -> None:
    assert relayed(400, body).problem.body is None


@pytest.mark.parametrize(
    "body",
    [
        {
            "error": {
                "code": 400,
                "message": "request (5127 tokens) exceeds the available context size (4096 tokens)",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 5127,
                "n_ctx": 4096,
            }
        },
        messages_error("invalid_request_error", "the request exceeds the available context size"),
    ],
)
def test_an_overflow_is_reworded_so_that_claude_code_compacts(body: Any) -> None:
    problem = relayed(400, body).problem
    assert problem.body is None
    assert problem.message.startswith("prompt is too long")
    assert (problem.kind, problem.status) == ("invalid_request_error", 400)


def test_a_text_that_would_make_claude_code_ask_to_log_in_is_converted() -> None:
    problem = relayed(401, messages_error("authentication_error", "invalid x-api-key")).problem
    assert (problem.kind, problem.status, problem.body) == ("authentication_error", 401, None)
    assert problem.message.startswith("The provider rejected the API key.")
    assert "x-api-key" not in problem.message
