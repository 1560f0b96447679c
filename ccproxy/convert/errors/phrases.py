"""
The codes and phrases by which provider errors are recognized.

Each row was observed with one provider and is applied to all, because the phrase or code means the
same everywhere. Codes are compared whole and in lower case; the text is searched for phrases. If a
phrase or code means different things with different providers, `classify.py` decides by a field of
`Quirks`.

Sources: the vendors' error pages and the issues named in the provider tables (OpenAI, Azure, Kimi,
Z.ai, MiniMax, Gemini, DeepSeek, DashScope, ModelScope, Volcengine, OpenRouter, Groq, Cerebras,
Mistral, xAI, NVIDIA, Ollama, LM Studio, vLLM, SGLang, llama.cpp, TGI, Copilot, LiteLLM).
"""

from __future__ import annotations

import re


def _any_of(*phrases: str) -> re.Pattern[str]:
    """Return one case-insensitive pattern for several phrases."""
    return re.compile("|".join(phrases), re.IGNORECASE)


def _codes(*lines: str) -> frozenset[str]:
    """Return the codes in *lines*, which are grouped by provider."""
    return frozenset(" ".join(lines).split())


# 1. The conversation is longer than the model's window.

OVERFLOW_CODES = _codes(
    "context_length_exceeded contextwindowexceedederror exceed_context_size_error",
    "model_max_prompt_tokens_exceeded context_window_exceeded",
    "tokens_limit_reached",  # GitHub Models
    "1261",  # Z.ai: prompt exceeds max length
)

OVERFLOW = _any_of(
    r"prompt is too long",
    r"input length and `?max_tokens`? exceed",
    r"maximum context length",
    r"maximum (?:prompt|input) length",
    r"context[ _-](?:length|window|size|limit)[^.]{0,40}exceed",
    r"exceed[^.]{0,60}context[ _-](?:length|window|size|limit)",
    r"model'?s context (?:length|window) is only",
    r"longer than the (?:model|context)",
    r"exceed\w* (?:the )?(?:model'?s? )?(?:maximum )?(?:model )?token limit",
    r"input tokens? exceed",
    r"input token count[^.]{0,40}exceeds",
    r"exceeds the maximum number of tokens",
    r"input (?:token )?length (?:is )?too long",
    r"input is too long",
    r"too many input tokens",
    r"range of input length should be",
    r"(?:input|prompt) length \(?\d+\)? exceeds",
    r"current length is \d+ while limit is \d+",
    r"tokens to keep from the initial prompt is greater",
    r"trying to keep the first \d+ tokens",
    r"prompt token count of \d+ exceeds",
    r"prompt (?:contains|has) \d+ tokens[^.]*too large",
    r"prompt exceeds max(?:imum)? length",
    r"too large for model with \d+ maximum context",
    r"prompt_tokens \(\d+\) must be less than max_seq_len",
    r"`inputs` tokens \+ `max_new_tokens` must be",
    r"tokens in the prompt cannot exceed",
    r"exceed max message tokens",
    r"reduce the length of (?:the|your) (?:messages|prompt|input)",
    r"request too large for [^.]{0,200}tokens per min",  # one request over a limit (Groq, OpenAI)
    r"capability_rejected: prompt_too_long",
    r"(?:输入|上下文|prompt)[^。]{0,12}(?:超长|过长|超过|超出)",
)

_N = r"\(?`?~?(?P<prompt>\d{1,12})`?\)?"
_M = r"\(?`?(?P<limit>\d{1,12})`?\)?"

