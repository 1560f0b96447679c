"""The limit on the data of one answer that is held in memory until it can be sent."""

from __future__ import annotations

from typing import Final

from ccproxy.errors import BadAnswer

MAX_HELD: Final = 16 * 1024 * 1024
"""Characters; the longest answers of any model have about a million."""


def check_held(size: int, *, share: float = 1.0) -> None:
    """
    Check the *size* of the data held for one answer: a model in a loop never stops.

    *share* is the fraction of the data that is text.

    Raises:
        BadAnswer: If there is too much text.
    """
    if size * share > MAX_HELD:
        raise BadAnswer(f"The provider's answer is longer than {MAX_HELD >> 20} MiB")
