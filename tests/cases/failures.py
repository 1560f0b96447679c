"""
Refusals and failures of the provider, and the errors that the client gets.

`tests/convert/errors/refusals.jsonl` tests the meaning of each provider's refusals.
"""

from __future__ import annotations

from tests.cases.case import ABSENT, Case, has
from tests.provider import completion, failure, hang_up, raw

CASES = (
    *(
        Case(
            rule=f"{status} is {kind}",
            answers=(failure(status, "The model's own words"),),
            error={"status": answered, "type": kind, "message": has("The model's own words")},
        )
        for status, answered, kind in (
            (400, 400, "invalid_request_error"),
            (401, 401, "authentication_error"),
            (402, 402, "billing_error"),
            (403, 403, "permission_error"),
            (404, 404, "not_found_error"),
            (413, 413, "request_too_large"),
            (422, 400, "invalid_request_error"),
            (429, 429, "rate_limit_error"),
        )
    ),
    Case(
        rule="an account that may not stream gets the answer whole",
        provider="openai",
        answers=(
            failure(400, "Your organization must be verified to stream this model."),
            completion("Hi"),
        ),
        ways=(True,),
        message={"content.0.text": "Hi", "stop_reason": "end_turn"},
    ),
    Case(
        rule="a 404 that names no model is about the base URL",
        answers=(failure(404, "Not Found"),),
        error={"status": 502, "x-should-retry": "false", "message": has("PROVIDER_BASE_URL")},
    ),
    Case(
        rule="a failing provider is an api_error",
        answers=(failure(500, "Internal trouble"),),
        error={
            "status": lambda value: 500 <= value < 600,
            "type": "api_error",
            "message": has("Internal trouble"),
        },
    ),
    Case(
        rule="a busy provider is overloaded",
        answers=(failure(503, "The engine is currently overloaded"),),
        error={"status": 529, "type": "overloaded_error"},
    ),
    Case(
        rule="an overflow is worded for Claude Code",
        answers=(failure(400, "This model's maximum context length is 8192 tokens."),),
        error={"status": 400, "message": has("prompt is too long")},
    ),
    Case(
        rule="the wait is relayed in whole seconds",
        answers=(failure(429, "Rate limit reached", retry_after=7),),
        error={"status": 429, "retry-after": "7"},
    ),
    Case(
        rule="MiniMax refuses with 200",
        provider="minimax",
        model="MiniMax-M2",
        answers=(raw('{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}'),),
        error={"status": 402, "type": "billing_error"},
    ),
    Case(
        rule="OpenRouter fails with 200",
        provider="openrouter",
        model="x/y",
        ways=(False,),
        answers=(raw('{"error":{"code":429,"message":"Rate limited","metadata":{}}}'),),
        error={"status": 429, "type": "rate_limit_error"},
    ),
    Case(
        rule="no answer at all is an error",
        answers=(hang_up(),),
        error={"status": lambda value: value >= 500, "type": "api_error"},
    ),
    # Invalid requests of the client.
    Case(
        rule="max_tokens is required",
        request={"max_tokens": None},
        error={"status": 400, "type": "invalid_request_error", "message": has("max_tokens")},
    ),
    Case(
        rule="messages are required",
        request={"messages": "hello"},
        error={"status": 400, "type": "invalid_request_error", "message": has("messages")},
    ),
    Case(
        rule="an answer carries no Retry-After without a reason",
        answers=(failure(400, "no"),),
        error={"status": 400, "retry-after": ABSENT},
    ),
)