OVERFLOW_NUMBERS = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        rf"prompt is too long: {_N}(?: tokens > |, model maximum context length: ){_M}",
        r"exceed context limit: (?P<prompt>\d+) \+ (?P<output>\d+) > (?P<limit>\d+)",
        # vLLM since 0.9 and since 0.16
        r"is too large: (?P<output>\d+)\. .*maximum context length is (?P<limit>\d+) tokens and "
        r"your request has (?P<prompt>\d+) input",
        r"passed (?P<prompt>\d+) input tokens and requested (?P<output>\d+) output tokens.*"
        r"context length is only (?P<limit>\d+)",
        # SGLang, TGI
        r"context length of (?P<limit>\d+) tokens.*: (?P<prompt>\d+) tokens from the input "
        r"messages and (?P<output>\d+) tokens for the completion",
        r"must be <= (?P<limit>\d+)\. given: (?P<prompt>\d+) `inputs` tokens and (?P<output>\d+)",
        rf"(?:resulted in|contains at least|contains|has) {_N} (?:input )?tokens.*"
        rf"(?:with|limit of|length is|length of) {_M}",
        rf"maximum (?:context|prompt|input) length (?:is|of) {_M}.*"
        rf"(?:resulted in|contains at least|contains|has|requested(?: about)?) {_N} ",
        rf"limit of {_M} tokens.*resulted in {_N} tokens",
        rf"token limit: {_M} \(requested: {_N}\)",
        rf"input token count {_N} exceeds .* allowed {_M}",
        rf"length is {_N} while limit is {_M}",
        rf"keep the first {_N} tokens.*length of only {_M}",
        rf"token count of {_N} exceeds the limit of {_M}",
        r"\((?P<prompt>\d+) tokens\)[^(]*context (?:size|length|window) \((?P<limit>\d+) tokens\)",
        rf"length {_N} exceeds the maximum (?:length )?{_M}",
        r"prompt_tokens \((?P<prompt>\d+)\) must be less than max_seq_len \((?P<limit>\d+)\)",
        rf"cannot exceed {_M} - received {_N}",
        rf"limit:? {_M}, requested:? {_N}",
        # Only the limit is reported.
        rf"input length should be \[\d+, {_M}\]",
        rf"number of tokens allowed {_M}",
        rf"maximum (?:context|prompt|input) length (?:is|of) {_M}",
        rf"configured limit of {_M} tokens",
        rf"max size: {_M} tokens",
    )
)
"""The numbers in an overflow message: `prompt`, `output` (requested) and `limit`."""

BREAKDOWN = re.compile(r"\(([^()]*\b(?:completion|output)\b[^()]*)\)", re.IGNORECASE)
"""OpenAI's and OpenRouter's "(99645 in the messages, 8192 in the completion)"."""
BREAKDOWN_PART = re.compile(r"(\d+)\s+(?:of|in|for)\s+([^,]*)", re.IGNORECASE)

OUTPUT_LIMITS = tuple(
    re.compile(rf"max_?(?:completion_?|output_?)?tokens.{{0,120}}?{pattern}", re.IGNORECASE)
    for pattern in (
        r"supports at most (?P<limit>\d{1,9}) ",  # OpenAI, Azure
        r"> (?P<limit>\d{1,9}), which is the maximum allowed",  # Anthropic
        r"(?:valid range of max_tokens is|should be) \[\d+, ?(?P<limit>\d{1,9})\]",  # DeepSeek
        r"must be less than or equal to `?(?P<limit>\d{1,9})",  # Groq, Hugging Face
        r"exceeds model's maximum output tokens \((?P<limit>\d{1,9})\)",  # Ollama's cloud
        r"range is from \d+ \(inclusive\) to (?P<above>\d{1,9}) \(exclusive\)",  # Vertex
    )
)
"""Refusals of a token limit, with the largest allowed one (`limit`) or the next one (`above`)."""

# 2. The account has no credit, or no plan.

CREDIT_CODES = _codes(
    "insufficient_quota insufficient_balance insufficient_credits insufficient_funds",
    "insufficient_user_quota",  # new-api
    "pre_consume_token_quota_failed",  # new-api: the quota of this key is used up
    "budget_exceeded",  # LiteLLM
    "credit_balance_exhausted",  # OpenAI
    "usage_not_included",  # ChatGPT: the plan does not include this
    "exceeded_current_quota_error",  # Kimi
    "billing_error billing_hard_limit_reached billing_not_active enforced_spend_limit_reached",
    "payment_required",
    "arrearage",  # DashScope
    "allocationquota.freetieronly",
    "accountoverdueerror",  # Volcengine
    "1113",  # Z.ai, HTTP 429
    "1309",  # Z.ai: the plan has expired
    "base_resp:1008",  # MiniMax
)

