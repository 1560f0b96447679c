"""
Every known way in which a provider leaves the common path, one field each.

The defaults describe a plain server of which nothing is known. A preset in `providers.toml`
overrides fields for the provider, its model patterns override them again for a model. No other
module names a provider: it reads a field of here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

EffortWord = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max", "default"]
"""Rising, but for Groq's "default", which only says that a model shall reason."""

Api = Literal["chat", "responses", "messages"]
"""A dialect: Chat Completions, Responses, or Messages (direct mode)."""


class Quirks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is special about a provider or one of its models; see each field."""

    # The request: limits and sampling.

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """OpenAI's reasoning models refuse `max_tokens` (unsupported_parameter)."""
    sampling: bool = True
    """False: temperature and top_p are refused (OpenAI reasoning models; Kimi's take only 1)."""
    sampling_without_effort: bool = False
    """True: they are taken all the same while the model does not reason (gpt-5.1 to gpt-5.4)."""
    temperature_range: tuple[float, float] = (0.0, 2.0)
    """Values outside are moved to the nearest end. MiniMax wants (0, 1], GLM [0, 1]."""
    top_k: bool = False
    """True: `top_k` is understood (vLLM, SGLang, llama.cpp, OpenRouter, DashScope)."""
    stop: bool = True
    """False: `stop` is refused (o3, o4-mini, grok-4); ccproxy cuts the text itself."""
    max_stops: int = 4
    """More stop sequences than this are enforced by ccproxy only."""

    # The request: tools.

    tool_choices: tuple[Literal["auto", "required", "function", "none"], ...] = (
        "auto",
        "required",
        "function",
        "none",
    )
    """What tool_choice may say. GLM knows only auto, older Kimi no required."""
    required_word: Literal["required", "any"] = "required"
    """Mistral calls it "any"."""
    parallel_tool_calls: bool = True
    """False: the key `parallel_tool_calls` is refused."""
    tool_ids: Literal["any", "forty", "nine", "responses"] = "any"
    """nine: tool call ids are exactly nine alphanumerics (Mistral, error 3280). forty: no longer
    than that (OpenAI: "string too long. Expected a string with maximum length 40"). responses: 1 to
    64 of [A-Za-z0-9_-] (`call_id` of the Responses API)."""
    tool_name_length: int = 64
    """Longest tool name; the alphabet is always [a-zA-Z0-9_-]."""
    schema: Literal["plain", "gemini", "kimi", "bare", "no_meta"] = "plain"
    """Which JSON schema keywords are refused; the dialects stand in `convert/common/schema.py`."""
    tool_stream: bool = False
    """GLM streams tool arguments only with `tool_stream: true`."""

    # The request: messages.

    system_messages: Literal["anywhere", "first"] = "anywhere"
    """first: only one system message, at the start; later ones become `<system-reminder>` text."""
    flat_text: bool = False
    """True: content of text parts only must be one string."""
    null_content: bool = True
    """False: `content: null` beside tool_calls is refused or unwise; "" is sent."""
    user_after_tool: bool = True
    """False: a user message right after a tool message is refused (Mistral, error 3230)."""
    images: bool = True
    """False: the model does not see; an image becomes a note in the text."""
    pdf: Literal["file", "document_url", "text"] = "text"
    """How a PDF goes: OpenAI's file part, Mistral's document_url, or a note in the text."""
    prefill: Literal["plain", "prefix", "partial"] = "plain"
    """The flag on a trailing assistant message: Mistral and DeepSeek `prefix`, Kimi `partial`."""
    cache_control: bool = False
    """True: cache_control in content parts is understood (Claude on OpenRouter, DashScope)."""

    # The request: reasoning.

    reasoning: Literal[
        "none",
        "effort",
        "thinking_type",
        "enable_thinking",
        "openrouter",
        "minimax",
        "template_kwargs",
    ] = "none"
    """The form in which reasoning is asked for; "none": nothing is sent."""
    efforts: tuple[EffortWord, ...] = ()
    """The values of reasoning_effort that the model takes; others move to the nearest one."""
    effort_with_tools: bool = True
    """False: reasoning_effort together with tools is refused (gpt-5.4 and later on this route)."""
    always_reasons: bool = False
    """True: reasoning cannot be switched off."""
    thinking_keep: Literal["", "clear_thinking", "keep_all"] = ""
    """How to ask that earlier reasoning is kept: GLM `thinking.clear_thinking: false`, Kimi
    `thinking.keep: "all"`."""
    thinking_needs_stream: bool = False
    """True: thinking is refused unless streaming (Qwen); whole answers are streamed and folded."""
    reasoning_split: bool = False
    """MiniMax: `reasoning_split: true` keeps reasoning out of the text."""
    history: Literal[
        "drop",
        "reasoning_content",
        "reasoning",
        "reasoning_details",
        "think_tags",
        "thinking_parts",
    ] = "drop"
    """In which form earlier thinking goes back; drop by default, since many providers refuse it."""
    history_required: bool = False
    """True: an assistant turn with tool calls must carry it, "" when none is known (DeepSeek)."""
    thought_signatures: bool = False
    """Gemini: tool calls must return extra_content.google.thought_signature."""

    # The request: Responses API only.

    system_role: Literal["system", "developer"] = "system"
    """The role of system text in `input`; OpenAI's own models call it developer."""
    output_parts: bool = False
    """True: the output of a call may be a list with images and files; else they follow it."""
    encrypted_reasoning: bool = False
    """True: `reasoning.encrypted_content` can be asked for and sent back."""
    reasoning_summary: bool = False
    """True: `reasoning.summary` is understood; without it reasoning has no visible text."""
    message_phase: bool = False
    """True: messages of the assistant have a `phase`, which the API asks to send back."""
    web_search: bool = False
    """True: the provider searches the web itself, with the tool `web_search`."""
    cache_key: bool = False
    """True: `prompt_cache_key` is understood; requests with the same key share a cache."""

    # The request: the rest.

    response_format: Literal["json_schema", "json_object", "none"] = "json_schema"
    """What structured output is turned into; json_object adds an instruction to the prompt."""
    response_format_streams: bool = True
    """False: response_format together with stream is refused (Groq)."""
    stream_options: bool = True
    """False: stream_options is refused (Mistral)."""
    obfuscation: bool = False
    """True: chunks come padded against eavesdroppers unless told otherwise (OpenAI); the padding
    costs bandwidth, and nobody listens between client, proxy and a provider behind TLS."""
    user_field: Literal["none", "user", "safety_identifier"] = "none"
    """Where a hash of metadata.user_id goes (at most 64 characters)."""
    extra_body: dict[str, Any] = {}
    """Fields that every request carries."""

    # The answer.

    think_tags: bool = True
    """True: a leading `<think>…</think>` in the text is reasoning."""
    usage_without_reasoning: bool = False
    """xAI: completion_tokens do not count reasoning_tokens."""
    quota_means_rate: bool = False
    """DashScope: "You exceeded your current quota" is a rate limit, not money."""


PLAIN = Quirks()
"""A server of which nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Who will answer: all that conversion needs to know of provider and model."""

    provider: str
    """The preset's name, or the host of the base URL; part of a signature's origin."""
    model: str
    """The model's name at the provider."""
    quirks: Quirks = PLAIN
    window: int | None = None
    """Context window in tokens, None where it is not known."""
    max_output: int | None = None
    """The most tokens that the model can put out, None where it is not known."""
    api: Api = "chat"
    """The dialect in which the model is asked."""
    endpoint: str = ""
    """A short name of the base URL; encrypted reasoning can be read nowhere else."""
