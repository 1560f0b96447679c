"""The limit for the parts of a stream that are kept in memory until their end."""

from __future__ import annotations

from typing import Final

from ccproxy.errors import BadAnswer

MAX_HELD: Final = 16 * 1024 * 1024
"""Characters; the longest answers of models have about a million."""


def check_held(size: int, *, share: float = 1.0) -> None:
    """
    Check the *size* of the data that is kept of an answer: a model in a loop never stops.

    *share* is the share of text in the data.

    Raises:
        BadAnswer: If there is too much text.
    """
    if size * share > MAX_HELD:
        raise BadAnswer(f"The provider's answer is longer than {MAX_HELD >> 20} MiB")