SPEND_LIMIT_CODE = re.compile(r"_spend_limit_exceeded$")
"""OpenAI has one code for each level: organization, project and user."""
CREDIT = _any_of(
    r"insufficient[ _](?:account )?(?:balance|credit|fund|quota)",
    r"credit balance",
    r"(?:no|any|enough|out of|more|used all available|available|purchase|remaining) credits",
    r"balance[^.]{0,20} (?:insufficient|not enough|too low)",
    r"credits? (?:exhausted|depleted|used up)|credits are depleted",
    r"spend(?:ing)?[ _](?:limit|cap)",
    r"billing (?:hard limit|cycle)",
    r"you have no quota",
    r"pre-?consumed? (?:token )?quota|token quota is not enough",  # new-api
    r"(?:is )?in arrears|arrearage|overdue (?:balance|payment|account)|account[^.]{0,20}overdue",
    r"please (?:recharge|top up)",
    r"payment required",
    r"membership",
    r"(?:余额|额度)不足|欠费|充值",
)

QUOTA_CODES = _codes(
    "usage_limit_reached",
    "1304",  # Z.ai: daily limit
    "1308",  # Z.ai: the plan's window is used up
    "1310",  # Z.ai: weekly or monthly limit
    "base_resp:2056",  # MiniMax: plan limit
    "quotaexceeded",
    "setlimitexceeded",  # Volcengine: the limit set by the user
)
QUOTA = _any_of(
    r"usage limit",
    r"(?:daily|weekly|monthly)[a-z ]{0,20} (?:limit|quota)",
    r"limit (?:for|per) (?:today|the day|this month)",
)

SOFT_QUOTA = _any_of(r"exceeded your current quota", r"check your plan and billing")
"""No credit, unless the provider also reports a time to wait (as Gemini's free tier does)."""

# 3. The key is not accepted.

BAD_KEY_CODES = _codes(
    "invalid_api_key api_key_invalid",
    "wrong_api_key",  # Cerebras
    "incorrect_api_key_error invalid_authentication_error",  # Kimi
    "authentication_error authenticationerror unauthenticated account_deactivated",
    "1000 1001 1002 1003 1004",  # Z.ai
    "base_resp:1004 base_resp:2049",  # MiniMax
)
BAD_KEY = _any_of(
    r"(?:incorrect|invalid|wrong|expired|missing|unknown|revoked|disabled) (?:x-)?api[ _-]?key",
    r"api[ _-]?key (?:provided )?(?:is )?(?:not valid|invalid|incorrect|expired|wrong|missing)",
    r"api[ _-]?key[^.]{0,30}(?:revoked|disabled|suspended|deactivated|not found)",
    r"key (?:was|has been) (?:reported as )?leaked",  # Gemini, with a 403
    r"(?:account|organi[sz]ation|user|key)[^.]{0,40}(?:suspended|revoked|deactivated)",
    r"invalid authentication",
    r"authentication (?:failed|fails)",
    r"(?:令牌|密钥|身份验证)[^。]{0,8}(?:无效|失败|错误|过期)",
)

# 4. The provider is overloaded.

OVERLOAD_CODES = _codes(
    "overloaded_error",
    "engine_overloaded_error engine_overloaded",  # Kimi, HTTP 429
    "queue_exceeded",  # Cerebras
    "capacity_exceeded service_unavailable_error",
    "server_is_overloaded",  # OpenAI
    "slow_down serveroverloaded",
    "1305 1312",  # Z.ai, HTTP 429
    "base_resp:1000 base_resp:1001",  # MiniMax
)
OVERLOAD = _any_of(
    r"overloaded",
    r"(?:at|over|out of|exceeded|insufficient|no) capacity|capacity (?:exceeded|reached)",
    r"(?:server|service|system|engine|model)[^.]{0,20}(?:too )?busy",
    r"(?:high|heavy) (?:demand|traffic|load)",
    r"过载|繁忙|饱和|访问量过大",
)

