"""How much a model shall reason, and whether its reasoning is summarised: `reasoning`."""

from __future__ import annotations

from typing import Any, Final, get_args

from ccproxy.convert.common.effort import ReasoningRequest
from ccproxy.providers.quirks import EffortWord, Quirks

_EFFORTS: Final[tuple[EffortWord, ...]] = get_args(EffortWord)[:-1]
"""The words of effort, rising."""
_MEDIUM_BUDGET: Final = 6_000
_HIGH_BUDGET: Final = 24_000
"""Budgets of thinking tokens from which on the effort is medium and high."""


def reasoning_object(wish: ReasoningRequest, quirks: Quirks, *, hide: bool) -> dict[str, Any]:
    """
    Return the object `reasoning`; empty if the model does not reason or nothing is wished for.

    *hide*: the reasoning is not shown, so no summary is needed.
    """
    if quirks.reasoning == "none":
        return {}
    effort = _effort(wish, quirks.efforts)
    summary = quirks.reasoning_summary and bool(wish.thinks) and not hide
    return {
        **({"effort": effort} if effort else {}),
        **({"summary": "auto"} if summary else {}),
    }


def _effort(wish: ReasoningRequest, allowed: tuple[EffortWord, ...]) -> str | None:
    rising = [word for word in _EFFORTS if word in allowed]
    if wish.thinks is False:
        return rising[0] if rising else None
    wanted = wish.effort or _effort_of_budget(wish.budget)
    if wanted is None:
        # Such a model does not reason unless it is told how much.
        return "medium" if wish.thinks and "none" in rising else None
    return highest_allowed(wanted, rising)


def _effort_of_budget(budget: int | None) -> str | None:
    if budget is None:
        return None
    if budget >= _HIGH_BUDGET:
        return "high"
    return "medium" if budget >= _MEDIUM_BUDGET else "low"


def highest_allowed(wanted: str, rising: list[EffortWord]) -> str:
    """
    Return the highest of the allowed words that is not above *wanted*, else the lowest.

    "none" never meets a wish for reasoning. Without a list every word is allowed.
    """
    words = [word for word in rising if word != "none"]
    if not words:
        return wanted
    # A word that is not known yet is meant to be much.
    limit = _EFFORTS.index(wanted) if wanted in _EFFORTS else _EFFORTS.index("high")
    lower = [word for word in words if _EFFORTS.index(word) <= limit]
    return lower[-1] if lower else words[0]
