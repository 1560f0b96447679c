"""Tests of the classification of provider errors: cause, message and time to wait."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy.convert.errors.causes import Cause
from ccproxy.convert.errors.classify import (
    AttemptInfo,
    classify_error,
    classify_event,
    is_error_body,
)
from ccproxy.errors import STATUS_OF_KIND
from ccproxy.providers.quirks import Quirks

PLAIN = Quirks()
QUOTA_IS_RATE = Quirks(quota_means_rate=True)
NOW = 1_700_000_000.0


def openai(message, *, type="invalid_request_error", code=None, **more):  # noqa: A002 - its name
    return {"error": {"message": message, "type": type, "param": None, "code": code, **more}}


def flat(message, **more):
    return {"object": "error", "message": message, **more}


def google(message, code, status, *details):
    error = {"code": code, "message": message, "status": status, "details": list(details)}
    return [{"error": error}]


def read(status, body, *, headers=None, quirks=PLAIN, **more):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return classify_error(status, headers or {}, data, quirks=quirks, **more)


# What is meant, provider by provider.

OVERFLOW = [
    pytest.param(
        429,
        openai(
            "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit "
            "30000, Requested 40000. The input or output tokens must be reduced.",
            type="tokens",
            code="rate_limit_exceeded",
        ),
        "40000 tokens > 30000 maximum",
        id="OpenAI: one request is over the limit of a minute",
    ),
    pytest.param(
        413,
        openai(
            "Request body too large for gpt-4o model. Max size: 8000 tokens.",
            code="tokens_limit_reached",
        ),
        "limit is 8000 tokens",
        id="GitHub Models",
    ),
    pytest.param(
        400,
        openai(
            "This model's maximum context length is 128000 tokens. However, your messages resulted "
            "in 130123 tokens. Please reduce the length of the messages.",
            code="context_length_exceeded",
        ),
        "130123 tokens > 128000 maximum",
        id="OpenAI",
    ),
    pytest.param(
        400,
        openai(
            "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in "
            "301456 tokens. Please reduce the length of the messages.",
            code="context_length_exceeded",
        ),
        "301456 tokens > 272000 maximum",
        id="OpenAI gpt-5",
    ),
    pytest.param(
        400,
        openai(
            "This model's maximum context length is 8192 tokens. However, you requested "
            "10000 tokens "
            "(8500 in the messages, 500 in the functions, and 1000 in the completion).",
            code="context_length_exceeded",
        ),
        "9000 tokens > 8192 maximum",
        id="OpenAI with functions",
    ),
    pytest.param(
        400,
        flat(
            "This model's maximum context length is 16384 tokens. However, you requested 122946 "
            "tokens (112946 in the messages, 10000 in the completion). Please reduce the length.",
            code=400,
        ),
        "112946 tokens > 16384 maximum",
        id="vLLM, flat",
    ),
    pytest.param(
        400,
        openai(
            "This model's maximum context length is 32768 tokens. However, your request has 40000 "
            "input tokens. Please reduce the length of the input messages.",
            code=400,
        ),
        "40000 tokens > 32768 maximum",
        id="vLLM, nested",
    ),
    pytest.param(
        400,
        openai(
            "You passed 24577 input tokens and requested 8192 output tokens. However, the model's "
            "context length is only 32768 tokens, resulting in a maximum input length of 24576.",
        ),
        "at least 24577 tokens and 8192 of output > 32768",
        id="vLLM 0.16 stops counting at the limit",
    ),
    pytest.param(
        400,
        flat(
            "The input (40000 tokens) is longer than the model's context length (32768 tokens).",
            code=400,
        ),
        "40000 tokens > 32768 maximum",
        id="SGLang",
    ),
    pytest.param(
        400,
        flat(
            "Requested token count exceeds the model's maximum context length of 32768 tokens. You "
            "requested a total of 50000 tokens: 41808 tokens from the input messages and 8192 "
            "tokens for the completion.",
        ),
        "41808 tokens > 32768 maximum",
        id="SGLang, counted",
    ),
    pytest.param(
        400,
        openai(
            "the request exceeds the available context size, try increasing it",
            type="exceed_context_size_error",
            n_prompt_tokens=14429,
            n_ctx=8192,
        ),
        "14429 tokens > 8192 maximum",
        id="llama.cpp",
    ),
    pytest.param(
        500,
        openai("request (131168 tokens) exceeds the available context size (131072 tokens)"),
        "131168 tokens > 131072 maximum",
        id="llama.cpp, an older one with a 500",
    ),
    pytest.param(
        400,
        {
            "error": "Trying to keep the first 111490 tokens when context the overflows. However, "
            "the model is loaded with context length of only 32768 tokens, which is not enough."
        },
        "111490 tokens > 32768 maximum",
        id="LM Studio",
    ),
    pytest.param(
        400,
        openai(
            "Invalid request: Your request exceeded model token limit: 262144 (requested: 269030)"
        ),
        "269030 tokens > 262144 maximum",
        id="Kimi",
    ),
    pytest.param(
        400, openai("Input token length too long"), "for this model", id="Kimi, no numbers"
    ),
    pytest.param(
        400,
        openai("Prompt exceeds max length", code="1261"),
        "for this model",
        id="Z.ai",
    ),
    pytest.param(
        400, openai("Prompt 超长", code="1261"), "for this model", id="BigModel in Chinese"
    ),
    pytest.param(
        400,
        {
            "type": "error",
            "error": {
                "type": "bad_request_error",
                "message": "invalid params, context window exceeds limit (2013)",
                "http_code": "400",
            },
        },
        "for this model",
        id="MiniMax, whose 2013 is not a number of tokens",
    ),
    pytest.param(
        400,
        google(
            "The input token count (1200000) exceeds the maximum number of tokens allowed "
            "(1048576).",
            400,
            "INVALID_ARGUMENT",
        ),
        "1200000 tokens > 1048576 maximum",
        id="Gemini",
    ),
    pytest.param(
        400,
        google(
            "The input token count exceeds the maximum number of tokens allowed 1048576.",
            400,
            "INVALID_ARGUMENT",
        ),
        "the provider's limit is 1048576 tokens",
        id="Gemini names the limit only",
    ),
    pytest.param(
        400,
        openai("Range of input length should be [1, 129024]", code="invalid_parameter_error"),
        "the provider's limit is 129024 tokens",
        id="Qwen names the limit only",
    ),
    pytest.param(
        400,
        {
            "error": {
                "code": 400,
                "message": "This endpoint's maximum context length is 262144 tokens. However, you "
                "requested about 300000 tokens (270000 of text input, 10000 of tool input, "
                "20000 in "
                "the output). Please reduce the length of either one.",
            }
        },
        "280000 tokens > 262144 maximum",
        id="OpenRouter",
    ),
    pytest.param(
        400,
        {
            "error": {
                "code": 400,
                "message": "Provider returned error",
                "metadata": {
                    "raw": '{"error":{"message":"prompt is too long: 210000 tokens > '
                    '200000 maximum"}}'
                },
            }
        },
        "210000 tokens > 200000 maximum",
        id="OpenRouter relays the raw error",
    ),
    pytest.param(
        400,
        {
            "message": "Please reduce the length of the messages or completion. Current length is "
            "69553 while limit is 65536",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        },
        "69553 tokens > 65536 maximum",
        id="Cerebras",
    ),
    pytest.param(
        413,
        openai(
            "Request too large for model `x` in organization `o` on tokens per minute (TPM): Limit "
            "6000, Requested 7001, please reduce your message size and try again.",
            type="tokens",
            code="rate_limit_exceeded",
        ),
        "7001 tokens > 6000 maximum",
        id="Groq: one request over the limit of a minute",
    ),
    pytest.param(
        400,
        flat(
            "Prompt contains 140000 tokens and 0 draft tokens, too large for model with 131072 "
            "maximum context length",
            type="invalid_request_prompt",
            code="3051",
        ),
        "140000 tokens > 131072 maximum",
        id="Mistral",
    ),
    pytest.param(
        400,
        {
            "code": "Client specified an invalid argument",
            "error": "This model's maximum prompt length is 131072 but the request contains 140001 "
            "tokens.",
        },
        "140001 tokens > 131072 maximum",
        id="xAI",
    ),
    pytest.param(
        400,
        openai(
            "prompt token count of 74490 exceeds the limit of 72000",
            code="model_max_prompt_tokens_exceeded",
        ),
        "74490 tokens > 72000 maximum",
        id="Copilot",
    ),
    pytest.param(
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8192. "
            "Given: 9000 `inputs` tokens and 100 `max_new_tokens`"
        },
        "9000 tokens > 8192 maximum",
        id="TGI",
    ),
    pytest.param(
        413,
        openai("length of prompt_tokens (40000) must be less than max_seq_len (32768)."),
        "40000 tokens > 32768 maximum",
        id="SiliconFlow",
    ),
    pytest.param(
        400,
        {
            "error": {
                "message": "litellm.ContextWindowExceededError: litellm.BadRequestError: maximum "
                "context length is 8192 tokens. However, your messages resulted in 9000 tokens",
                "type": None,
                "code": "400",
            }
        },
        "9000 tokens > 8192 maximum",
        id="a LiteLLM proxy",
    ),
    pytest.param(
        400,
        openai("prompt is too long: 208310 tokens > 200000 maximum"),
        "208310 tokens > 200000 maximum",
        id="Anthropic",
    ),
    pytest.param(
        400,
        openai(
            "maximum context length is 128,000 tokens. However, your messages resulted in "
            "130,123 tokens"
        ),
        "130123 tokens > 128000 maximum",
        id="thousands are set apart",
    ),
]


@pytest.mark.parametrize(("status", "body", "numbers"), OVERFLOW)
def test_too_long(status, body, numbers):
    error = read(status, body)
    assert error.cause is Cause.OVERFLOW
    assert (error.problem.kind, error.problem.status) == ("invalid_request_error", 400)
    assert error.problem.message.startswith("prompt is too long")
    assert numbers in error.problem.message.partition(". The provider's message: ")[0]


@pytest.mark.parametrize(("status", "body", "numbers"), OVERFLOW)
def test_too_long_is_told_inside_a_stream_as_well(status, body, numbers):
    if isinstance(body, dict) and "error" not in body:
        body = {"error": body}
    error = classify_event(json.dumps(body).encode(), quirks=PLAIN)
    assert error is not None
    assert error.cause is Cause.OVERFLOW
    assert numbers in error.problem.message


@pytest.mark.parametrize(
    ("message", "max_tokens", "expected"),
    [
        pytest.param(
            "This model's maximum context length is 102400 tokens. However, you requested 107837 "
            "tokens (99645 in the messages, 8192 in the completion). Please reduce the length",
            8192,
            "99645 + 8192 > 102400",
            id="DeepSeek",
        ),
        pytest.param(
            "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum "
            "context length is 32768 tokens and your request has 1200 input tokens (32000 > 32768 "
            "- 1200).",
            None,
            "1200 + 32000 > 32768",
            id="vLLM",
        ),
        pytest.param(
            "You passed 30000 input tokens and requested 8192 output tokens. However, the model's "
            "context length is only 32768 tokens",
            None,
            "30000 + 8192 > 32768",
            id="vLLM 0.16, really counted",
        ),
        pytest.param(
            "maximum context length is 32768 tokens. However, your messages resulted in "
            "30000 tokens",
            8000,
            "30000 + 8000 > 32768",
            id="only the request has the number",
        ),
        pytest.param(
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease",
            None,
            "190000 + 20000 > 200000",
            id="Anthropic",
        ),
    ],
)
def test_a_prompt_that_fits_alone_asks_for_fewer_max_tokens(message, max_tokens, expected):
    error = read(400, openai(message), max_tokens=max_tokens)
    assert error.cause is Cause.OVERFLOW
    assert error.problem.message.startswith(
        f"input length and `max_tokens` exceed context limit: {expected}, decrease input length or "
        "`max_tokens` and try again"
    )


def test_a_prompt_that_fits_alone_with_no_max_tokens_known_invents_nothing():
    text = "maximum context length is 32768 tokens. However, your messages resulted in 30000 tokens"
    message = read(400, openai(text)).problem.message
    assert message.startswith("prompt is too long: the provider's limit is 32768 tokens.")


MONEY = [
    pytest.param(
        403,
        {
            "code": "The caller does not have permission to execute the specified operation",
            "error": "Your newly created team doesn't have any credits or licenses yet.",
        },
        id="xAI says 403",
    ),
    pytest.param(
        403,
        openai(
            "The free tier of the model has been exhausted.", code="AllocationQuota.FreeTierOnly"
        ),
        id="Qwen's free tier",
    ),
    pytest.param(
        403,
        {"code": 30001, "message": "Sorry, your account balance is insufficient"},
        id="SiliconFlow",
    ),
    pytest.param(
        403,
        openai("用户额度不足, 剩余额度: ＄0.00", code="insufficient_user_quota"),
        id="new-api",
    ),
    pytest.param(
        400,
        openai("Budget has been exceeded! Current cost: 1", type="budget_exceeded"),
        id="LiteLLM",
    ),
    pytest.param(402, openai("Insufficient Balance", type="unknown_error"), id="DeepSeek"),
    pytest.param(
        429,
        openai(
            "You exceeded your current quota, please check your plan and billing details.",
            type="insufficient_quota",
            code="insufficient_quota",
        ),
        id="OpenAI says 429",
    ),
    pytest.param(
        429,
        openai(
            "Your account is suspended due to insufficient balance",
            type="exceeded_current_quota_error",
        ),
        id="Kimi says 429",
    ),
    pytest.param(403, openai("insufficient balance"), id="Kimi says 403"),
    pytest.param(
        403,
        openai("You've reached your usage limit for this billing cycle."),
        id="Kimi Code answers 403",
    ),
    pytest.param(429, openai("余额不足或无可用资源包,请充值。", code="1113"), id="Z.ai says 429"),
    pytest.param(
        200,
        {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
        id="MiniMax says 200",
    ),
    pytest.param(
        400,
        openai(
            "Access denied, please make sure your account is in good standing.", code="Arrearage"
        ),
        id="Qwen says 400",
    ),
    pytest.param(
        403,
        openai(
            "The request failed because your account has an overdue balance.",
            code="AccountOverdueError",
        ),
        id="Doubao says 403",
    ),
    pytest.param(
        402,
        {
            "error": {
                "code": 402,
                "message": "This request requires more credits, or fewer max_tokens.",
            }
        },
        id="OpenRouter",
    ),
    pytest.param(
        200, {"error": {"code": 402, "message": "Insufficient credits"}}, id="OpenRouter in a 200"
    ),
    pytest.param(
        429,
        {
            "code": "Some resource has been exhausted",
            "error": "Your team has either used all available credits or reached its monthly "
            "spending limit.",
        },
        id="xAI says 429",
    ),
    pytest.param(
        403,
        {"code": "permission-denied", "error": "Your team doesn't have enough credits."},
        id="xAI says 403",
    ),
    pytest.param(402, b"You have no quota", id="Copilot in plain text"),
    pytest.param(
        400,
        openai("Your credit balance is too low to access the Anthropic API."),
        id="Anthropic says 400",
    ),
    pytest.param(402, b"", id="a bare 402"),
]


@pytest.mark.parametrize(("status", "body"), MONEY)
def test_no_money(status, body):
    error = read(status, body)
    assert error.cause is Cause.OUT_OF_CREDIT
    assert (error.problem.kind, error.problem.status) == ("billing_error", 402)
    assert error.problem.should_retry is False
    assert error.problem.retry_after is None


BAD_KEY = [
    pytest.param(
        401, openai("Incorrect API key provided: sk-abc.", code="invalid_api_key"), id="OpenAI"
    ),
    pytest.param(
        401, {"statusCode": 401, "message": "Unauthorized. Access token is missing"}, id="Azure"
    ),
    pytest.param(
        401, openai("Invalid Authentication", type="invalid_authentication_error"), id="Kimi"
    ),
    pytest.param(401, openai("令牌已过期或验证不正确", code="1002"), id="Z.ai"),
    pytest.param(
        200,
        {"base_resp": {"status_code": 1004, "status_msg": "login fail"}},
        id="MiniMax says 200",
    ),
    pytest.param(
        200,
        {"base_resp": {"status_code": 2049, "status_msg": "invalid api key"}},
        id="MiniMax, the other code",
    ),
    pytest.param(
        400,
        google(
            "API key not valid. Please pass a valid API key.",
            400,
            "INVALID_ARGUMENT",
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"},
        ),
        id="Gemini answers 400 in an array",
    ),
    pytest.param(
        400,
        {
            "code": "Client specified an invalid argument",
            "error": "Incorrect API key provided: gs***tF.",
        },
        id="xAI says 400",
    ),
    pytest.param(401, {"message": "Wrong API Key", "code": "wrong_api_key"}, id="Cerebras"),
    pytest.param(401, {"detail": "Unauthorized"}, id="Mistral"),
    pytest.param(
        403, openai("This API key has been revoked."), id="a revoked key is not a permission"
    ),
    pytest.param(403, openai("Your account has been suspended."), id="a suspended account"),
    pytest.param(401, b"", id="a bare 401"),
]


@pytest.mark.parametrize(("status", "body"), BAD_KEY)
def test_bad_key(status, body):
    error = read(status, body)
    assert error.cause is Cause.BAD_KEY
    assert (error.problem.kind, error.problem.status) == ("authentication_error", 401)
    assert error.problem.should_retry is False


OVERLOAD = [
    pytest.param(
        503,
        openai(
            "Too many requests. Your requests are being throttled due to system capacity limits.",
            code="ServiceUnavailable",
        ),
        id="Qwen: a 503 is no limit of the key's",
    ),
    pytest.param(500, openai("当前分组上游负载已饱和，请稍后再试"), id="new-api"),
    pytest.param(
        503,
        openai("Service is too busy. We advise users to switch.", type="service_unavailable_error"),
        id="DeepSeek",
    ),
    pytest.param(
        429,
        openai(
            "The engine is currently overloaded, please try again later",
            type="engine_overloaded_error",
        ),
        id="Kimi says 429",
    ),
    pytest.param(
        429, openai("The service may be temporarily overloaded", code="1305"), id="Z.ai says 429"
    ),
    pytest.param(
        200,
        {"base_resp": {"status_code": 1000, "status_msg": "unknown error"}},
        id="MiniMax says 200",
    ),
    pytest.param(
        503,
        google("The model is overloaded. Please try again later.", 503, "UNAVAILABLE"),
        id="Gemini",
    ),
    pytest.param(
        429,
        {"message": "We're experiencing high traffic right now!", "code": "queue_exceeded"},
        id="Cerebras says 429",
    ),
    pytest.param(
        498, openai("Flex tier capacity exceeded", code="capacity_exceeded"), id="Groq says 498"
    ),
    pytest.param(
        529,
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        id="Anthropic",
    ),
    pytest.param(
        200,
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        id="Anthropic in a stream",
    ),
    pytest.param(503, openai("No provider is available"), id="OpenRouter"),
]


@pytest.mark.parametrize(("status", "body"), OVERLOAD)
def test_overload(status, body):
    error = read(status, body)
    assert error.cause is Cause.OVERLOAD
    assert (error.problem.kind, error.problem.status) == ("overloaded_error", 529)
    assert error.problem.should_retry is None


RATE = [
    pytest.param(
        429,
        openai(
            "Rate limit reached. Please try again in 20s.",
            type="requests",
            code="rate_limit_exceeded",
        ),
        20,
        id="OpenAI",
    ),
    pytest.param(
        429, openai("Rate limit reached. Please try again in 7.66s.", type="tokens"), 8, id="Groq"
    ),
    pytest.param(
        429,
        openai(
            "request reached max RPM, please try again after 1 seconds",
            type="rate_limit_reached_error",
        ),
        1,
        id="Kimi",
    ),
    pytest.param(429, openai("Rate limit reached for requests", code="1302"), None, id="Z.ai"),
    pytest.param(
        200,
        {"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
        None,
        id="MiniMax says 200",
    ),
    pytest.param(
        429,
        google(
            "You exceeded your current quota. Please retry in 34.07s.",
            429,
            "RESOURCE_EXHAUSTED",
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"},
        ),
        34,
        id="Gemini's quota is a rate if it has a delay",
    ),
    pytest.param(
        429,
        {"errors": {"message": "Request limit exceeded.", "request_id": "30"}},
        None,
        id="ModelScope",
    ),
    pytest.param(429, {"status": 429, "title": "Too Many Requests"}, None, id="NVIDIA"),
    pytest.param(
        200,
        {
            "error": {
                "code": 429,
                "message": "Provider returned error",
                "metadata": {"raw": "too many"},
            }
        },
        None,
        id="OpenRouter says 200",
    ),
    pytest.param(
        429,
        openai(
            "Requests rate limit exceeded, please try again later.", code="Throttling.RateQuota"
        ),
        None,
        id="Qwen",
    ),
    pytest.param(
        429,
        openai("...", type="TooManyRequests", code="RateLimitExceeded.EndpointRPMExceeded"),
        None,
        id="Doubao",
    ),
    pytest.param(429, b"rate limited", None, id="Copilot in plain text"),
    pytest.param(429, b"", None, id="a bare 429"),
]


@pytest.mark.parametrize(("status", "body", "wait"), RATE)
def test_rate_limit(status, body, wait):
    error = read(status, body)
    assert error.cause is Cause.RATE_LIMIT
    assert (error.problem.kind, error.problem.status) == ("rate_limit_error", 429)
    assert error.problem.retry_after == wait


@pytest.mark.parametrize(
    "body",
    [
        openai(
            "You exceeded your current quota, please check your plan.", code="insufficient_quota"
        ),
        openai("You exceeded your current quota"),
    ],
    ids=["by code", "by words"],
)
def test_a_quirk_decides_what_a_quota_is(body):
    assert read(429, body).cause is Cause.OUT_OF_CREDIT
    assert read(429, body, quirks=QUOTA_IS_RATE).cause is Cause.RATE_LIMIT


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            openai("Usage limit reached for 5 hour. Your limit will reset at 13:00", code="1308"),
            id="Z.ai",
        ),
        pytest.param(
            {"error": {"message": "you have reached your session usage limit"}}, id="Ollama's cloud"
        ),
        pytest.param(openai("Daily request limit reached"), id="per day"),
    ],
)
def test_a_plan_that_is_used_up_is_no_use_to_repeat(body):
    error = read(429, body)
    assert error.cause is Cause.QUOTA
    assert (error.problem.kind, error.problem.status) == ("rate_limit_error", 429)
    assert error.problem.should_retry is False


REST = [
    pytest.param(403, openai("no"), Cause.PERMISSION, "permission_error", 403, id="403"),
    pytest.param(404, openai("no model"), Cause.NOT_FOUND, "not_found_error", 404, id="404"),
    pytest.param(
        400,
        openai("Model Not Exist"),
        Cause.NOT_FOUND,
        "not_found_error",
        404,
        id="DeepSeek says 400",
    ),
    pytest.param(413, b"<html>413</html>", Cause.TOO_LARGE, "request_too_large", 413, id="413"),
    pytest.param(408, openai("slow"), Cause.TIMEOUT, "timeout_error", 504, id="408"),
    pytest.param(504, b"", Cause.GATEWAY_TIMEOUT, "timeout_error", 504, id="504"),
    pytest.param(
        524, b"<html></html>", Cause.GATEWAY_TIMEOUT, "timeout_error", 504, id="Cloudflare's 524"
    ),
    pytest.param(409, openai("again"), Cause.CONFLICT, "conflict_error", 409, id="409"),
    pytest.param(422, openai("no"), Cause.BAD_REQUEST, "invalid_request_error", 400, id="422"),
    pytest.param(405, b"", Cause.BAD_REQUEST, "invalid_request_error", 400, id="405"),
    pytest.param(
        400,
        openai("Sensitive", code="1301"),
        Cause.CONTENT,
        "invalid_request_error",
        400,
        id="content",
    ),
    pytest.param(
        400,
        openai("x", code="InputTextSensitiveContentDetected"),
        Cause.CONTENT,
        "invalid_request_error",
        400,
        id="Doubao's content",
    ),
    pytest.param(500, openai("oops"), Cause.SERVER, "api_error", 500, id="500"),
    pytest.param(
        502, b"<html>Bad Gateway</html>", Cause.SERVER, "api_error", 502, id="502 in HTML"
    ),
    pytest.param(503, b"<html>nginx</html>", Cause.SERVER, "api_error", 503, id="503 in HTML"),
    pytest.param(500, b"", Cause.SERVER, "api_error", 500, id="nothing"),
    pytest.param(520, b"", Cause.SERVER, "api_error", 502, id="Cloudflare's 520"),
    pytest.param(302, b"", Cause.WRONG_URL, "api_error", 502, id="a redirect"),
    pytest.param(200, b"<html>login</html>", Cause.WRONG_URL, "api_error", 502, id="HTML in a 200"),
    pytest.param(
        500,
        openai("max_tokens is too large: 128000. This model supports at most 16384"),
        Cause.SERVER,
        "api_error",
        500,
        id="max_tokens alone is no overflow",
    ),
    pytest.param(
        400,
        openai("Range of max_tokens should be [1, 8192]"),
        Cause.BAD_REQUEST,
        "invalid_request_error",
        400,
        id="a range of max_tokens is no overflow",
    ),
    pytest.param(
        400,
        openai("The engine you asked for is overloaded with options"),
        Cause.BAD_REQUEST,
        "invalid_request_error",
        400,
        id="a 400 is never an overload",
    ),
    pytest.param(
        400,
        {"base_resp": {"status_code": 2013, "status_msg": "invalid params"}},
        Cause.BAD_REQUEST,
        "invalid_request_error",
        400,
        id="MiniMax's 2013 alone has no meaning",
    ),
]


@pytest.mark.parametrize(("status", "body", "cause", "kind", "expected"), REST)
def test_the_status_decides_the_rest(status, body, cause, kind, expected):
    error = read(status, body)
    assert (error.cause, error.problem.kind, error.problem.status) == (cause, kind, expected)


# The text for the client.


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (400, openai("Unsupported value: 'temperature'"), "Unsupported value: 'temperature'"),
        (400, {"error": "just text"}, "just text"),
        (400, {"code": "c", "error": "text next to a code"}, "text next to a code"),
        (400, [{"error": {"message": "in an array"}}], "in an array"),
        (400, flat("flat"), "flat"),
        (400, {"message": "flatter", "type": "t", "param": "p", "code": "c"}, "flatter"),
        (
            422,
            {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "stream_options"],
                        "msg": "Extra inputs are not permitted",
                    }
                ]
            },
            "Extra inputs are not permitted (body.stream_options)",
        ),
        (400, {"detail": "detail as text"}, "detail as text"),
        (400, {"errors": {"message": "plural"}}, "plural"),
        (400, {"errors": ["plural", "list"]}, "plural: list"),
        (400, {"status": 400, "title": "a title"}, "a title"),
        (400, {"status": 400, "title": "Bad Request", "detail": "more"}, "more"),
        (400, {"statusCode": 400, "message": "Azure"}, "Azure"),
        (400, {"base_resp": {"status_code": 2013, "status_msg": "base"}}, "base"),
        (400, {"error": {"message": '{"error": {"message": "inner"}}'}}, ": inner"),
        (400, {"odd": "thing"}, '{"odd": "thing"}'),
        (400, b"plain text", "plain text"),
        (
            502,
            b"<html><head><title>Bad</title></head><body>Gate <b>way</b></body></html>",
            "Bad Gate way",
        ),
        (400, b"", "(empty body)"),
        (400, b'{"broken', '{"broken'),
        (400, b'{"message": "half \xff utf-8"}', "half"),
    ],
)
def test_the_providers_text_is_kept_in_every_form(status, body, text):
    message = read(status, body).problem.message
    assert text in message
    assert not message.startswith(text)


@pytest.mark.parametrize(
    ("status", "body", "hint"),
    [
        (401, openai("x"), "rejected the API key"),
        (402, openai("x"), "Out of credit"),
        (429, openai("x"), "rate limit was hit"),
        (404, openai("no model x"), "does not have this model"),
        (404, openai("x"), "no such path"),
        (403, openai("Country, region, or territory not supported"), "does not serve this country"),
        (
            403,
            openai("x", code="unsupported_country_region_territory"),
            "does not serve this country",
        ),
        (400, google("User location is not supported", 400, "FAILED_PRECONDITION"), "country"),
        (502, b"<html></html>", "did not answer with JSON"),
        (502, b"Bad gateway", "The provider had an internal error"),
        (200, b"{{{{", "did not answer with JSON. Check PROVIDER_BASE_URL"),
        (200, b"null", "did not answer with JSON. Check PROVIDER_BASE_URL"),
        (200, b"it works!", "did not answer with JSON. Check PROVIDER_BASE_URL"),
        (200, b"[1]", "did not answer with JSON. Check PROVIDER_BASE_URL"),
        (200, {"detail": "boom"}, "The provider had an internal error"),
        (200, [{"error": {"message": "boom"}}], "The provider had an internal error"),
        (200, b"Rate limit exceeded", "rate limit was hit"),
        (307, b"", "redirects"),
        (503, openai("x"), "overloaded"),
    ],
)
def test_a_hint_comes_first(status, body, hint):
    assert hint in read(status, body).problem.message.partition(":")[0]


def test_escapes_for_terminals_are_taken_out():
    message = read(400, openai("red \x1b[31malert\x07")).problem.message
    assert "\x1b" not in message
    assert "\x07" not in message
    assert "alert" in message


def test_an_endless_text_is_cut():
    message = read(400, openai("x" * 100_000)).problem.message
    assert len(message) < 2200
    assert message.endswith("…")


@pytest.mark.parametrize(
    "echo",
    [
        "sk-secret-1234567890abcd",
        "sk-secret-12345***",
        "Bearer sk-secret-1234567890abcd.",
        "x=67890abcd",
    ],
)
def test_a_key_is_never_told(echo):
    key = "sk-secret-1234567890abcd"
    message = read(401, openai(f"Wrong key: {echo} sorry"), secrets=(key,)).problem.message
    assert not any(key[at : at + 8] in message for at in range(len(key) - 7))
    assert "…abcd" in message
    assert "sorry" in message


def test_short_secrets_do_not_eat_words():
    message = read(401, openai("ollama is a fine key"), secrets=("ollama",)).problem.message
    assert "ollama is a fine key" in message


# How long.


@pytest.mark.parametrize(
    ("headers", "wait", "expected"),
    [
        pytest.param({"Retry-After": "20"}, 20.0, 20, id="an int"),
        pytest.param({"retry-after": "1.5"}, 1.5, 2, id="a float is rounded up for the client"),
        pytest.param({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0, 30, id="an HTTP date"),
        pytest.param(
            {"retry-after": "Tue, 14 Nov 2023 22:13:00 GMT"}, 0.0, 0, id="a date that is past"
        ),
        pytest.param({"retry-after-ms": "350", "retry-after": "9"}, 0.35, 1, id="milliseconds win"),
        pytest.param(
            {"anthropic-ratelimit-requests-reset": "2023-11-14T22:13:35Z"},
            15.0,
            15,
            id="Anthropic's reset",
        ),
        pytest.param(
            {
                "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:22Z",
                "anthropic-ratelimit-requests-remaining": "7",
                "anthropic-ratelimit-tokens-reset": "2023-11-14T22:14:20+00:00",
                "anthropic-ratelimit-tokens-remaining": "0",
            },
            60.0,
            60,
            id="the limit that is used up counts",
        ),
        pytest.param({"x-ratelimit-reset-requests": "6m0s"}, 360.0, 360, id="OpenAI's reset"),
        pytest.param(
            {
                "x-ratelimit-reset-requests": "8.64s",
                "x-ratelimit-remaining-requests": "10",
                "x-ratelimit-reset-tokens": "12ms",
                "x-ratelimit-remaining-tokens": "0",
            },
            0.012,
            1,
            id="OpenAI's tokens are used up",
        ),
        pytest.param({"x-ratelimit-reset": "1700000012"}, 12.0, 12, id="a moment in seconds"),
        pytest.param(
            {"x-ratelimit-reset": "1700000012000"}, 12.0, 12, id="a moment in milliseconds"
        ),
        pytest.param({"x-ratelimit-reset": "44"}, 44.0, 44, id="a number of seconds"),
        pytest.param({"retry-after": "soon"}, None, None, id="nonsense"),
        pytest.param({"retry-after": "-5"}, None, None, id="negative"),
        pytest.param({"retry-after": "inf"}, None, None, id="infinite"),
        pytest.param({}, None, None, id="nothing"),
    ],
)
def test_the_wait_is_read_from_every_form(headers, wait, expected):
    error = read(429, openai("slow"), headers=headers, now=NOW)
    assert error.retry_after == (None if wait is None else pytest.approx(wait, abs=0.001))
    assert error.problem.retry_after == expected


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("Please try again in 7.66s", 7.66),
        ("Please try again in 1m30.5s.", 90.5),
        ("try again after 1 seconds", 1.0),
        ("Please retry in 34.074824224s.", 34.074824224),
        ("Try again in 250ms", 0.25),
        ("retry after 2 minutes", 120.0),
        ("available in 1 hour", 3600.0),
        ("try again later", None),
        ("try again in a while", None),
    ],
)
def test_the_wait_is_read_from_words(text, wait):
    assert read(429, openai(text)).retry_after == wait


def test_a_header_is_more_exact_than_words():
    error = read(429, openai("try again in 20s"), headers={"retry-after": "19"})
    assert error.retry_after == 19.0


def test_dates_need_a_clock():
    headers = {"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}
    assert read(429, openai("x"), headers=headers).retry_after is None


def test_a_reset_that_comes_with_every_answer_says_nothing_about_a_failure():
    error = read(500, openai("x"), headers={"x-ratelimit-reset-requests": "6m0s"})
    assert error.retry_after is None


@pytest.mark.parametrize(("seconds", "retry"), [("60", None), ("61", False)])
def test_what_no_client_waits_for_is_not_to_be_repeated(seconds, retry):
    problem = read(429, openai("x"), headers={"retry-after": seconds}).problem
    assert (problem.retry_after, problem.should_retry) == (int(seconds), retry)


@pytest.mark.parametrize(
    ("headers", "counts"),
    [
        ({"x-ratelimit-remaining-requests": "0"}, True),
        ({"Anthropic-RateLimit-Requests-Limit": "50"}, True),
        ({"retry-after": "3"}, False),
    ],
)
def test_headers_tell_whether_the_limit_is_the_keys(headers, counts):
    assert read(429, openai("x"), headers=headers).has_limit_headers is counts


# An error inside a 200.


@pytest.mark.parametrize(
    ("body", "is_error"),
    [
        ({"choices": [{"message": {"content": "hi"}}]}, False),
        ({"choices": [{"message": {"content": 'say "error"'}}]}, False),
        ({"choices": [{"message": {"content": "x"}}], "error": None}, False),
        ({"choices": [{"message": {"content": "x"}}], "base_resp": {"status_code": 0}}, False),
        ({"type": "message", "content": [], "usage": {}}, False),
        ({"input_tokens": 12}, False),
        ({"choices": []}, False),
        ({"error": {"message": "x"}}, True),
        ({"error": "x"}, True),
        ({"choices": [], "error": {"code": 502}}, True),
        ({"choices": None, "base_resp": {"status_code": 1008}}, True),
        ({"type": "error", "error": {"type": "overloaded_error"}}, True),
        ({"object": "error", "message": "x"}, True),
        ({"detail": "x"}, True),
        ({"errors": {"message": "x"}}, True),
        ({"message": "x", "code": "c"}, True),
        ({"message": "x", "choices": [{"message": {}}]}, False),
        ({"message": "x", "content": []}, False),
        ([{"error": {"code": 400}}], True),
        ([], False),
        ("text", False),
    ],
)
def test_an_error_body_is_known_by_its_shape(body, is_error):
    assert is_error_body(json.dumps(body).encode()) is is_error


def test_invalid_parameters_inside_a_200_are_not_worth_repeating():
    body = {"base_resp": {"status_code": 2013, "status_msg": "invalid params, bad arguments"}}
    problem = read(200, body).problem
    assert (problem.kind, problem.status) == ("invalid_request_error", 400)
    assert "bad arguments" in problem.message


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"[[[", b'{"error": '])
def test_what_is_not_json_is_no_error_body(body):
    assert is_error_body(body) is False


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        ({"choices": [{"delta": {"content": "x"}}]}, None),
        ({"choices": [{"delta": {"content": '"error"'}}]}, None),
        ({"choices": [], "error": None}, None),
        ({"choices": [], "base_resp": {"status_code": 0, "status_msg": ""}}, None),
        ({"error": {"code": 429, "message": "x"}}, Cause.RATE_LIMIT),
        (
            {"error": {"code": 502, "message": "x"}, "choices": [{"finish_reason": "error"}]},
            Cause.SERVER,
        ),
        ({"error": {"message": "odd"}}, Cause.SERVER),
        ({"choices": [{"error": {"code": 429, "message": "x"}}]}, Cause.RATE_LIMIT),
        ({"base_resp": {"status_code": 1027, "status_msg": "sensitive"}}, Cause.CONTENT),
        ({"object": "error", "message": "x", "error": "", "code": 400}, Cause.BAD_REQUEST),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, Cause.OVERLOAD),
        ([{"error": {"code": 503, "message": "x"}}], Cause.OVERLOAD),
    ],
)
def test_a_stream_event_may_be_an_error(data, cause):
    error = classify_event(json.dumps(data).encode(), quirks=PLAIN)
    assert (error.cause if error else None) is cause


@pytest.mark.parametrize("data", [b"[DONE]", b'{"error"', b'"error"', b'["error"]', b"base_resp"])
def test_an_event_that_is_no_object_is_no_error(data):
    assert classify_event(data, quirks=PLAIN) is None


def test_a_status_inside_a_200_is_the_status():
    assert read(200, {"error": {"code": 403, "message": "x"}}).status == 403
    assert read(200, {"error": {"message": "x"}}).status == 502


# Any input.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["error", "errors", "detail", "details", "message", "code", "status", "metadata",
                 "raw", "base_resp", "status_code", "loc", "choices", "type", "title", "n_ctx"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)  # fmt: skip


@given(st.integers(100, 599), JSON)
def test_any_json_is_read(status, body):
    data = json.dumps(body).encode()
    error = classify_error(status, {}, data, quirks=PLAIN)
    assert error.problem.status >= 400
    assert error.problem.kind in STATUS_OF_KIND
    assert is_error_body(data) in (True, False)
    classify_event(data, quirks=PLAIN)


@given(st.integers(100, 599), st.binary(max_size=200), st.text(max_size=30))
def test_any_bytes_are_read(status, body, header):
    error = classify_error(status, {"retry-after": header}, body, quirks=PLAIN, now=NOW)
    assert error.problem.message
    assert error.retry_after is None or error.retry_after >= 0


def test_a_bomb_of_brackets_is_read():
    body = b'{"error":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert classify_error(500, {}, body, quirks=PLAIN).cause is Cause.SERVER


# Messages that name the attempt, and errors that Claude Code acts on.


def test_a_rejected_key_is_named_with_its_proxy_and_file():
    attempt = AttemptInfo(label="Kimi-K3", key="…6666", env_file="envs/kimi.env")
    message = read(401, openai("no"), attempt=attempt).problem.message
    assert message.startswith("The provider rejected the API key …6666 of Kimi-K3. Check ")
    assert "PROVIDER_API_KEY in envs/kimi.env" in message


def test_a_rejected_key_never_asks_the_user_to_log_in():
    problem = read(401, openai("invalid X-Api-Key")).problem
    assert problem.message.endswith(" (401): invalid API key")
    assert problem.refusal.text == "invalid X-Api-Key"


def test_a_missing_balance_mentions_how_to_use_the_key_again():
    attempt = AttemptInfo(label="Kimi-K3", key="…6666")
    message = read(402, openai("no"), attempt=attempt).problem.message
    assert "key …6666" in message
    assert "ccproxy keys Kimi-K3 reset" in message


@pytest.mark.parametrize(
    "body", [{"detail": "Not Found"}, b"404 page not found", b"<html>nginx</html>", b""]
)
def test_a_404_about_the_path_names_the_url_and_is_not_retried(body):
    error = read(404, body, attempt=AttemptInfo(url="https://api.example.com/v2"))
    assert error.cause is Cause.WRONG_URL
    assert "https://api.example.com/v2" in error.problem.message
    assert (error.problem.kind, error.problem.status) == ("api_error", 502)
    assert error.problem.should_retry is False


def test_a_forward_proxy_without_a_login_names_the_setting():
    problem = read(407, b"<html>Proxy Authentication Required</html>").problem
    assert "UPSTREAM_PROXY" in problem.message
    assert problem.should_retry is False


@pytest.mark.parametrize(
    ("status", "text", "token"),
    [
        (400, "Model x does not support image input", "image_block"),
        (404, "No endpoints found that support image input", "image_block"),
        (500, "image input is not supported - hint: you need the mmproj", "image_block"),
        (400, "unknown variant `file`, expected `text`", "document_block"),
    ],
)
def test_a_refused_content_type_is_worded_for_claude_code(status, text, token):
    problem = read(status, openai(text)).problem
    assert f"capability_rejected: {token}" in problem.message
    assert (problem.kind, problem.status) == ("invalid_request_error", 400)


@pytest.mark.parametrize(
    "text",
    [
        "Jinja Exception: Conversation roles must alternate",
        "Unable to generate parser for this template",
        'JSON schema error: unresolvable "$ref"',
    ],
)
def test_a_500_that_the_same_request_causes_again_is_the_requests_fault(text):
    error = read(500, openai(text))
    assert error.cause is Cause.BAD_REQUEST
    assert (error.problem.kind, error.problem.status) == ("invalid_request_error", 400)


def test_a_tool_call_that_could_not_be_parsed_is_worth_another_attempt():
    error = read(400, openai("Failed to call a function.", code="tool_use_failed"))
    assert error.cause is Cause.SERVER
    assert error.problem.status >= 500


# Hostile bodies take time and memory linear in their size.


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<" * 200_000, id="tags that never end"),
        pytest.param(b"<script" * 30_000, id="scripts that never end"),
        pytest.param(b"[[[[" * 200 + b"1" + b"]]]]" * 200, id="nested lists"),
        pytest.param(
            json.dumps(
                {"error": [[[[{"message": f"m{n}"} for n in range(20)]] * 20] * 20]}
            ).encode(),
            id="a tree of errors",
        ),
        pytest.param(b'{"error":{"code":' + b"4" * 5000 + b"}}", id="a number of 5,000 digits"),
        pytest.param(b'{"error":{"code":"' + b"4" * 5000 + b'"}}', id="a code of 5,000 digits"),
        pytest.param(b'{"details":[' + b"{}," * 100_000 + b"{}]}", id="empty details"),
    ],
)
def test_hostile_bodies_are_classified(body):
    assert len(read(400, body).problem.message) < 2500


@pytest.mark.parametrize(
    ("message", "code", "cause"),
    [
        (
            "pre-consume quota failed, user quota: $0.10, need quota: $0.20",
            "pre_consume_token_quota_failed",
            Cause.OUT_OF_CREDIT,
        ),
        ("pre-consumed quota failed", None, Cause.OUT_OF_CREDIT),
        ("token quota is not enough, token remain quota: $0.1", None, Cause.OUT_OF_CREDIT),
        (
            "Your API key was reported as leaked. Please use another API key.",
            "PERMISSION_DENIED",
            Cause.BAD_KEY,
        ),
    ],
)
def test_a_403_about_the_key_is_no_missing_permission(message, code, cause):
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    assert classify_error(403, {}, body, quirks=Quirks()).cause is cause