# 5. Too many requests or tokens in a period.

RATE_CODES = _codes(
    "rate_limit_exceeded rate_limit_error rate_limit_reached_error rate_limit",
    "too_many_requests resource_exhausted limit_requests throttling throttling.ratequota",
    "throttling.allocationquota",
    "1302 1303",  # Z.ai
    "base_resp:1002 base_resp:1039 base_resp:1041",  # MiniMax
)
RATE = _any_of(
    r"rate[ _-]?limit",
    r"too many requests",
    r"(?:requests?|tokens?) per (?:second|minute|hour|day)",
    r"request limit exceeded",
    r"throttl",
)

# 6. Other errors.

CONTENT_CODES = _codes(
    "content_filter content_policy_violation",
    "invalid_prompt",  # OpenAI: flagged by its safety system
    "data_inspection_failed",  # DashScope
    "1301",  # Z.ai
    "base_resp:1026 base_resp:1027",  # MiniMax
)
CONTENT = _any_of(
    r"sensitivecontent|riskdetection|content (?:management )?policy",
    r"\b(?:cyber|bio|misalignment|image_content)_policy",  # OpenAI
)

BAD_REQUEST_CODES = _codes(
    "base_resp:2013 invalid_request_error",
    "invalid_encrypted_content",  # OpenAI: reasoning from another organization's key
    "unknown_parameter unsupported_parameter unsupported_value",
)
"""Codes of bad requests in a 200, where no status shows that a retry is pointless."""

NOT_FOUND_CODES = frozenset({"model_not_found", "model_not_exist", "not_found_error"})
NOT_FOUND = _any_of(
    r"model not exist",
    r"model [^.]{0,80}(?:does not exist|not found|is not available)",
    r"(?:unknown|no such) model",
    r"invalid model(?: name)?\b",  # LiteLLM
)

IMAGE = _any_of(
    r"image(?: input|_url| content|s)?[^.]{0,60}(?:not supported|unsupported|not allowed)",
    r"(?:does|do) ?n[o']t support[^.]{0,40}(?:image|vision|multimodal)",
    r"unknown variant `?image_url",
    r"image_url is only supported",
    r"not (?:a )?(?:vision|multimodal) model",
    r"could not process image",
    r"no endpoints found that support image",
)
DOCUMENT = _any_of(
    r"(?:pdf|document|file)(?: input| content|_url|s)?[^.]{0,40}(?:not supported|unsupported)",
    r"(?:does|do) ?n[o']t support[^.]{0,40}(?:pdf|document|file input)",
    r"unknown variant `?(?:file|document|input_file)\b",
)
"""The refusal of a content type; the same request without the block succeeds."""

FAULTY_REQUEST = _any_of(
    r"jinja",
    r"chat template",
    r"unable to generate parser",
    r"json schema (?:error|conversion)",
    r"failed to (?:parse|compile) (?:grammar|schema)",
    r"conversation roles must alternate",
)
"""Messages of 500 errors that would recur if the request were repeated (llama.cpp)."""

STREAM_REFUSED = _any_of(
    r"must be verified to stream",  # OpenAI
    r"stream(?:ing)? is (?:not|un)(?:supported| supported| allowed)",
    r"does not support stream",
)
"""The refusal to stream; the same request without streaming succeeds."""

CHANCE_CODES = frozenset({"tool_use_failed"})
"""The model's output could not be parsed (Groq): another attempt may succeed."""

NAMES_MODEL = _any_of(r"model", r"deployment", r"engine", r"function '", r"模型")
"""If the message of a 404 contains none of these, the error concerns the path."""

REGION = _any_of(
    r"unsupported_country",
    r"(?:country|region|territory|location)[^.]{0,60}(?:not supported|unsupported|not available)",
    r"not available in your (?:country|region)",
)

LOGIN = _any_of(r"x-api-key")
"""A word that makes Claude Code show "Not logged in · Please run /login" instead of the error."""
