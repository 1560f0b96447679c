"""
Conversion of a provider's usage to the Messages API's usage.

In the Messages API, `input_tokens` excludes the tokens read from and written to the cache, and
`output_tokens` includes the reasoning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccproxy.providers.quirks import Quirks

CHARS_PER_TOKEN = 4
"""Assumed characters per output token, with providers that report no usage."""

_Path = tuple[str, ...]
_CACHED_TOKENS: tuple[_Path, ...] = (
    ("prompt_tokens_details", "cached_tokens"),
    ("prompt_cache_hit_tokens",),  # DeepSeek
    ("cached_tokens",),  # Kimi
    ("cache_read_input_tokens",),  # LiteLLM
    ("prompt_tokens_details", "cache_read_input_tokens"),
    ("prompt_tokens_details", "cache_read_tokens"),
)
"""Paths in a usage object to the tokens read from the cache; the first number found counts."""

_CACHE_WRITE_TOKENS: tuple[_Path, ...] = (
    ("prompt_tokens_details", "cache_write_tokens"),
    ("prompt_tokens_details", "cache_creation_input_tokens"),  # DashScope
    ("prompt_tokens_details", "cache_creation_tokens"),  # LiteLLM
    ("prompt_tokens_details", "created_cache_tokens"),
    ("cache_creation_input_tokens",),
    ("created_cache_tokens",),
)
"""Paths in a usage object to the tokens written to the cache."""

_REASONING_TOKENS: tuple[_Path, ...] = (
    ("completion_tokens_details", "reasoning_tokens"),
    ("reasoning_tokens",),
)
"""Paths to the reasoning tokens; most providers include them in completion_tokens."""


def is_usage(value: object) -> bool:
    """Return True if *value* is a usage object with nonzero numbers."""
    return isinstance(value, dict) and bool(
        _count(value, ("prompt_tokens",)) or _count(value, ("completion_tokens",))
    )


def to_usage(
    usage: Mapping[str, Any] | None, quirks: Quirks, *, input_estimate: int, chars: int
) -> dict[str, Any]:
    """
    Return *usage* as a Messages usage object.

    Missing numbers are estimated: the input is *input_estimate*, the output is derived from the
    length *chars* of the answer. If the whole prompt is cached, one token still counts as new:
    Claude Code ignores a zero at the end of a stream and would add its first estimate to the cached
    tokens (measured).
    """
    usage = usage or {}
    prompt = _count(usage, ("prompt_tokens",))
    cached = _first(usage, _CACHED_TOKENS)
    written = _first(usage, _CACHE_WRITE_TOKENS)
    output = _count(usage, ("completion_tokens",))
    reasoning = _first(usage, _REASONING_TOKENS)
    if output is None:
        output = -(-chars // CHARS_PER_TOKEN)
    elif quirks.usage_without_reasoning and not _is_counted(usage, reasoning):
        output += reasoning
    if cached and cached + written == prompt:
        cached -= 1
    result: dict[str, Any] = {
        "input_tokens": input_estimate if prompt is None else max(0, prompt - cached - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": output,
    }
    if reasoning:
        result["output_tokens_details"] = {"thinking_tokens": reasoning}
    return result


def _is_counted(usage: Mapping[str, Any], reasoning: int) -> bool:
    """Return True if the total shows that completion_tokens include the reasoning."""
    names = ("total_tokens", "prompt_tokens", "completion_tokens")
    total, prompt, output = (_count(usage, (name,)) or 0 for name in names)
    return 0 < total < prompt + output + reasoning


def _first(usage: Mapping[str, Any], paths: tuple[_Path, ...]) -> int:
    counts = (_count(usage, path) for path in paths if path[0] in usage)
    return next((count for count in counts if count is not None), 0)


def _count(usage: Mapping[str, Any], path: _Path) -> int | None:
    """Return the token count at *path*, or None if it is missing or invalid."""
    value: object = usage
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return token_count(value)


def token_count(value: object) -> int | None:
    """Return *value* if it is a valid token count, else None."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return int(value) if 0 <= value < 1e15 else None
