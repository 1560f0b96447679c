"""
Quirks: the differences between providers, one field each.

The defaults describe a server without a preset. A preset in `providers.toml` overrides fields for
the provider, and its model cards override them for models. Code never compares provider names, only
these fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

EffortWord = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max", "default"]
"""In ascending order, except Groq's "default", which only turns reasoning on."""

Vocabulary = Literal["o200k", "deepseek", "qwen", "gemma", "llama", "tekken", "mixed"]
"""The tokenizer's vocabulary, for the token estimate; mixed: unknown."""

Api = Literal["chat", "responses", "messages"]
"""A dialect: Chat Completions, Responses, or Messages (direct mode)."""


class Quirks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The quirks of a provider or one of its models."""

    vocabulary: Vocabulary = "mixed"
    """The vocabulary with token counts closest to those of the model's own."""

    # The request: limits and sampling

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """OpenAI's reasoning models refuse `max_tokens` (unsupported_parameter)."""
    sampling: bool = True
    """False: temperature and top_p are refused (OpenAI reasoning models; Kimi accepts only 1)."""
    sampling_without_effort: bool = False
    """True: both are accepted if no reasoning effort is sent (gpt-5.1 to gpt-5.4)."""
    temperature_range: tuple[float, float] = (0.0, 2.0)
    """Values outside the range are clamped. MiniMax accepts (0, 1], GLM [0, 1]."""
    top_k: bool = False
    """True: `top_k` is supported (vLLM, SGLang, llama.cpp, OpenRouter, DashScope)."""
    stop: bool = True
    """False: `stop` is refused (o3, o4-mini, grok-4); ccproxy truncates the text itself."""
    max_stops: int = 4
    """Maximum number of stop sequences sent; ccproxy enforces any further ones itself."""

    # The request: tools

    tool_choices: tuple[Literal["auto", "required", "function", "none"], ...] = (
        "auto",
        "required",
        "function",
        "none",
    )
    """Supported values of tool_choice. GLM supports only auto; older Kimi models do not
    support required."""
    required_word: Literal["required", "any"] = "required"
    """The value that forces a call of any tool; Mistral calls it "any"."""
    forced_choice_with_thinking: bool = True
    """False: a forced tool_choice is refused while the model thinks (DashScope, Kimi, DeepSeek)."""
    parallel_tool_calls: bool = True
    """False: the key `parallel_tool_calls` is refused."""
    tool_ids: Literal["any", "forty", "nine", "functions", "responses"] = "any"
    """nine: tool call ids are exactly nine alphanumerics (Mistral, error 3280). forty: at most
    40 characters (OpenAI: "string too long. Expected a string with maximum length 40").
    responses: 1 to 64 of [A-Za-z0-9_-] (`call_id` of the Responses API). functions:
    `functions.NAME:INDEX`, the only form that Kimi K2 was trained on; with other forms its calls
    become invalid."""
    max_tools: int = 0
    """Maximum number of tools in a request; above it, some tools are deferred and must be searched
    for. 0: no limit. OpenAI refuses the 129th: "Expected an array with maximum length 128"."""
    tool_name_length: int = 64
    """Maximum length of a tool name; the characters are always [a-zA-Z0-9_-]."""
    schema: Literal["plain", "gemini", "kimi", "bare", "no_meta", "inline", "grammar"] = "plain"
    """Dialect of JSON schemas, see `convert/common/schema.py`."""
    tool_stream: bool = False
    """True: tool arguments are streamed only with `tool_stream: true` (GLM)."""

    # The request: messages

    system_messages: Literal["anywhere", "first"] = "anywhere"
    """first: one system message at the start; later ones become `<system-reminder>` user text."""
    flat_text: bool = False
    """True: text content must be one string instead of a list of parts."""
    null_content: bool = True
    """False: `content: null` next to tool_calls is refused; "" is sent."""
    user_after_tool: bool = True
    """False: a user message right after a tool message is refused (Mistral, error 3230)."""
    merge_user_messages: bool = False
    """True: consecutive user messages are merged, and text after tool results is appended to the
    last one: chat templates of many models require alternating roles (Mistral, Gemma)."""
    images: bool = True
    """False: the model does not accept images; a note in the text replaces them."""
    pdf: Literal["file", "document_url", "text"] = "text"
    """Form of PDFs: OpenAI's file part, Mistral's document_url, or a note in the text."""
    prefill: Literal["plain", "prefix", "partial"] = "plain"
    """Flag on a trailing assistant message: Mistral and DeepSeek `prefix`, Kimi `partial`."""
    cache_control: bool = False
    """True: cache_control in content parts is supported (Claude on OpenRouter, DashScope)."""

    # The request: reasoning

    reasoning: Literal[
        "none",
        "effort",
        "thinking_type",
        "enable_thinking",
        "openrouter",
        "minimax",
        "template_kwargs",
        "explicit_effort",
    ] = "none"
    """Form of the parameters that request reasoning. none: nothing is sent. explicit_effort: only
    the effort that the client sends, because the model is unknown."""
    template_kwargs: bool = True
    """False: chat_template_kwargs is refused (models with Mistral's tokenizer)."""
    efforts: tuple[EffortWord, ...] = ()
    """Supported values of reasoning_effort; others are replaced by the nearest one."""
    effort_with_tools: bool = True
    """False: reasoning_effort together with tools is refused (gpt-5.4 and later on this route)."""
    always_reasons: bool = False
    """True: reasoning cannot be disabled."""
    thinking_keep: Literal["", "clear_thinking", "keep_all"] = ""
    """Parameter that preserves earlier reasoning: GLM `thinking.clear_thinking: false`, Kimi
    `thinking.keep: "all"`."""
    thinking_needs_stream: bool = False
    """True: thinking requires a stream (Qwen); whole answers are collected from one."""
    reasoning_split: bool = False
    """True: `reasoning_split: true` separates reasoning from the text (MiniMax)."""
    history: Literal[
        "drop",
        "reasoning_content",
        "reasoning",
        "both_fields",
        "reasoning_details",
        "think_tags",
        "thinking_parts",
    ] = "drop"
    """Form of earlier thinking in the history; dropped by default: many providers refuse it.
    both_fields: `reasoning` and `reasoning_content`; a server reads one of them, depending on its
    version."""
    history_scope: Literal["all", "tool_turns"] = "all"
    """tool_turns: earlier thinking is sent in assistant turns with tool calls only."""
    unsigned_thinking: bool = True
    """False: thinking without its producer's signature is refused (Claude, Gemini)."""
    history_required: bool = False
    """True: assistant turns with tool calls require the reasoning field, "" if there is none
    (DeepSeek)."""
    thought_signatures: bool = False
    """True: tool calls in the history require extra_content.google.thought_signature (Gemini)."""

    # The request: Responses API only

    system_role: Literal["system", "developer"] = "system"
    """The role of system text in `input`; OpenAI's own models call it developer."""
    output_parts: bool = False
    """True: the output of a call may be a list with images and files; otherwise these follow it in
    a user message."""
    encrypted_reasoning: bool = False
    """True: `reasoning.encrypted_content` can be requested and sent back."""
    reasoning_summary: bool = False
    """True: `reasoning.summary` is supported; without it reasoning has no visible text."""
    message_phase: bool = False
    """True: assistant messages have a `phase`, which the API expects back."""
    web_search: bool = False
    """True: the provider searches the web itself, with the tool `web_search`."""

    # The request: other fields

    response_format: Literal["json_schema", "json_object", "none"] = "json_schema"
    """Form of structured output; json_object and none add an instruction to the prompt."""
    response_format_streams: bool = True
    """False: response_format together with stream is refused (Groq)."""
    format_with_thinking: bool = True
    """False: response_format is refused while the model thinks (older models of DashScope)."""
    stream_options: bool = True
    """False: stream_options is refused (Mistral)."""
    obfuscation: bool = False
    """True: chunks are padded against traffic analysis by default (OpenAI); ccproxy turns it off
    to save bandwidth."""
    user_field: Literal["none", "user", "safety_identifier"] = "none"
    """Field for a hash of metadata.user_id (at most 64 characters)."""
    cache_key: bool = False
    """True: `prompt_cache_key` is supported; requests with the same key share a cache."""
    vision_header: str = ""
    """Name of a header that must be "true" in requests with images (Copilot)."""
    initiator_header: str = ""
    """Name of a header that is "agent" in requests that continue a turn, else "user"; Copilot
    charges only for the latter."""
    session_header: str = ""
    """Name of a header with a hash of the session, which the provider uses for routing
    (OpenCode)."""
    refused_fields: tuple[str, ...] = ()
    """Fields that are removed from every request, see `convert/common/refused_features.py`."""
    extra_body: dict[str, Any] = {}
    """Fields added to every request."""

    # The answer

    text_calls: bool = False
    """True: tool calls in DeepSeek's markup may appear in the text."""
    think_tags: bool = True
    """True: a leading `<think>…</think>` in the text is reasoning."""
    usage_without_reasoning: bool = False
    """True: completion_tokens does not include reasoning_tokens (xAI)."""
    quota_means_rate: bool = False
    """True: "You exceeded your current quota" is a rate limit, not a lack of credit (DashScope)."""


PLAIN = Quirks()
"""The quirks of a server without a preset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The properties of the provider and the model that conversion depends on."""

    provider: str
    """The name of the preset, or the host of the base URL; part of the origin in signatures."""
    model: str
    """The provider's name for the model."""
    quirks: Quirks = PLAIN
    window: int | None = None
    """The context window in tokens, or None if unknown."""
    max_output: int | None = None
    """The maximum number of output tokens, or None if unknown."""
    api: Api = "chat"
    """The dialect of requests for the model."""
    endpoint: str = ""
    """A short hash of the base URL, because encrypted reasoning is valid only there."""
