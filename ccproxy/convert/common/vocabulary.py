"""
Tables that translate the values of Chat Completions to those of the Messages API.

A new value of a provider is a new row here.
"""

from __future__ import annotations

from collections.abc import Mapping

STOP_REASON: Mapping[str, str] = {
    "stop": "end_turn",
    "eos": "end_turn",
    "end_turn": "end_turn",
    "length": "max_tokens",
    "max_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "tool_use": "tool_use",
    "content_filter": "refusal",
    "content-filter": "refusal",
    "sensitive": "refusal",  # GLM
    "refusal": "refusal",
    "safety": "refusal",  # Gemini's values, as gateways relay them
    "recitation": "refusal",
    "prohibited_content": "refusal",
    "model_length": "model_context_window_exceeded",  # Mistral
    "model_context_window_exceeded": "model_context_window_exceeded",  # GLM
}
"""finish_reason in lower case -> stop_reason; any other value means a normal end."""

CUT_SHORT = frozenset({"max_tokens", "model_context_window_exceeded"})
"""Stop reasons that an answer with tool calls keeps: its last call may be incomplete."""

FAILED: Mapping[str, str] = {
    "error": "api_error",  # OpenRouter
    "network_error": "overloaded_error",  # GLM
    "insufficient_system_resource": "overloaded_error",  # DeepSeek
}
"""finish_reason in lower case of an answer that failed -> error type."""

CACHED_TOKENS: tuple[tuple[str, ...], ...] = (
    ("prompt_tokens_details", "cached_tokens"),
    ("prompt_cache_hit_tokens",),  # DeepSeek
    ("cached_tokens",),  # Kimi
    ("cache_read_input_tokens",),  # LiteLLM
    ("prompt_tokens_details", "cache_read_input_tokens"),
    ("prompt_tokens_details", "cache_read_tokens"),
)
"""Paths of the tokens read from the cache in a usage object; the first number counts."""

CACHE_WRITE_TOKENS: tuple[tuple[str, ...], ...] = (
    ("prompt_tokens_details", "cache_write_tokens"),
    ("prompt_tokens_details", "cache_creation_input_tokens"),  # DashScope
    ("prompt_tokens_details", "cache_creation_tokens"),  # LiteLLM
    ("prompt_tokens_details", "created_cache_tokens"),
    ("cache_creation_input_tokens",),
    ("created_cache_tokens",),
)
"""The same for tokens written to the cache."""

REASONING_TOKENS: tuple[tuple[str, ...], ...] = (
    ("completion_tokens_details", "reasoning_tokens"),
    ("reasoning_tokens",),
)
"""The same for tokens of reasoning; most providers count them in completion_tokens too."""
