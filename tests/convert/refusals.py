"""
Refusals as providers word them, told apart: some two hundred bodies, each with what it means.

Bad key, no money, rate limit, overload, too long, and what else each of them is known to say. The
texts are the vendors' own, from their error pages and from captures in public issues. A row is:
provider, status, body, headers, cause, and the seconds that the client is told to wait.
"""

from __future__ import annotations

from typing import Any

import pytest

from ccproxy.convert.errors.causes import Cause


def openai(message: str, *, kind: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def minimax(code: int, message: str) -> dict[str, Any]:
    return {"id": "x", "choices": None, "base_resp": {"status_code": code, "status_msg": message}}


OPENAI = [
    pytest.param(
        "openai",
        401,
        openai(
            "Incorrect API key provided: sk-abc.",
            kind="invalid_request_error",
            code="invalid_api_key",
        ),
        {},
        Cause.BAD_KEY,
        None,
        id="openai: bad",
    ),
    pytest.param(
        "openai",
        403,
        openai(
            "Country, region, or territory not supported",
            kind="request_forbidden",
            code="unsupported_country_region_territory",
        ),
        {},
        Cause.PERMISSION,
        None,
        id="openai: region",
    ),
    pytest.param(
        "openai",
        429,
        openai(
            ("You exceeded your current quota, please check your plan and billing details."),
            kind="insufficient_quota",
            code="insufficient_quota",
        ),
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="openai: money",
    ),
    pytest.param(
        "openai",
        429,
        openai(
            (
                "Rate limit reached for gpt-4 in organization org-x on tokens "
                "per min (TPM): Limit 10000, Used 9000, Requested 2000. Please "
                "try again in 6m0s."
            ),
            kind="tokens",
            code="rate_limit_exceeded",
        ),
        {},
        Cause.RATE_LIMIT,
        360,
        id="openai: rate",
    ),
    pytest.param(
        "openai",
        429,
        openai(
            "Rate limit reached. Please try again in 20s.",
            kind="requests",
            code="rate_limit_exceeded",
        ),
        {"retry-after-ms": "1500"},
        Cause.RATE_LIMIT,
        2,
        id="openai: rate2",
    ),
    pytest.param(
        "openai",
        503,
        openai("The engine is currently overloaded, please try again later", kind="server_error"),
        {},
        Cause.OVERLOAD,
        None,
        id="openai: over",
    ),
    pytest.param(
        "openai",
        500,
        openai("The server had an error while processing your request", kind="server_error"),
        {},
        Cause.SERVER,
        None,
        id="openai: 500",
    ),
    pytest.param(
        "openai",
        400,
        openai(
            (
                "This model's maximum context length is 128000 tokens. However,"
                " your messages resulted in 150210 tokens (140000 in the "
                "messages, 10210 in the functions). Please reduce the length of"
                " the messages or functions."
            ),
            kind="invalid_request_error",
            code="context_length_exceeded",
        ),
        {},
        Cause.OVERFLOW,
        None,
        id="openai: long",
    ),
    pytest.param(
        "openai",
        429,
        openai(
            (
                "Request too large for gpt-4o in organization org on tokens per"
                " min (TPM): Limit 30000, Requested 40000. The input or output "
                "tokens must be reduced in order to run successfully."
            ),
            kind="tokens",
            code="rate_limit_exceeded",
        ),
        {},
        Cause.OVERFLOW,
        None,
        id="openai: tpm too large",
    ),
]


DEEPSEEK = [
    pytest.param(
        "deepseek",
        401,
        openai(
            "Authentication Fails, Your api key: ****abcd is invalid",
            kind="authentication_error",
            code="invalid_request_error",
        ),
        {},
        Cause.BAD_KEY,
        None,
        id="deepseek: bad",
    ),
    pytest.param(
        "deepseek",
        402,
        openai("Insufficient Balance", kind="unknown_error", code="invalid_request_error"),
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="deepseek: money",
    ),
    pytest.param(
        "deepseek",
        429,
        openai("Rate limit reached", kind="rate_limit_error"),
        {},
        Cause.RATE_LIMIT,
        None,
        id="deepseek: rate",
    ),
    pytest.param(
        "deepseek",
        503,
        openai(
            ("Service is too busy. We advise users to temporarily switch to alternative LLM API"),
            kind="service_unavailable_error",
        ),
        {},
        Cause.OVERLOAD,
        None,
        id="deepseek: over",
    ),
    pytest.param(
        "deepseek",
        400,
        openai(
            (
                "This model's maximum context length is 131072 tokens. However,"
                " you requested 140384 tokens (132192 in the messages, 8192 in "
                "the completion). Please reduce the length of the messages or "
                "completion."
            ),
            kind="invalid_request_error",
            code="invalid_request_error",
        ),
        {},
        Cause.OVERFLOW,
        None,
        id="deepseek: long",
    ),
    pytest.param(
        "deepseek",
        400,
        openai(
            (
                "This model's maximum context length is 131072 tokens. However,"
                " you requested 137000 tokens (128808 in the messages, 8192 in "
                "the completion)."
            ),
            kind="invalid_request_error",
        ),
        {},
        Cause.OVERFLOW,
        None,
        id="deepseek: fits",
    ),
]


KIMI = [
    pytest.param(
        "kimi",
        401,
        openai("Invalid Authentication", kind="invalid_authentication_error"),
        {},
        Cause.BAD_KEY,
        None,
        id="kimi: bad",
    ),
    pytest.param(
        "kimi",
        401,
        openai("Incorrect API key provided", kind="incorrect_api_key_error"),
        {},
        Cause.BAD_KEY,
        None,
        id="kimi: bad2",
    ),
    pytest.param(
        "kimi",
        429,
        openai(
            "Your account is suspended, please check your plan and billing details",
            kind="exceeded_current_quota_error",
        ),
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="kimi: money",
    ),
    pytest.param(
        "kimi",
        403,
        openai(
            "Your account is not active, insufficient balance, please recharge",
            kind="permission_denied_error",
        ),
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="kimi: money403",
    ),
    pytest.param(
        "kimi",
        429,
        openai(
            (
                "Your account org-x<ak-y> request reached max RPM: 3, please "
                "try again after 1 seconds"
            ),
            kind="rate_limit_reached_error",
        ),
        {},
        Cause.RATE_LIMIT,
        1,
        id="kimi: rate",
    ),
    pytest.param(
        "kimi",
        429,
        openai(
            "The engine is currently overloaded, please try again later",
            kind="engine_overloaded_error",
        ),
        {},
        Cause.OVERLOAD,
        None,
        id="kimi: over",
    ),
    pytest.param(
        "kimi",
        400,
        openai(
            (
                "Invalid request: Your request exceeded model token limit: "
                "131072 (requested: 150000)"
            ),
            kind="invalid_request_error",
        ),
        {},
        Cause.OVERFLOW,
        None,
        id="kimi: long",
    ),
    pytest.param(
        "kimi",
        400,
        openai("Input token length too long", kind="invalid_request_error"),
        {},
        Cause.OVERFLOW,
        None,
        id="kimi: long2",
    ),
    pytest.param(
        "kimi",
        402,
        openai("Your membership has expired"),
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="kimi: plan402",
    ),
    pytest.param(
        "kimi",
        403,
        openai(
            "You've reached your usage limit for this billing cycle. Your "
            "quota will be refreshed in the next cycle"
        ),
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="kimi: plan403",
    ),
    pytest.param(
        "kimi",
        400,
        openai(
            "The request was rejected because it was considered high risk", kind="content_filter"
        ),
        {},
        Cause.CONTENT,
        None,
        id="kimi: content",
    ),
]


ZAI = [
    pytest.param(
        "zai",
        401,
        {"error": {"code": "1000", "message": "Authentication Failed"}},
        {},
        Cause.BAD_KEY,
        None,
        id="zai: 1000",
    ),
    pytest.param(
        "zai",
        401,
        {"error": {"code": "1001", "message": "Header中未收到Authorization参数，无法进行身份验证"}},
        {},
        Cause.BAD_KEY,
        None,
        id="zai: 1001",
    ),
    pytest.param(
        "zai",
        401,
        {
            "error": {
                "code": "1002",
                "message": "Authorization Token非法，请确认Authorization Token正确传递",
            }
        },
        {},
        Cause.BAD_KEY,
        None,
        id="zai: 1002",
    ),
    pytest.param(
        "zai",
        401,
        {"error": {"code": "1003", "message": "Authorization Token已过期"}},
        {},
        Cause.BAD_KEY,
        None,
        id="zai: 1003",
    ),
    pytest.param(
        "zai",
        429,
        {"error": {"code": "1113", "message": "余额不足或无可用资源包,请充值。"}},
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="zai: 1113",
    ),
    pytest.param(
        "zai",
        429,
        {
            "error": {
                "code": "1113",
                "message": ("Insufficient balance or no resource package. Please recharge."),
            }
        },
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="zai: 1113 again",
    ),
    pytest.param(
        "zai",
        429,
        {"error": {"code": "1302", "message": "您当前使用该API的并发数过高，请降低并发"}},
        {},
        Cause.RATE_LIMIT,
        None,
        id="zai: 1302",
    ),
    pytest.param(
        "zai",
        429,
        {"error": {"code": "1303", "message": "High frequency usage of this API"}},
        {},
        Cause.RATE_LIMIT,
        None,
        id="zai: 1303",
    ),
    pytest.param(
        "zai",
        429,
        {"error": {"code": "1305", "message": "模型当前访问量过大，请您稍后再试"}},
        {},
        Cause.OVERLOAD,
        None,
        id="zai: 1305",
    ),
    pytest.param(
        "zai",
        400,
        {"error": {"code": "1261", "message": "Prompt exceeds max length"}},
        {},
        Cause.OVERFLOW,
        None,
        id="zai: 1261",
    ),
    pytest.param(
        "zai",
        400,
        {"error": {"code": "1261", "message": "Prompt 超长"}},
        {},
        Cause.OVERFLOW,
        None,
        id="zai: 1261 again",
    ),
    pytest.param(
        "zai",
        400,
        {"error": {"code": "1301", "message": "系统检测到输入或生成内容可能包含不安全或敏感内容"}},
        {},
        Cause.CONTENT,
        None,
        id="zai: 1301",
    ),
    pytest.param(
        "zai",
        429,
        {
            "error": {
                "code": "1308",
                "message": "已达到 5 小时的使用上限。您的限额将在 2026-01-01 00:00:00 重置。",
            }
        },
        {},
        Cause.QUOTA,
        None,
        id="zai: 1308",
    ),
    pytest.param(
        "zai",
        429,
        {
            "error": {
                "code": "1308",
                "message": (
                    "Usage limit reached for 5 hour. Your limit will reset at 2026-11-21 14:15:05"
                ),
            }
        },
        {},
        Cause.QUOTA,
        None,
        id="zai: 1308 again",
    ),
    pytest.param(
        "zai",
        429,
        {"error": {"code": "1309", "message": "Your GLM Coding Plan has expired"}},
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="zai: 1309",
    ),
    pytest.param(
        "zai",
        500,
        {"error": {"code": "1234", "message": "Network error, error id: x"}},
        {},
        Cause.SERVER,
        None,
        id="zai: 1234",
    ),
    pytest.param(
        "zai",
        400,
        {"error": {"code": "1210", "message": "API 调用参数有误"}},
        {},
        Cause.BAD_REQUEST,
        None,
        id="zai: 1210",
    ),
    pytest.param(
        "zai",
        400,
        {"error": {"code": "1211", "message": "Unknown Model, please check the model code."}},
        {},
        Cause.NOT_FOUND,
        None,
        id="zai: 1211",
    ),
]


MINIMAX = [
    pytest.param(
        "minimax", 200, minimax(1000, "unknown error"), {}, Cause.OVERLOAD, None, id="minimax: 1000"
    ),
    pytest.param(
        "minimax",
        200,
        minimax(1001, "request timeout"),
        {},
        Cause.OVERLOAD,
        None,
        id="minimax: 1001",
    ),
    pytest.param(
        "minimax", 200, minimax(1002, "rate limit"), {}, Cause.RATE_LIMIT, None, id="minimax: 1002"
    ),
    pytest.param(
        "minimax",
        200,
        minimax(1004, ("login fail: Please carry the API secret key in the 'Authorization' field")),
        {},
        Cause.BAD_KEY,
        None,
        id="minimax: 1004",
    ),
    pytest.param(
        "minimax",
        200,
        minimax(1008, "insufficient balance"),
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="minimax: 1008",
    ),
    pytest.param(
        "minimax", 200, minimax(1013, "internal error"), {}, Cause.SERVER, None, id="minimax: 1013"
    ),
    pytest.param(
        "minimax", 200, minimax(1024, "internal error"), {}, Cause.SERVER, None, id="minimax: 1024"
    ),
    pytest.param(
        "minimax",
        200,
        minimax(1026, "input new_sensitive"),
        {},
        Cause.CONTENT,
        None,
        id="minimax: 1026",
    ),
    pytest.param(
        "minimax",
        200,
        minimax(1027, "output new_sensitive"),
        {},
        Cause.CONTENT,
        None,
        id="minimax: 1027",
    ),
    pytest.param(
        "minimax", 200, minimax(1033, "system error"), {}, Cause.SERVER, None, id="minimax: 1033"
    ),
    pytest.param(
        "minimax", 200, minimax(1039, "token limit"), {}, Cause.RATE_LIMIT, None, id="minimax: 1039"
    ),
    pytest.param(
        "minimax", 200, minimax(1041, "conn limit"), {}, Cause.RATE_LIMIT, None, id="minimax: 1041"
    ),
    pytest.param(
        "minimax",
        200,
        minimax(2013, "invalid params, context window exceeds limit"),
        {},
        Cause.OVERFLOW,
        None,
        id="minimax: 2013",
    ),
    pytest.param(
        "minimax",
        200,
        minimax(2013, "invalid params, tool call arguments is not valid json"),
        {},
        Cause.BAD_REQUEST,
        None,
        id="minimax: 2013 again",
    ),
    pytest.param(
        "minimax",
        200,
        minimax(2049, "invalid api key"),
        {},
        Cause.BAD_KEY,
        None,
        id="minimax: 2049",
    ),
    pytest.param(
        "minimax",
        200,
        minimax(2056, "usage limit exceeded"),
        {},
        Cause.QUOTA,
        None,
        id="minimax: 2056",
    ),
    pytest.param(
        "minimax",
        400,
        {
            "type": "error",
            "error": {
                "type": "bad_request_error",
                "message": "invalid params, context window exceeds limit (2013)",
                "http_code": "400",
            },
        },
        {},
        Cause.OVERFLOW,
        None,
        id="minimax: 400 2013",
    ),
    pytest.param(
        "minimax",
        401,
        {
            "type": "error",
            "error": {
                "type": "authorized_error",
                "message": "invalid api key (2049)",
                "http_code": "401",
            },
        },
        {},
        Cause.BAD_KEY,
        None,
        id="minimax: 401",
    ),
    pytest.param(
        "minimax",
        429,
        {
            "type": "error",
            "error": {
                "type": "insufficient_balance_error",
                "message": "insufficient balance (1008)",
                "http_code": "429",
            },
        },
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="minimax: 429 money",
    ),
    pytest.param(
        "minimax",
        529,
        {
            "type": "error",
            "error": {
                "type": "overloaded_error",
                "message": "high traffic detected (2064)",
                "http_code": "529",
            },
        },
        {},
        Cause.OVERLOAD,
        None,
        id="minimax: 529",
    ),
]


GEMINI = [
    pytest.param(
        "gemini",
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": "API key not valid. Please pass a valid API key.",
                    "status": "INVALID_ARGUMENT",
                    "details": [
                        {
                            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                            "reason": "API_KEY_INVALID",
                        }
                    ],
                }
            }
        ],
        {},
        Cause.BAD_KEY,
        None,
        id="gemini: bad",
    ),
    pytest.param(
        "gemini",
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": "API key expired. Please renew the API key.",
                    "status": "INVALID_ARGUMENT",
                    "details": [],
                }
            }
        ],
        {},
        Cause.BAD_KEY,
        None,
        id="gemini: bad expired",
    ),
    pytest.param(
        "gemini",
        401,
        [
            {
                "error": {
                    "code": 401,
                    "message": "Request is missing required authentication credential.",
                    "status": "UNAUTHENTICATED",
                    "details": [],
                }
            }
        ],
        {},
        Cause.BAD_KEY,
        None,
        id="gemini: missing auth",
    ),
    pytest.param(
        "gemini",
        403,
        [
            {
                "error": {
                    "code": 403,
                    "message": (
                        "Generative Language API has not been used in "
                        "project 1 before or it is disabled."
                    ),
                    "status": "PERMISSION_DENIED",
                    "details": [],
                }
            }
        ],
        {},
        Cause.PERMISSION,
        None,
        id="gemini: 403",
    ),
    pytest.param(
        "gemini",
        429,
        [
            {
                "error": {
                    "code": 429,
                    "message": (
                        "You exceeded your current quota, please check "
                        "your plan and billing details."
                    ),
                    "status": "RESOURCE_EXHAUSTED",
                    "details": [
                        {
                            "@type": "x/google.rpc.QuotaFailure",
                            "violations": [
                                {
                                    "quotaMetric": "q",
                                    "quotaId": (
                                        "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
                                    ),
                                }
                            ],
                        },
                        {
                            "@type": "type.googleapis.com/google.rpc.RetryInfo",
                            "retryDelay": "34.074824224s",
                        },
                    ],
                }
            }
        ],
        {},
        Cause.RATE_LIMIT,
        35,
        id="gemini: money/free",
    ),
    pytest.param(
        "gemini",
        429,
        [
            {
                "error": {
                    "code": 429,
                    "message": "Resource has been exhausted (e.g. check quota).",
                    "status": "RESOURCE_EXHAUSTED",
                    "details": [],
                }
            }
        ],
        {},
        Cause.RATE_LIMIT,
        None,
        id="gemini: rate",
    ),
    pytest.param(
        "gemini",
        503,
        [
            {
                "error": {
                    "code": 503,
                    "message": "The model is overloaded. Please try again later.",
                    "status": "UNAVAILABLE",
                    "details": [],
                }
            }
        ],
        {},
        Cause.OVERLOAD,
        None,
        id="gemini: over",
    ),
    pytest.param(
        "gemini",
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": (
                        "The input token count (1200000) exceeds the "
                        "maximum number of tokens allowed (1048576)."
                    ),
                    "status": "INVALID_ARGUMENT",
                    "details": [],
                }
            }
        ],
        {},
        Cause.OVERFLOW,
        None,
        id="gemini: long",
    ),
    pytest.param(
        "gemini",
        429,
        [
            {
                "error": {
                    "code": 429,
                    "message": "Your project has exceeded its monthly spending cap.",
                    "status": "RESOURCE_EXHAUSTED",
                    "details": [],
                }
            }
        ],
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="gemini: spend cap",
    ),
    pytest.param(
        "gemini",
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": "User location is not supported for the API use.",
                    "status": "FAILED_PRECONDITION",
                    "details": [],
                }
            }
        ],
        {},
        Cause.BAD_REQUEST,
        None,
        id="gemini: region",
    ),
    pytest.param(
        "gemini",
        404,
        [
            {
                "error": {
                    "code": 404,
                    "message": "models/x is not found for API version v1main",
                    "status": "NOT_FOUND",
                    "details": [],
                }
            }
        ],
        {},
        Cause.NOT_FOUND,
        None,
        id="gemini: model",
    ),
]


