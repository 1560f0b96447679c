"""
Refusals of too many tokens: context overflows, and answers longer than a model allows.

Overflows are worded so that Claude Code compacts the conversation and continues. It recognizes
`prompt is too long: N tokens > M maximum` and, for a prompt that fits by itself, `input length and
`max_tokens` exceed context limit: A + B > C` (measured). The numbers are the provider's; numbers
that it does not report are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ccproxy.convert.errors import phrases
from ccproxy.convert.errors.body import ErrorBody

_THOUSANDS_SEPARATOR = re.compile(r"(?<=\d)[,_](?=\d{3}(?!\d))")
_OUTPUT = re.compile("completion|output", re.IGNORECASE)


def overflow_message(error: ErrorBody, max_tokens: int | None) -> str:
    """Return the message for *error*; *max_tokens* is the value in the request."""
    prompt, output, limit = _numbers(error)
    if prompt is not None and limit is not None:
        output = max_tokens if output is None else output
        explanation = _explain_numbers(prompt, output, limit)
    elif limit is not None:
        explanation = f"prompt is too long: the provider's limit is {limit} tokens"
    else:
        explanation = "prompt is too long for this model"
    return f"{explanation}. The provider's message: {error.text or '(empty)'}"


def _explain_numbers(prompt: int, output: int | None, limit: int) -> str:
    if prompt > limit:
        return f"prompt is too long: {prompt} tokens > {limit} maximum"
    if output is None or prompt + output <= limit:
        return f"prompt is too long: the provider's limit is {limit} tokens"
    if prompt + output == limit + 1:
        # vLLM 0.16 and later stop counting at the limit, so the prompt can be much longer.
        return f"prompt is too long: at least {prompt} tokens and {output} of output > {limit}"
    return (
        f"input length and `max_tokens` exceed context limit: {prompt} + {output} > {limit}, "
        "decrease input length or `max_tokens` and try again"
    )


def _numbers(error: ErrorBody) -> tuple[int | None, int | None, int | None]:
    """Return the prompt, requested output and limit in tokens; None for unreported numbers."""
    if error.prompt is not None and error.limit is not None:
        return error.prompt, None, error.limit
    text = _THOUSANDS_SEPARATOR.sub("", error.text)
    for pattern in phrases.OVERFLOW_NUMBERS:
        if match := pattern.search(text):
            numbers = match.groupdict()
            prompt, output = _prompt_and_output(text, numbers)
            return prompt, output, int(numbers["limit"])
    return None, None, None


def _prompt_and_output(text: str, numbers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Return prompt and output tokens, preferably from a breakdown in parentheses."""
    breakdown = phrases.BREAKDOWN.search(text)
    if breakdown is None:
        return (
            int(numbers["prompt"]) if "prompt" in numbers else None,
            int(numbers["output"]) if "output" in numbers else None,
        )
    prompt = output = 0
    for number, kind in phrases.BREAKDOWN_PART.findall(breakdown[1]):
        if _OUTPUT.search(kind):
            output += int(number)
        else:
            prompt += int(number)
    return prompt, output


def output_limit(text: str) -> int | None:
    """Return the maximum answer tokens reported in a provider's *text*, or None."""
    for pattern in phrases.OUTPUT_LIMITS:
        if match := pattern.search(text):
            groups = match.groupdict()
            limit = int(groups["limit"]) if "limit" in groups else int(groups["above"]) - 1
            return limit if limit > 0 else None
    return None
