"""The longest answer of a model, read from the refusal of a longer one."""

from __future__ import annotations

from ccproxy.convert.errors import phrases


def output_limit(text: str) -> int | None:
    """Return the tokens that a provider's *text* allows for an answer; None if it names none."""
    for pattern in phrases.OUTPUT_LIMITS:
        if match := pattern.search(text):
            groups = match.groupdict()
            limit = int(groups["limit"]) if "limit" in groups else int(groups["above"]) - 1
            return limit if limit > 0 else None
    return None