QWEN = [
    pytest.param(
        "qwen",
        401,
        {
            "error": {
                "message": "Incorrect API key provided.",
                "type": "invalid_api_key",
                "param": None,
                "code": "invalid_api_key",
            },
            "request_id": "r",
        },
        {},
        Cause.BAD_KEY,
        None,
        id="qwen: bad",
    ),
    pytest.param(
        "qwen",
        400,
        {
            "error": {
                "message": ("Access denied, please make sure your account is in good standing."),
                "type": "Arrearage",
                "param": None,
                "code": "Arrearage",
            },
            "request_id": "r",
        },
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="qwen: money",
    ),
    pytest.param(
        "qwen",
        429,
        {
            "error": {
                "message": "Requests rate limit exceeded, please try again later.",
                "type": "limit_requests",
                "param": None,
                "code": "limit_requests",
            },
            "request_id": "r",
        },
        {},
        Cause.RATE_LIMIT,
        None,
        id="qwen: rate",
    ),
    pytest.param(
        "qwen",
        429,
        {
            "error": {
                "message": (
                    "You exceeded your current quota, please check your plan and billing details."
                ),
                "type": "insufficient_quota",
                "param": None,
                "code": "insufficient_quota",
            },
            "request_id": "r",
        },
        {},
        Cause.RATE_LIMIT,
        None,
        id="qwen: rate2",
    ),
    pytest.param(
        "qwen",
        429,
        {
            "code": "Throttling.RateQuota",
            "message": "Requests rate limit exceeded, please try again later.",
            "request_id": "x",
        },
        {},
        Cause.RATE_LIMIT,
        None,
        id="qwen: rate3",
    ),
    pytest.param(
        "qwen",
        429,
        {
            "error": {
                "message": "Allocated quota exceeded, please increase your quota limit.",
                "type": "Throttling.AllocationQuota",
                "param": None,
                "code": "Throttling.AllocationQuota",
            },
            "request_id": "r",
        },
        {},
        Cause.RATE_LIMIT,
        None,
        id="qwen: alloc",
    ),
    pytest.param(
        "qwen",
        503,
        {
            "error": {
                "message": (
                    "Too many requests. Your requests are being "
                    "throttled due to system capacity limits. Please "
                    "try again later."
                ),
                "type": "ServiceUnavailable",
                "param": None,
                "code": "ServiceUnavailable",
            },
            "request_id": "r",
        },
        {},
        Cause.OVERLOAD,
        None,
        id="qwen: over",
    ),
    pytest.param(
        "qwen",
        500,
        {
            "error": {
                "message": (
                    "An internal error has occured, please try again "
                    "later or contact service support."
                ),
                "type": "InternalError",
                "param": None,
                "code": "InternalError",
            },
            "request_id": "r",
        },
        {},
        Cause.SERVER,
        None,
        id="qwen: over again",
    ),
    pytest.param(
        "qwen",
        400,
        {
            "error": {
                "message": (
                    "<400> InternalError.Algo.InvalidParameter: Range "
                    "of input length should be [1, 129024]"
                ),
                "type": "invalid_parameter_error",
                "param": None,
                "code": "invalid_parameter_error",
            },
            "request_id": "r",
        },
        {},
        Cause.OVERFLOW,
        None,
        id="qwen: long",
    ),
    pytest.param(
        "qwen",
        403,
        {
            "error": {
                "message": (
                    "Access to model denied. Please make sure you are eligible for using the model."
                ),
                "type": "AccessDenied.Unpurchased",
                "param": None,
                "code": "AccessDenied.Unpurchased",
            },
            "request_id": "r",
        },
        {},
        Cause.PERMISSION,
        None,
        id="qwen: unpurchased",
    ),
    pytest.param(
        "qwen",
        400,
        {
            "error": {
                "message": "Input data may contain inappropriate content.",
                "type": "data_inspection_failed",
                "param": None,
                "code": "data_inspection_failed",
            },
            "request_id": "r",
        },
        {},
        Cause.CONTENT,
        None,
        id="qwen: sensitive",
    ),
    pytest.param(
        "qwen",
        403,
        {
            "error": {
                "message": (
                    "The free tier of the model has been exhausted. If "
                    "you wish to continue access the model on a paid "
                    'basis, please disable the "use free tier only" '
                    "mode in the management console."
                ),
                "type": "AllocationQuota.FreeTierOnly",
                "param": None,
                "code": "AllocationQuota.FreeTierOnly",
            },
            "request_id": "r",
        },
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="qwen: free tier",
    ),
]


