"""
The phrases of refusals: each row of the tables is real, and no harmless text matches.

Every phrase has an example text, because a phrase without one would be a guess.
"""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from ccproxy.convert.errors import phrases


def alternatives(pattern):
    """Return the alternatives of a pattern at its top level."""
    depth, branches = 0, [""]
    for token in re.findall(r"\\.|\[[^]]*\]|.", pattern.pattern):
        depth += {"(": 1, ")": -1}.get(token, 0)
        if token == "|" and depth == 0:
            branches.append("")
        else:
            branches[-1] += token
    return branches


def phrases_of(pattern, texts):
    """Return each phrase of *pattern* with its example texts."""
    return [pytest.param(each, texts, id=each) for each in alternatives(pattern)]


OVERFLOW = [
    "prompt is too long: 210000 tokens > 200000 maximum",  # Anthropic
    "input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000",
    "This model's maximum context length is 128000 tokens.",  # OpenAI, DeepSeek, vLLM
    "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",  # xAI
    "The context window has been exceeded.",
    "the request exceeds the available context size, try increasing it",  # llama.cpp
    "However, the model's context length is only 32768 tokens",  # vLLM since 0.16
    "The input (40000 tokens) is longer than the model's context length",  # SGLang
    "Your request exceeded model token limit: 262144 (requested: 269030)",  # Kimi
    "Input tokens exceed the configured limit of 272000 tokens.",  # OpenAI, gpt-5
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "400 Bad Request: exceeds the maximum number of tokens",  # Gemini, relayed
    "Input token length too long",  # Kimi
    "Input is too long for requested model.",  # Bedrock
    "too many input tokens for this deployment",
    "Range of input length should be [1, 129024]",  # DashScope
    "Input length (5021) exceeds the maximum allowed length",  # SGLang, NIM
    "Current length is 69553 while limit is 65536",  # Cerebras
    "The number of tokens to keep from the initial prompt is greater than the context",  # LM Studio
    "Trying to keep the first 9000 tokens when context overflows",  # LM Studio
    "prompt token count of 74490 exceeds the limit of 72000",  # Copilot
    "Prompt contains 40959 tokens and 0 draft tokens, too large for model",  # Mistral
    "Prompt exceeds max length",  # Z.ai 1261
    "too large for model with 32768 maximum context length",  # Mistral
    "prompt_tokens (70000) must be less than max_seq_len (32768)",
    "`inputs` tokens + `max_new_tokens` must be <= 4096.",  # TGI
    "The number of tokens in the prompt cannot exceed 32768 - received 40000",
    "Total tokens of image and text exceed max message tokens",  # Doubao
    "Please reduce the length of the messages or completion.",
    "Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 7000",
    "capability_rejected: prompt_too_long",  # Claude Code's gateway protocol
    "输入超长",
]
CREDIT = [
    "Insufficient Balance",  # DeepSeek
    "Your credit balance is too low to access the API.",  # Anthropic
    "You have used all available credits",  # xAI
    "Your account balance is insufficient",
    "Your credits are depleted",
    "This key has reached its spending limit",
    "Billing hard limit has been reached",  # OpenAI
    "You have no quota",  # Copilot
    "pre-consumed quota failed, user quota: $0.1",  # new-api
    "token quota is not enough",  # new-api
    "Access denied, please make sure your account is not in arrears",  # DashScope
    "Please recharge and try again",  # Z.ai
    "Payment Required",
    "Your membership has expired",  # Kimi Code
    "Your prepayment credits exhausted",
    "Arrearage",
    "The service was stopped for an overdue payment",
    "AccountOverdueError: the account is overdue",  # Volcengine
    "余额不足",
    "账户已欠费",
    "请充值后重试",
]
QUOTA = [
    "Usage limit reached for 5 hour. Your limit will reset at 2026-11-21",  # Z.ai 1308
    "You have reached the weekly usage quota of your plan",
    "The limit for today is used up",
]
SOFT_QUOTA = [
    "You exceeded your current quota.",  # OpenAI, Gemini, DashScope
    "Please check your plan and billing details.",
]
BAD_KEY = [
    "Incorrect API key provided",  # OpenAI, xAI
    "API key not valid. Please pass a valid API key.",  # Gemini
    "This API key has been revoked",
    "Your API key was reported as leaked. Please use another API key.",  # Gemini, a 403
    "Your organization has been suspended",
    "Invalid Authentication",  # Kimi
    "Authentication Fails, Your api key is invalid",  # DeepSeek
    "令牌无效",
]
OVERLOAD = [
    "The engine is currently overloaded, please try again later",
    "The model is at capacity",
    "Server is too busy",
    "We are experiencing high demand",
    "Model capacity reached",
    "当前服务访问量过大",  # Z.ai 1305
    "服务过载",
    "系统繁忙，请稍后再试",
    "当前分组上游负载已饱和",  # new-api
]
RATE = [
    "Rate limit reached for gpt-4",
    "Too Many Requests",
    "Limit: 40 requests per minute",
    "Request limit exceeded.",  # ModelScope
    "Requests rate limit exceeded: throttling",
]
CONTENT = [
    "cyber_policy",
    "InputTextSensitiveContentDetected",  # Volcengine
    "TextRiskDetection",  # Volcengine
    "The response was filtered due to Azure OpenAI's content management policy.",
]
NOT_FOUND = [
    "Model Not Exist",  # DeepSeek
    "The model `x` does not exist or you do not have access to it.",
    "Unknown model: x",
    "/chat/completions: Invalid model name passed in model=x. Call `/v1/models` to view models",
]
REGION = [
    "unsupported_country_region_territory",
    "User location is not supported for the API use.",  # Gemini
    "This service is not available in your region",
]

