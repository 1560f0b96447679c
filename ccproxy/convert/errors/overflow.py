"""
Too long, said so that Claude Code compacts the conversation and goes on.

It knows `prompt is too long: N tokens > M maximum`, and for a prompt that fits by itself
`input length and `max_tokens` exceed context limit: A + B > C` (measured). The numbers are the
provider's; where it tells none, none are invented.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ccproxy.convert.errors import wordings
from ccproxy.convert.errors.body import ErrorBody


def overflow_message(said: ErrorBody, max_tokens: int | None) -> str:
    """The wording that Claude Code knows, with the numbers that are known and no others."""
    prompt, output, limit = _numbers(said)
    if prompt is not None and limit is not None:
        output = max_tokens if output is None else output
        start = _start_with_numbers(prompt, output, limit)
    elif limit is not None:
        start = f"prompt is too long: the provider's limit is {limit} tokens"
    else:
        start = "prompt is too long for this model"
    return f"{start}. The provider says: {said.text or 'nothing more'}"


def _start_with_numbers(prompt: int, output: int | None, limit: int) -> str:
    if prompt > limit:
        return f"prompt is too long: {prompt} tokens > {limit} maximum"
    if output is None or prompt + output <= limit:
        return f"prompt is too long: the provider's limit is {limit} tokens"
    if prompt + output == limit + 1:
        # vLLM from 0.16 on stops counting there, so that the prompt may be longer by any amount.
        return f"prompt is too long: at least {prompt} tokens and {output} of output > {limit}"
    return (
        f"input length and `max_tokens` exceed context limit: {prompt} + {output} > {limit}, "
        "decrease input length or `max_tokens` and try again"
    )


def _numbers(said: ErrorBody) -> tuple[int | None, int | None, int | None]:
    """Prompt, asked-for output and limit, each None where the provider does not tell it."""
    if said.prompt is not None and said.limit is not None:
        return said.prompt, None, said.limit
    text = re.sub(r"(?<=\d)[,_](?=\d{3}(?!\d))", "", said.text)
    for pattern in wordings.OVERFLOW_NUMBERS:
        if found := pattern.search(text):
            told = found.groupdict()
            prompt, output = _prompt_and_output(text, told)
            return prompt, output, int(told["limit"])
    return None, None, None


def _prompt_and_output(text: str, told: Mapping[str, str]) -> tuple[int | None, int | None]:
    """A breakdown in brackets counts more than the sum before it."""
    parts = wordings.BREAKDOWN.search(text)
    if parts is None:
        return (
            int(told["prompt"]) if "prompt" in told else None,
            int(told["output"]) if "output" in told else None,
        )
    prompt = output = 0
    for number, what in wordings.BREAKDOWN_PART.findall(parts[1]):
        if re.search("completion|output", what, re.IGNORECASE):
            output += int(number)
        else:
            prompt += int(number)
    return prompt, output