OPENROUTER = [
    pytest.param(
        "openrouter",
        401,
        {"error": {"code": 401, "message": "No auth credentials found"}},
        {},
        Cause.BAD_KEY,
        None,
        id="openrouter: bad",
    ),
    pytest.param(
        "openrouter",
        401,
        {"error": {"code": 401, "message": "User not found."}},
        {},
        Cause.BAD_KEY,
        None,
        id="openrouter: bad2",
    ),
    pytest.param(
        "openrouter",
        402,
        {
            "error": {
                "code": 402,
                "message": (
                    "Insufficient credits. Add more using https://openrouter.ai/settings/credits"
                ),
            }
        },
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="openrouter: money",
    ),
    pytest.param(
        "openrouter",
        402,
        {
            "error": {
                "code": 402,
                "message": (
                    "This request requires more credits, or fewer "
                    "max_tokens. You requested up to 32000 tokens, but "
                    "can only afford 1234."
                ),
            }
        },
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="openrouter: money tok",
    ),
    pytest.param(
        "openrouter",
        429,
        {
            "error": {
                "code": 429,
                "message": "Provider returned error",
                "metadata": {
                    "raw": (
                        "qwen/x:free is temporarily rate-limited upstream. Please retry shortly"
                    ),
                    "provider_name": "Chutes",
                },
            }
        },
        {},
        Cause.RATE_LIMIT,
        None,
        id="openrouter: rate",
    ),
    pytest.param(
        "openrouter",
        429,
        {
            "error": {
                "code": 429,
                "message": (
                    "Rate limit exceeded: free-models-per-day. Add 10 "
                    "credits to unlock 1000 free model requests per day"
                ),
                "metadata": {
                    "headers": {
                        "X-RateLimit-Limit": "50",
                        "X-RateLimit-Remaining": "0",
                        "X-RateLimit-Reset": "1700006400000",
                    }
                },
            }
        },
        {},
        Cause.RATE_LIMIT,
        None,
        id="openrouter: daily",
    ),
    pytest.param(
        "openrouter",
        200,
        {"error": {"code": 429, "message": "Rate limited"}},
        {},
        Cause.RATE_LIMIT,
        None,
        id="openrouter: 200 rate",
    ),
    pytest.param(
        "openrouter",
        200,
        {
            "error": {
                "code": 502,
                "message": "Provider returned error",
                "metadata": {"raw": '{"error":{"message":"boom"}}'},
            }
        },
        {},
        Cause.SERVER,
        None,
        id="openrouter: 200 502",
    ),
    pytest.param(
        "openrouter",
        503,
        {"error": {"code": 503, "message": "No instances available"}},
        {},
        Cause.OVERLOAD,
        None,
        id="openrouter: over",
    ),
    pytest.param(
        "openrouter",
        502,
        {"error": {"code": 502, "message": "Upstream error"}},
        {},
        Cause.SERVER,
        None,
        id="openrouter: 502",
    ),
    pytest.param(
        "openrouter",
        403,
        {
            "error": {
                "code": 403,
                "message": "Your input was flagged",
                "metadata": {"reasons": ["x"], "flagged_input": "..", "provider_name": "OpenAI"},
            }
        },
        {},
        Cause.PERMISSION,
        None,
        id="openrouter: moderation",
    ),
    pytest.param(
        "openrouter",
        400,
        {
            "error": {
                "code": 400,
                "message": (
                    "This endpoint's maximum context length is 65536 "
                    "tokens. However, you requested about 70000 tokens "
                    "(37000 of text input, 1000 of tool input, 32000 in"
                    " the output). Please reduce the length of either "
                    'one, or use the "middle-out" transform.'
                ),
            }
        },
        {},
        Cause.OVERFLOW,
        None,
        id="openrouter: long",
    ),
    pytest.param(
        "openrouter",
        400,
        {
            "error": {
                "code": 400,
                "message": "Provider returned error",
                "metadata": {
                    "raw": (
                        '{"error":{"message":"This model\'s maximum '
                        "context length is 131072 tokens. However, "
                        "your messages resulted in 140000 "
                        'tokens."}}'
                    )
                },
            }
        },
        {},
        Cause.OVERFLOW,
        None,
        id="openrouter: long2",
    ),
    pytest.param(
        "openrouter",
        408,
        {"error": {"code": 408, "message": "Request timed out"}},
        {},
        Cause.TIMEOUT,
        None,
        id="openrouter: 408",
    ),
]


