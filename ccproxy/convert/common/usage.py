"""
Numbers: a provider's usage in the Messages API's sense.

There `input_tokens` leaves out what was read from or written into the cache, and
`output_tokens` holds the reasoning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccproxy.convert.common.vocabulary import CACHE_WRITE_TOKENS, CACHED_TOKENS, REASONING_TOKENS
from ccproxy.providers.quirks import Quirks

_NUMBERS = (int, float)

CHARS_PER_TOKEN = 4
"""What the length of an answer is divided by where the provider reports no usage."""


def is_usage(found: object) -> bool:
    """Tell whether a provider reports numbers here, and not null or only zeros."""
    return isinstance(found, dict) and bool(
        _count(found, ("prompt_tokens",)) or _count(found, ("completion_tokens",))
    )


def to_usage(
    usage: Mapping[str, Any] | None, quirks: Quirks, *, input_estimate: int, chars: int
) -> dict[str, Any]:
    """
    Return *usage* as a Messages usage object.

    What the provider does not report is estimated: the input as *input_estimate*, the output from
    the *chars* that the answer has. A prompt that was cached to its last token counts one as new:
    for Claude Code a zero at the end of a stream is no number, and the estimate of its beginning
    would stay, beside the cached tokens (measured).
    """
    usage = usage or {}
    prompt = _count(usage, ("prompt_tokens",))
    cached = _first(usage, CACHED_TOKENS)
    written = _first(usage, CACHE_WRITE_TOKENS)
    output = _count(usage, ("completion_tokens",))
    reasoning = _first(usage, REASONING_TOKENS)
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
    """Tell by the total whether completion_tokens hold the reasoning after all."""
    names = ("total_tokens", "prompt_tokens", "completion_tokens")
    total, prompt, output = (_count(usage, (name,)) or 0 for name in names)
    return 0 < total < prompt + output + reasoning


def _first(usage: Mapping[str, Any], places: tuple[tuple[str, ...], ...]) -> int:
    for place in places:
        if place[0] in usage and (count := _count(usage, place)) is not None:
            return count
    return 0


def _count(usage: Mapping[str, Any], place: tuple[str, ...]) -> int | None:
    """Return the number at *place*; None if there is none that can count tokens."""
    found: object = usage
    for key in place:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, _NUMBERS) or isinstance(found, bool):
        return None
    return int(found) if 0 <= found < 1e15 else None
