"""What the client gets when the provider refuses or fails."""

from __future__ import annotations

from typing import Any

from tests.cases.case import ABSENT, Case, has
from tests.provider import completion, failure, hang_up, raw


def openai(
    message: str, code: str | int | None = None, kind: str = "invalid_request_error"
) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


TOO_LONG = {"status": 400, "type": "invalid_request_error", "message": has("prompt is too long")}

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
    *(
        Case(
            rule=f"a refused {block} is worded for Claude Code",
            answers=(failure(400, text),),
            error={"status": 400, "message": has(f"capability_rejected: {block}_block")},
        )
        for block, text in (
            ("image", "This model does not support image input"),
            ("document", "PDF input is not supported"),
        )
    ),
    Case(
        rule="a 500 that the same request causes again is the request's fault",
        answers=(failure(500, "Jinja Exception: roles must alternate"),),
        error={"status": 400, "type": "invalid_request_error"},
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
        rule="the wait is relayed in whole seconds",
        answers=(failure(429, "Rate limit reached", retry_after=7),),
        error={"status": 429, "retry-after": "7"},
    ),
    Case(
        rule="the delay may be in the text",
        provider="openai",
        model="gpt-4o",
        answers=(failure(429, openai("Please try again in 6.2s.", "rate_limit_exceeded")),),
        error={"status": 429, "retry-after": "7"},
    ),
    *(
        Case(
            rule=f"too long, as {provider} says it",
            provider=provider,
            model=model,
            answers=(failure(status, body),),
            error=TOO_LONG,
        )
        for provider, model, status, body in (
            (
                "openai",
                "gpt-4o",
                400,
                openai(
                    "This model's maximum context length is 128000 tokens. However, your messages "
                    "resulted in 150210 tokens.",
                    "context_length_exceeded",
                ),
            ),
            (
                "kimi",
                "kimi-k2-turbo-preview",
                400,
                openai("Your request exceeded model token limit: 262144 (requested: 269030)"),
            ),
            (
                "zai",
                "glm-4.6",
                400,
                {"error": {"code": "1261", "message": "Prompt exceeds max length"}},
            ),
            (
                "llamacpp",
                "local",
                400,
                {
                    "error": {
                        "code": 400,
                        "type": "exceed_context_size_error",
                        "message": "the request exceeds the available context size",
                        "n_prompt_tokens": 5000,
                        "n_ctx": 4096,
                    }
                },
            ),
        )
    ),
    *(
        Case(
            rule=f"out of money, as {provider} says it with {status}",
            provider=provider,
            model=model,
            answers=(failure(status, body),),
            error={"status": 402, "type": "billing_error", "x-should-retry": "false"},
        )
        for provider, model, status, body in (
            (
                "openai",
                "gpt-4o",
                429,
                openai(
                    "You exceeded your current quota", "insufficient_quota", "insufficient_quota"
                ),
            ),
            ("deepseek", "deepseek-chat", 402, openai("Insufficient Balance")),
            ("zai", "glm-4.6", 429, {"error": {"code": "1113", "message": "Insufficient balance"}}),
            ("qwen", "qwen3-max", 400, openai("Access denied: overdue payment.", "Arrearage")),
        )
    ),
    Case(
        rule="Gemini refuses a key with 400",
        provider="gemini",
        model="gemini-2.5-pro",
        answers=(
            failure(
                400,
                {
                    "error": {
                        "code": 400,
                        "message": "API key not valid. Please pass a valid API key.",
                        "status": "INVALID_ARGUMENT",
                        "details": [{"reason": "API_KEY_INVALID"}],
                    }
                },
            ),
        ),
        error={"status": 401, "type": "authentication_error"},
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
        rule="a page instead of an answer is an error without its markup",
        answers=(
            raw(
                "<html><body><h1>502 Bad Gateway</h1></body></html>",
                status=502,
                headers={"Content-Type": "text/html"},
            ),
        ),
        error={"status": lambda value: value >= 500, "type": "api_error"},
    ),
    Case(
        rule="no answer at all is an error",
        answers=(hang_up(),),
        error={"status": lambda value: value >= 500, "type": "api_error"},
    ),
    # What the client itself does wrong.
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