XAI = [
    pytest.param(
        "xai",
        400,
        {
            "code": "Client specified an invalid argument",
            "error": (
                "Incorrect API key provided: xa***. You can obtain an API "
                "key from https://console.x.ai."
            ),
        },
        {},
        Cause.BAD_KEY,
        None,
        id="xai: bad",
    ),
    pytest.param(
        "xai",
        403,
        {
            "code": ("The caller does not have permission to execute the specified operation"),
            "error": (
                "Your newly created team doesn't have any credits or "
                "licenses yet. You can purchase those on "
                "https://console.x.ai"
            ),
        },
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="xai: money403",
    ),
    pytest.param(
        "xai",
        429,
        {
            "code": "Some resource has been exhausted",
            "error": (
                "Your team x has either used all available credits or "
                "reached its monthly spending limit."
            ),
        },
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="xai: money429",
    ),
    pytest.param(
        "xai",
        429,
        {
            "code": "Some resource has been exhausted",
            "error": "Too many requests for team x. Your team's rate limit is 1 rps.",
        },
        {},
        Cause.RATE_LIMIT,
        None,
        id="xai: rate",
    ),
    pytest.param(
        "xai",
        503,
        {
            "code": "The service is currently unavailable",
            "error": (
                "Service temporarily unavailable. The model is at capacity "
                "and currently cannot serve this request."
            ),
        },
        {},
        Cause.OVERLOAD,
        None,
        id="xai: over",
    ),
    pytest.param(
        "xai",
        400,
        {
            "code": "Client specified an invalid argument",
            "error": (
                "This model's maximum prompt length is 131072 but the "
                "request contains 537812 tokens."
            ),
        },
        {},
        Cause.OVERFLOW,
        None,
        id="xai: long",
    ),
    pytest.param(
        "xai",
        403,
        {
            "code": ("The caller does not have permission to execute the specified operation"),
            "error": "Your API key is disabled",
        },
        {},
        Cause.BAD_KEY,
        None,
        id="xai: perm",
    ),
]


