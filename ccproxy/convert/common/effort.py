"""The reasoning effort that the client requests: `thinking` and `output_config.effort`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

from ccproxy.protocol.messages import MessagesRequest
from ccproxy.providers.quirks import EffortWord

EFFORTS: Final[tuple[EffortWord, ...]] = get_args(EffortWord)[:-1]
"""The effort values in ascending order, without Groq's "default", which has no rank."""

_LOW_BUDGET = 4_096
_MEDIUM_BUDGET = 16_384
"""The largest thinking budgets, in tokens, that count as low and as medium effort."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningRequest:
    """The reasoning that a client requests."""

    thinks: bool | None = None
    """None: the client sent neither `thinking` nor anything that implies it."""
    effort: str | None = None
    budget: int | None = None
    """Thinking tokens."""

    def effort_or_budget(self) -> str | None:
        """Return the effort, or else the one that corresponds to the budget."""
        if self.effort or self.budget is None:
            return self.effort
        if self.budget <= _LOW_BUDGET:
            return "low"
        return "medium" if self.budget <= _MEDIUM_BUDGET else "high"


NO_THINKING: Final = ReasoningRequest(thinks=False)


def requested_reasoning(request: MessagesRequest) -> ReasoningRequest:
    """
    Return the reasoning that the client requests.

    Claude Code sends the effort on messages when it changes during a conversation
    (per-turn-control); the last one applies.
    """
    configs = [each.output_config for each in request.messages if each.output_config]
    efforts = [config.effort for config in (request.output_config, *configs) if config]
    effort = next((effort for effort in reversed(efforts) if effort), None)
    thinking = request.thinking
    if thinking is None:
        return ReasoningRequest(effort=effort)
    if thinking.type == "disabled":
        return NO_THINKING
    budget = thinking.budget_tokens
    budget = budget if budget and budget > 0 else None
    return ReasoningRequest(thinks=True, effort=effort, budget=budget)


def lowest_effort(allowed: tuple[str, ...]) -> str | None:
    """Return the lowest *allowed* value, preferably "none", or None if only "default" is."""
    return next((value for value in EFFORTS if value in allowed), None)


def nearest_effort(effort: str, allowed: tuple[str, ...]) -> str:
    """
    Return the allowed value nearest to *effort*, the higher one if two are equally near.

    "none" is never selected, because the client wants reasoning. Without allowed values, *effort*
    is returned unchanged.
    """
    if "default" in allowed:
        return "default"
    rising = [value for value in EFFORTS if value in allowed and value != "none"]
    if not rising:
        return effort
    # Unknown values are assumed to be new names for high effort.
    rank = EFFORTS.index(effort) if effort in EFFORTS else EFFORTS.index("high")
    return min(reversed(rising), key=lambda value: abs(EFFORTS.index(value) - rank))