IMAGE = [
    "image input is not supported - hint: you may need to provide the mmproj",
    "This model does not support image input.",
    "Failed to deserialize: messages[0]: unknown variant `image_url`, expected `text`",  # DeepSeek
    "image_url is only supported by certain models",
    "x is not a multimodal model",  # vLLM
    "Could not process image",
    "No endpoints found that support image input",  # OpenRouter
]
DOCUMENT = [
    "File content is not supported by this model",
    "This model does not support PDF input",
    "messages[1].content[0]: unknown variant `file`, expected `text`",
]
FAULTY_REQUEST = [
    "Jinja Exception: Conversation roles must alternate user/assistant/user/assistant/...",
    "Failed to apply chat template",
    "Unable to generate parser for this template",
    'JSON schema error: unresolvable "$ref"',
    "Failed to parse grammar",
    "conversation roles must alternate",
]
STREAM_REFUSED = [
    "Your organization must be verified to stream this model.",
    "Streaming is not supported for this model",
    "This model does not support streaming",
]
NAMES_MODEL = [
    "The model x does not exist",
    "DeploymentNotFound",
    "unknown engine",
    "Function 'x': Not found for account 'y'",  # NIM
    "模型不存在",
]
LOGIN = ["authentication_error: invalid x-api-key"]  # Anthropic

TABLES = {
    "OVERFLOW": OVERFLOW,
    "CREDIT": CREDIT,
    "QUOTA": QUOTA,
    "SOFT_QUOTA": SOFT_QUOTA,
    "BAD_KEY": BAD_KEY,
    "OVERLOAD": OVERLOAD,
    "RATE": RATE,
    "CONTENT": CONTENT,
    "NOT_FOUND": NOT_FOUND,
    "REGION": REGION,
    "IMAGE": IMAGE,
    "DOCUMENT": DOCUMENT,
    "FAULTY_REQUEST": FAULTY_REQUEST,
    "LOGIN": LOGIN,
    "NAMES_MODEL": NAMES_MODEL,
    "STREAM_REFUSED": STREAM_REFUSED,
}


def test_every_table_has_its_texts():
    tables = {name for name, value in vars(phrases).items() if isinstance(value, re.Pattern)}
    assert tables - {"BREAKDOWN", "BREAKDOWN_PART", "SPEND_LIMIT_CODE"} == TABLES.keys()


@pytest.mark.parametrize(
    ("phrase", "texts"),
    [row for name, texts in TABLES.items() for row in phrases_of(getattr(phrases, name), texts)],
)
def test_every_phrase_has_a_text(phrase, texts):
    assert [text for text in texts if re.search(phrase, text, re.IGNORECASE)]


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in TABLES.items() for text in texts]
)
@pytest.mark.parametrize("change", [str, str.upper, str.lower])
def test_every_text_is_found_in_any_case(name, text, change):
    assert getattr(phrases, name).search(f"Error: {change(text)} (request x)")


# Texts about invalid requests.

HARMLESS = [
    pytest.param("messages: at least one message is required", id="no messages"),
    pytest.param("Unsupported parameter: 'max_tokens' is not supported", id="a parameter"),
    pytest.param("max_tokens must be at least 1, got 0", id="max_tokens too small"),
    pytest.param("max_tokens: 64000 > 32768, which is the maximum allowed", id="too large"),
    pytest.param("Invalid value for 'temperature': 3", id="a value"),
    pytest.param("property 'reasoning_content' is unsupported", id="Groq's history"),
    pytest.param("Extra inputs are not permitted", id="Mistral's keys"),
    pytest.param("'$.tools[0].function.name' does not match '^[a-zA-Z0-9_-]{1,64}$'", id="a name"),
    pytest.param("string too long. Expected a string with maximum length 40", id="a long id"),
    pytest.param("Invalid schema for function 'f': schema must be of type object", id="a schema"),
    pytest.param("tool_call_id of the message was not found in the calls before", id="a call"),
    pytest.param("The `reasoning_content` in the thinking mode must be passed back", id="DeepSeek"),
    pytest.param("Failed to call a function. Please adjust your prompt.", id="Groq's tool use"),
    pytest.param("An assistant message with tool_calls must be followed by", id="no answer"),
    pytest.param("Expected last role User or Tool but got assistant", id="Mistral's last role"),
    pytest.param("invalid params, tool result's tool id not found (2013)", id="MiniMax's 2013"),
    pytest.param("Internal Server Error", id="a failure without a reason"),
]


@pytest.mark.parametrize("text", HARMLESS)
def test_invalid_requests_match_no_other_cause(text):
    causes = TABLES.keys() - {"NAMES_MODEL"}
    assert [name for name in causes if getattr(phrases, name).search(text)] == []


# The codes.

CODES = {name: value for name, value in vars(phrases).items() if name.endswith("_CODES")}


@pytest.mark.parametrize(("one", "other"), list(combinations(CODES, 2)))
def test_no_code_means_two_things(one, other):
    assert CODES[one].isdisjoint(CODES[other])


@pytest.mark.parametrize("name", CODES)
def test_codes_are_compared_in_lower_case(name):
    assert [code for code in CODES[name] if code != code.lower()] == []


@pytest.mark.parametrize("name", CODES)
def test_no_code_is_a_status(name):
    """The numbers 400 to 599 are in most bodies and repeat the status."""
    assert [code for code in CODES[name] if code.isdigit() and 400 <= int(code) < 600] == []