DOUBAO = [
    pytest.param(
        "doubao",
        401,
        {
            "error": {
                "code": "AuthenticationError",
                "message": (
                    "The API key or AK/SK in the request is missing or invalid. request id: x"
                ),
                "param": "",
                "type": "Unauthorized",
            }
        },
        {},
        Cause.BAD_KEY,
        None,
        id="doubao: bad",
    ),
    pytest.param(
        "doubao",
        401,
        {
            "error": {
                "code": "InvalidAccountStatus",
                "message": "invalid",
                "param": "",
                "type": "Unauthorized",
            }
        },
        {},
        Cause.BAD_KEY,
        None,
        id="doubao: bad2",
    ),
    pytest.param(
        "doubao",
        403,
        {
            "error": {
                "code": "AccountOverdueError",
                "message": ("The request failed because your account has an overdue balance."),
                "param": "",
                "type": "Forbidden",
            }
        },
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="doubao: money",
    ),
    pytest.param(
        "doubao",
        403,
        {
            "error": {
                "code": "AccessDenied",
                "message": (
                    "The request failed because you do not have access to the requested resource."
                ),
                "param": "",
                "type": "Forbidden",
            }
        },
        {},
        Cause.PERMISSION,
        None,
        id="doubao: denied",
    ),
    pytest.param(
        "doubao",
        429,
        {
            "error": {
                "code": "RateLimitExceeded.EndpointRPMExceeded",
                "message": (
                    "The Requests Per Minute (RPM) limit of the "
                    "associated endpoint has been exceeded."
                ),
                "param": "",
                "type": "TooManyRequests",
            }
        },
        {},
        Cause.RATE_LIMIT,
        None,
        id="doubao: rate",
    ),
    pytest.param(
        "doubao",
        429,
        {
            "error": {
                "code": "ModelAccountTpmRateLimitExceeded",
                "message": "TPM limit exceeded",
                "param": "",
                "type": "TooManyRequests",
            }
        },
        {},
        Cause.RATE_LIMIT,
        None,
        id="doubao: rate2",
    ),
    pytest.param(
        "doubao",
        429,
        {
            "error": {
                "code": "QuotaExceeded",
                "message": "Your account has exhausted its free trial quota",
                "param": "",
                "type": "TooManyRequests",
            }
        },
        {},
        Cause.QUOTA,
        None,
        id="doubao: quota",
    ),
    pytest.param(
        "doubao",
        429,
        {
            "error": {
                "code": "SetLimitExceeded",
                "message": "reached the set inference limit",
                "param": "",
                "type": "TooManyRequests",
            }
        },
        {},
        Cause.QUOTA,
        None,
        id="doubao: setlimit",
    ),
    pytest.param(
        "doubao",
        429,
        {
            "error": {
                "code": "ServerOverloaded",
                "message": ("The service is currently unable to handle additional requests"),
                "param": "",
                "type": "TooManyRequests",
            }
        },
        {},
        Cause.OVERLOAD,
        None,
        id="doubao: over",
    ),
    pytest.param(
        "doubao",
        503,
        {
            "error": {
                "code": "InternalServiceError",
                "message": "unavailable",
                "param": "",
                "type": "InternalServerError",
            }
        },
        {},
        Cause.OVERLOAD,
        None,
        id="doubao: over503",
    ),
    pytest.param(
        "doubao",
        404,
        {
            "error": {
                "code": "InvalidEndpointOrModel.NotFound",
                "message": "The model or endpoint x does not exist",
                "param": "",
                "type": "NotFound",
            }
        },
        {},
        Cause.NOT_FOUND,
        None,
        id="doubao: nf",
    ),
    pytest.param(
        "doubao",
        404,
        {
            "error": {
                "code": "ModelNotOpen",
                "message": "Your account has not activated the model",
                "param": "",
                "type": "NotFound",
            }
        },
        {},
        Cause.NOT_FOUND,
        None,
        id="doubao: open",
    ),
    pytest.param(
        "doubao",
        400,
        {
            "error": {
                "code": "InputTextSensitiveContentDetected",
                "message": "sensitive",
                "param": "",
                "type": "BadRequest",
            }
        },
        {},
        Cause.CONTENT,
        None,
        id="doubao: sens",
    ),
    pytest.param(
        "doubao",
        400,
        {
            "error": {
                "code": "InvalidParameter",
                "message": (
                    "Total tokens of image and text exceed max message tokens. Request id: x"
                ),
                "param": "",
                "type": "BadRequest",
            }
        },
        {},
        Cause.OVERFLOW,
        None,
        id="doubao: long",
    ),
    pytest.param(
        "doubao",
        400,
        {
            "error": {
                "code": "InvalidParameter",
                "message": "Input length 300000 exceeds the maximum length 229376",
                "param": "",
                "type": "BadRequest",
            }
        },
        {},
        Cause.OVERFLOW,
        None,
        id="doubao: long2",
    ),
]


GROQ = [
    pytest.param(
        "groq",
        401,
        openai("Invalid API Key", kind="invalid_request_error", code="invalid_api_key"),
        {},
        Cause.BAD_KEY,
        None,
        id="groq: bad",
    ),
    pytest.param(
        "groq",
        413,
        openai(
            (
                "Request too large for model `openai/gpt-oss-120b` in "
                "organization `org` service tier `on_demand` on tokens per "
                "minute (TPM): Limit 8000, Requested 31234, please reduce your "
                "message size and try again."
            ),
            kind="tokens",
            code="rate_limit_exceeded",
        ),
        {},
        Cause.OVERFLOW,
        None,
        id="groq: tpm413",
    ),
    pytest.param(
        "groq",
        429,
        openai(
            (
                "Rate limit reached for model x on tokens per minute (TPM): "
                "Limit 6000, Used 5000, Requested 2000. Please try again in "
                "7.66s. Visit https://console.groq.com/docs/rate-limits for "
                "more information."
            ),
            kind="tokens",
            code="rate_limit_exceeded",
        ),
        {"retry-after": "8"},
        Cause.RATE_LIMIT,
        8,
        id="groq: 429",
    ),
    pytest.param(
        "groq",
        429,
        openai(
            (
                "Rate limit reached for model x on tokens per day (TPD): Limit "
                "100000, Used 99990, Requested 500. Please try again in "
                "7m3.36s."
            ),
            kind="tokens",
            code="rate_limit_exceeded",
        ),
        {"retry-after": "423"},
        Cause.RATE_LIMIT,
        423,
        id="groq: 429 day",
    ),
    pytest.param(
        "groq", 498, openai("Flex tier capacity exceeded"), {}, Cause.OVERLOAD, None, id="groq: 498"
    ),
    pytest.param(
        "groq",
        400,
        {
            "error": {
                "message": (
                    "Failed to call a function. Please adjust your "
                    "prompt. See 'failed_generation' for more details."
                ),
                "type": "invalid_request_error",
                "code": "tool_use_failed",
                "failed_generation": "<function=x>",
            }
        },
        {},
        Cause.SERVER,
        None,
        id="groq: tool_use_failed",
    ),
    pytest.param(
        "groq",
        400,
        openai(
            "Please reduce the length of the messages or completion.",
            kind="invalid_request_error",
            code="context_length_exceeded",
        ),
        {},
        Cause.OVERFLOW,
        None,
        id="groq: long",
    ),
]


CEREBRAS = [
    pytest.param(
        "cerebras",
        401,
        {
            "message": "Wrong API Key",
            "type": "invalid_request_error",
            "param": "api_key",
            "code": "wrong_api_key",
        },
        {},
        Cause.BAD_KEY,
        None,
        id="cerebras: bad",
    ),
    pytest.param(
        "cerebras",
        400,
        {
            "message": (
                "Please reduce the length of the messages or completion. "
                "Current length is 69553 while limit is 65536"
            ),
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        },
        {},
        Cause.OVERFLOW,
        None,
        id="cerebras: long",
    ),
    pytest.param(
        "cerebras",
        429,
        {
            "message": "Tokens per minute limit exceeded - too many tokens processed.",
            "type": "too_many_tokens_error",
            "param": "quota",
            "code": "token_quota_exceeded",
        },
        {},
        Cause.RATE_LIMIT,
        None,
        id="cerebras: rate",
    ),
    pytest.param(
        "cerebras",
        429,
        {
            "message": "We're experiencing high traffic right now! Please try again soon.",
            "type": "too_many_requests_error",
            "param": "queue",
            "code": "queue_exceeded",
        },
        {},
        Cause.OVERLOAD,
        None,
        id="cerebras: queue",
    ),
    pytest.param(
        "cerebras",
        400,
        {
            "message": "Unsupported field: messages.1.assistant.reasoning_content",
            "type": "invalid_request_error",
            "param": "",
            "code": "wrong_api_format",
        },
        {},
        Cause.BAD_REQUEST,
        None,
        id="cerebras: rc",
    ),
    pytest.param(
        "cerebras",
        402,
        {
            "message": "Payment required. Please add a payment method",
            "type": "payment_required_error",
            "code": "payment_required",
        },
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="cerebras: money",
    ),
]


MISTRAL = [
    pytest.param(
        "mistral",
        401,
        {"message": "Unauthorized", "request_id": "x"},
        {},
        Cause.BAD_KEY,
        None,
        id="mistral: bad",
    ),
    pytest.param(
        "mistral", 401, {"detail": "Unauthorized"}, {}, Cause.BAD_KEY, None, id="mistral: bad2"
    ),
    pytest.param(
        "mistral",
        422,
        {
            "object": "error",
            "message": {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "stream_options"],
                        "msg": "Extra inputs are not permitted",
                        "input": {},
                    }
                ]
            },
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        },
        {},
        Cause.BAD_REQUEST,
        None,
        id="mistral: 422",
    ),
    pytest.param(
        "mistral",
        429,
        {"message": "Requests rate limit exceeded", "request_id": "x"},
        {},
        Cause.RATE_LIMIT,
        None,
        id="mistral: rate",
    ),
    pytest.param(
        "mistral",
        429,
        {
            "object": "error",
            "message": "Service tier capacity exceeded for this model.",
            "type": "service_tier_capacity_exceeded",
            "param": None,
            "code": "3505",
        },
        {},
        Cause.OVERLOAD,
        None,
        id="mistral: rate2",
    ),
    pytest.param(
        "mistral",
        400,
        {
            "object": "error",
            "message": (
                "Prompt contains 40959 tokens and 0 draft tokens, too large"
                " for model with 32768 maximum context length"
            ),
            "type": "invalid_request_error",
            "param": None,
            "code": "3051",
        },
        {},
        Cause.OVERFLOW,
        None,
        id="mistral: long",
    ),
    pytest.param(
        "mistral",
        402,
        {"message": "You have no credits"},
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="mistral: money",
    ),
]


NIM = [
    pytest.param(
        "nim",
        429,
        {"status": 429, "title": "Too Many Requests"},
        {},
        Cause.RATE_LIMIT,
        None,
        id="nim: 429",
    ),
    pytest.param(
        "nim",
        401,
        {"status": 401, "title": "Unauthorized", "detail": "Authentication failed"},
        {},
        Cause.BAD_KEY,
        None,
        id="nim: 401",
    ),
    pytest.param(
        "nim",
        403,
        {"status": 403, "title": "Forbidden", "detail": "Authorization failed"},
        {},
        Cause.PERMISSION,
        None,
        id="nim: 403",
    ),
    pytest.param(
        "nim",
        402,
        {
            "status": 402,
            "title": "Payment Required",
            "detail": (
                "Account 'x': Cloud credits expired - Please contact NVIDIA representatives"
            ),
        },
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="nim: credits",
    ),
    pytest.param(
        "nim",
        404,
        {"status": 404, "title": "Not Found", "detail": "Function 'x': Not found for account 'y'"},
        {},
        Cause.NOT_FOUND,
        None,
        id="nim: 404",
    ),
    pytest.param(
        "nim",
        504,
        {"status": 504, "title": "Gateway Timeout"},
        {},
        Cause.GATEWAY_TIMEOUT,
        None,
        id="nim: 504",
    ),
]


OLLAMA = [
    pytest.param(
        "ollama",
        404,
        openai("model 'x' not found, try pulling it first", kind="api_error"),
        {},
        Cause.NOT_FOUND,
        None,
        id="ollama: 404",
    ),
    pytest.param(
        "ollama",
        500,
        openai("no user query found in messages", kind="api_error"),
        {},
        Cause.SERVER,
        None,
        id="ollama: 500",
    ),
    pytest.param(
        "ollama",
        429,
        openai("session usage limit reached, upgrade for higher limits", kind="api_error"),
        {},
        Cause.QUOTA,
        None,
        id="ollama: 429",
    ),
    pytest.param(
        "ollama", 401, {"error": "unauthorized"}, {}, Cause.BAD_KEY, None, id="ollama: 401"
    ),
    pytest.param(
        "ollama",
        503,
        openai(
            "server busy, please try again.  maximum pending requests exceeded", kind="api_error"
        ),
        {},
        Cause.OVERLOAD,
        None,
        id="ollama: 503",
    ),
]


LMSTUDIO = [
    pytest.param(
        "lmstudio",
        200,
        {
            "error": (
                "Trying to keep the first 9000 tokens when context the "
                "overflows. However, the model is loaded with context "
                "length of only 4096 tokens, which is not enough."
            )
        },
        {},
        Cause.OVERFLOW,
        None,
        id="lmstudio: 200",
    ),
    pytest.param(
        "lmstudio",
        400,
        {
            "error": (
                "The number of tokens to keep from the initial prompt is "
                "greater than the context length. Try to load the model "
                "with a larger context length, or provide a shorter input"
            )
        },
        {},
        Cause.OVERFLOW,
        None,
        id="lmstudio: nokeep",
    ),
    pytest.param(
        "lmstudio",
        404,
        {
            "error": {
                "message": (
                    "No models loaded. Please load a model in the "
                    "developer page or use the `lms load` command."
                ),
                "type": "invalid_request_error",
                "param": "model",
                "code": "model_not_found",
            }
        },
        {},
        Cause.NOT_FOUND,
        None,
        id="lmstudio: nomodel",
    ),
]


VLLM = [
    pytest.param(
        "vllm",
        400,
        {
            "object": "error",
            "message": (
                "This model's maximum context length is 32768 tokens. "
                "However, you requested 40000 tokens (35904 in the "
                "messages, 4096 in the completion). Please reduce the "
                "length of the messages or completion."
            ),
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        {},
        Cause.OVERFLOW,
        None,
        id="vllm: flat",
    ),
    pytest.param(
        "vllm",
        400,
        {
            "error": {
                "message": (
                    "You passed 28673 input tokens and requested 4096 "
                    "output tokens. However, the model's context length"
                    " is only 32768 tokens, resulting in a maximum "
                    "input length of 28672 tokens. Please reduce the "
                    "length of the input prompt. "
                    "(parameter=input_tokens, value=28673)"
                ),
                "type": "BadRequestError",
                "param": "input_tokens",
                "code": 400,
            }
        },
        {},
        Cause.OVERFLOW,
        None,
        id="vllm: new",
    ),
    pytest.param(
        "vllm",
        400,
        openai(
            (
                "'max_tokens' or 'max_completion_tokens' is too large: 4096. "
                "This model's maximum context length is 32768 tokens and your "
                "request has 30000 input tokens (4096 > 32768 - 30000). None"
            ),
            kind="BadRequestError",
            code=400,
        ),
        {},
        Cause.OVERFLOW,
        None,
        id="vllm: max_tokens",
    ),
    pytest.param(
        "vllm",
        400,
        {
            "error": {
                "message": (
                    '"auto" tool choice requires --enable-auto-tool-'
                    "choice and --tool-call-parser to be set"
                ),
                "type": "BadRequestError",
                "code": 400,
            }
        },
        {},
        Cause.BAD_REQUEST,
        None,
        id="vllm: auto",
    ),
    pytest.param("vllm", 401, {"error": "Unauthorized"}, {}, Cause.BAD_KEY, None, id="vllm: 401"),
    pytest.param(
        "vllm",
        404,
        {
            "object": "error",
            "message": "The model `x` does not exist.",
            "type": "NotFoundError",
            "param": None,
            "code": 404,
        },
        {},
        Cause.NOT_FOUND,
        None,
        id="vllm: 404",
    ),
]


SGLANG = [
    pytest.param(
        "sglang",
        400,
        {
            "object": "error",
            "message": (
                "Requested token count exceeds the model's maximum context "
                "length of 32768 tokens. You requested a total of 40000 "
                "tokens: 35904 tokens from the input messages and 4096 "
                "tokens for the completion. Please reduce the number of "
                "tokens in the input messages or the completion to fit "
                "within the limit."
            ),
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        {},
        Cause.OVERFLOW,
        None,
        id="sglang: long",
    ),
    pytest.param(
        "sglang",
        400,
        {
            "object": "error",
            "message": (
                "The input (40000 tokens) is longer than the model's context length (32768 tokens)."
            ),
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
        {},
        Cause.OVERFLOW,
        None,
        id="sglang: long2",
    ),
]


LLAMACPP = [
    pytest.param(
        "llamacpp",
        400,
        {
            "error": {
                "code": 400,
                "message": ("the request exceeds the available context size, try increasing it"),
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 40000,
                "n_ctx": 32768,
            }
        },
        {},
        Cause.OVERFLOW,
        None,
        id="llamacpp: 400",
    ),
    pytest.param(
        "llamacpp",
        500,
        {
            "error": {
                "code": 500,
                "message": (
                    "request (131168 tokens) exceeds the available "
                    "context size (131072 tokens), try increasing it"
                ),
                "type": "server_error",
            }
        },
        {},
        Cause.OVERFLOW,
        None,
        id="llamacpp: 500",
    ),
    pytest.param(
        "llamacpp",
        503,
        {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
        {},
        Cause.OVERLOAD,
        None,
        id="llamacpp: load",
    ),
    pytest.param(
        "llamacpp",
        500,
        {
            "error": {
                "code": 500,
                "message": "tools param requires --jinja flag",
                "type": "server_error",
            }
        },
        {},
        Cause.BAD_REQUEST,
        None,
        id="llamacpp: jinja",
    ),
]


COPILOT = [
    pytest.param(
        "copilot", 402, "You have no quota", {}, Cause.OUT_OF_CREDIT, None, id="copilot: 402"
    ),
    pytest.param(
        "copilot", 429, "rate limit exceeded\n", {}, Cause.RATE_LIMIT, None, id="copilot: 429"
    ),
    pytest.param(
        "copilot",
        400,
        {
            "error": {
                "message": "prompt token count of 74490 exceeds the limit of 72000",
                "code": "model_max_prompt_tokens_exceeded",
            }
        },
        {},
        Cause.OVERFLOW,
        None,
        id="copilot: long",
    ),
    pytest.param(
        "copilot", 401, "unauthorized: token expired\n", {}, Cause.BAD_KEY, None, id="copilot: 401"
    ),
    pytest.param(
        "copilot",
        403,
        "Access to this endpoint is forbidden",
        {},
        Cause.PERMISSION,
        None,
        id="copilot: 403",
    ),
]


AZURE = [
    pytest.param(
        "azure",
        401,
        {
            "statusCode": 401,
            "message": ("Access denied due to invalid subscription key or wrong API endpoint."),
        },
        {},
        Cause.BAD_KEY,
        None,
        id="azure: 401",
    ),
    pytest.param(
        "azure",
        401,
        {
            "error": {
                "code": "401",
                "message": (
                    "Access denied due to invalid subscription key or "
                    "wrong API endpoint. Make sure to provide a valid "
                    "key"
                ),
            }
        },
        {},
        Cause.BAD_KEY,
        None,
        id="azure: 401b",
    ),
    pytest.param(
        "azure",
        429,
        {
            "error": {
                "code": "429",
                "message": (
                    "Requests to the ChatCompletions_Create Operation "
                    "under Azure OpenAI API version 2024 have exceeded "
                    "token rate limit of your current OpenAI S0 pricing"
                    " tier. Please retry after 26 seconds."
                ),
            }
        },
        {"retry-after": "26"},
        Cause.RATE_LIMIT,
        26,
        id="azure: 429",
    ),
    pytest.param(
        "azure",
        400,
        {
            "error": {
                "message": (
                    "The response was filtered due to the prompt "
                    "triggering Azure OpenAI's content management "
                    "policy."
                ),
                "type": None,
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }
        },
        {},
        Cause.CONTENT,
        None,
        id="azure: cf",
    ),
    pytest.param(
        "azure",
        404,
        {
            "error": {
                "code": "DeploymentNotFound",
                "message": "The API deployment for this resource does not exist.",
            }
        },
        {},
        Cause.NOT_FOUND,
        None,
        id="azure: 404",
    ),
    pytest.param(
        "azure",
        404,
        {"error": {"code": "404", "message": "Resource not found"}},
        {},
        Cause.WRONG_URL,
        None,
        id="azure: 404b",
    ),
]


MODELSCOPE = [
    pytest.param(
        "modelscope",
        429,
        {"errors": {"message": "Request limit exceeded."}, "request_id": "x"},
        {},
        Cause.RATE_LIMIT,
        None,
        id="modelscope: 429",
    ),
    pytest.param(
        "modelscope",
        401,
        {
            "errors": {
                "message": (
                    "Authentication failed, please make sure that a "
                    "valid ModelScope token is supplied."
                )
            }
        },
        {},
        Cause.BAD_KEY,
        None,
        id="modelscope: 401",
    ),
    pytest.param(
        "modelscope",
        400,
        {"errors": {"message": "Model id : x , has no provider supported"}},
        {},
        Cause.BAD_REQUEST,
        None,
        id="modelscope: 400",
    ),
]


GATEWAY = [
    pytest.param(
        "gateway",
        400,
        openai(
            (
                "litellm.ContextWindowExceededError: litellm.BadRequestError: "
                "AnthropicException - prompt is too long: 210000 tokens > "
                "200000 maximum"
            ),
            code="400",
        ),
        {},
        Cause.OVERFLOW,
        None,
        id="gateway: litellm long",
    ),
    pytest.param(
        "gateway",
        429,
        openai(
            ("litellm.RateLimitError: RateLimitError: OpenAIException - Rate limit reached"),
            code="429",
        ),
        {},
        Cause.RATE_LIMIT,
        None,
        id="gateway: litellm rate",
    ),
    pytest.param(
        "gateway",
        401,
        openai("litellm.AuthenticationError: ...", code="401"),
        {},
        Cause.BAD_KEY,
        None,
        id="gateway: litellm auth",
    ),
    pytest.param(
        "gateway",
        400,
        openai(
            "Budget has been exceeded! Current cost: 1, Max budget: 1",
            kind="budget_exceeded",
            code="400",
        ),
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="gateway: litellm budget",
    ),
    pytest.param(
        "gateway",
        502,
        b"<html><title>502 Bad Gateway</title><body><center>cloudflare</center></body></html>",
        {},
        Cause.SERVER,
        None,
        id="gateway: html 502",
    ),
    pytest.param(
        "gateway",
        403,
        b"<!DOCTYPE html><title>Just a moment...</title>",
        {},
        Cause.PERMISSION,
        None,
        id="gateway: html 403",
    ),
    pytest.param("gateway", 500, b"", {}, Cause.SERVER, None, id="gateway: empty 500"),
    pytest.param(
        "gateway", 429, b"", {"Retry-After": "120"}, Cause.RATE_LIMIT, 120, id="gateway: empty 429"
    ),
    pytest.param(
        "gateway",
        429,
        b"",
        {"Retry-After": "Tue, 14 Nov 2023 22:13:50 GMT"},
        Cause.RATE_LIMIT,
        30,
        id="gateway: date 429",
    ),
    pytest.param("gateway", 409, openai("conflict"), {}, Cause.CONFLICT, None, id="gateway: 409"),
    pytest.param(
        "gateway",
        422,
        {"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": "Field required"}]},
        {},
        Cause.BAD_REQUEST,
        None,
        id="gateway: 422",
    ),
    pytest.param(
        "gateway", 400, {"detail": "Bad thing"}, {}, Cause.BAD_REQUEST, None, id="gateway: detail"
    ),
    pytest.param("gateway", 413, openai("too big"), {}, Cause.TOO_LARGE, None, id="gateway: 413"),
    pytest.param("gateway", 418, openai("tea"), {}, Cause.BAD_REQUEST, None, id="gateway: 418"),
    pytest.param("gateway", 499, openai("closed"), {}, Cause.BAD_REQUEST, None, id="gateway: 499"),
    pytest.param("gateway", 520, b"", {}, Cause.SERVER, None, id="gateway: 520"),
    pytest.param("gateway", 302, b"", {}, Cause.WRONG_URL, None, id="gateway: 302"),
    pytest.param(
        "gateway",
        400,
        openai("context_window_exceeded"),
        {},
        Cause.OVERFLOW,
        None,
        id="gateway: http_error 400 w/ context_window",
    ),
    pytest.param(
        "gateway",
        400,
        openai("Input is too long for requested model."),
        {},
        Cause.OVERFLOW,
        None,
        id="gateway: bedrock",
    ),
    pytest.param(
        "gateway",
        400,
        {
            "error": {
                "object": "error",
                "type": "invalid_request_error",
                "code": "invalid_request_error",
                "message": ("The prompt is too long: 140000, model maximum context length: 131071"),
            }
        },
        {},
        Cause.OVERFLOW,
        None,
        id="gateway: fireworks",
    ),
    pytest.param(
        "gateway",
        422,
        {
            "error": {
                "message": (
                    "Input validation error: `inputs` tokens + "
                    "`max_new_tokens` must be <= 131073. Given: 140000 "
                    "`inputs` tokens and 4096 `max_new_tokens`"
                ),
                "type": "invalid_request_error",
            }
        },
        {},
        Cause.OVERFLOW,
        None,
        id="gateway: together",
    ),
    pytest.param(
        "gateway",
        403,
        {"code": 30001, "message": "Sorry, your account balance is insufficient", "data": None},
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="gateway: siliconflow",
    ),
    pytest.param(
        "gateway",
        429,
        {
            "code": 20042,
            "message": ("Request was rejected due to rate limiting. Details: TPM limit reached."),
        },
        {},
        Cause.RATE_LIMIT,
        None,
        id="gateway: siliconflow2",
    ),
    pytest.param(
        "gateway",
        400,
        {
            "code": 20015,
            "message": ("length of prompt_tokens (140000) must be less than max_seq_len (131072)."),
            "data": None,
        },
        {},
        Cause.OVERFLOW,
        None,
        id="gateway: siliconflow long",
    ),
    pytest.param(
        "gateway",
        500,
        {"error": {"message": "当前分组上游负载已饱和，请稍后再试", "type": "new_api_error"}},
        {},
        Cause.OVERLOAD,
        None,
        id="gateway: new-api",
    ),
    pytest.param(
        "gateway",
        403,
        {
            "error": {
                "message": "用户额度不足, 剩余额度: ＄0.00",
                "type": "new_api_error",
                "code": "insufficient_user_quota",
            }
        },
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="gateway: new-api money",
    ),
    pytest.param(
        "gateway",
        401,
        {"error": {"message": "无效的令牌 (request id: x)", "type": "new_api_error"}},
        {},
        Cause.BAD_KEY,
        None,
        id="gateway: one-api bad",
    ),
    pytest.param(
        "gateway",
        402,
        {"error": {"message": "x", "type": "insufficient_funds"}},
        {},
        Cause.OUT_OF_CREDIT,
        None,
        id="gateway: vercel",
    ),
    pytest.param(
        "gateway",
        413,
        {
            "error": {
                "code": "tokens_limit_reached",
                "message": ("Request body too large for gpt-4o model. Max size: 8000 tokens."),
                "details": ("Request body too large for gpt-4o model. Max size: 8000 tokens."),
            }
        },
        {},
        Cause.OVERFLOW,
        None,
        id="gateway: github models",
    ),
]


EVERY = [
    *OPENAI,
    *DEEPSEEK,
    *KIMI,
    *ZAI,
    *MINIMAX,
    *GEMINI,
    *QWEN,
    *OPENROUTER,
    *XAI,
    *DOUBAO,
    *GROQ,
    *CEREBRAS,
    *MISTRAL,
    *NIM,
    *OLLAMA,
    *LMSTUDIO,
    *VLLM,
    *SGLANG,
    *LLAMACPP,
    *COPILOT,
    *AZURE,
    *MODELSCOPE,
    *GATEWAY,
]
