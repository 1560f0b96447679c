"""
How much a model shall think: `thinking` and effort, in each provider's own words.

What the client wants is read once into a `Wish`; each form (`Quirks.reasoning`) says it with its
own fields. A client that says nothing gets the provider's default: nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, get_args

from ccproxy.protocol.messages import MessagesRequest
from ccproxy.providers.quirks import EffortWord, Quirks

_EFFORTS: Final[tuple[EffortWord, ...]] = get_args(EffortWord)[:-1]
"""The words of effort, rising."""

_LOW_BUDGET = 4_096
_MEDIUM_BUDGET = 16_384
"""Budgets of thinking tokens up to these read as low and medium effort, greater ones as high."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the client wants."""

    thinks: bool | None = None
    """None: the client did not say."""
    effort: str | None = None
    budget: int | None = None
    """Thinking tokens, where the client set a number."""


NOTHING: Final = Wish()
NO_THINKING: Final = Wish(thinks=False)


def wish_of(request: MessagesRequest) -> Wish:
    """
    Read what the client wants.

    Claude Code repeats the effort on messages when it changes during a conversation
    (per-turn-control): the last one counts.
    """
    configs = [request.output_config, *[message.output_config for message in request.messages]]
    efforts = [config.effort for config in configs if config and config.effort]
    effort = efforts[-1] if efforts else None
    thinking = request.thinking
    if thinking is None:
        return Wish(effort=effort) if effort else NOTHING
    if thinking.type == "disabled":
        return NO_THINKING
    budget = thinking.budget_tokens
    return Wish(thinks=True, effort=effort, budget=budget if budget and budget > 0 else None)


def reasoning_fields(wish: Wish, quirks: Quirks, *, with_tools: bool) -> dict[str, Any]:
    """Return the fields that ask the provider for what the client wants."""
    if not quirks.effort_with_tools and with_tools:
        # gpt-5.4 and later: "set reasoning_effort to 'none'" or leave it out.
        return {"reasoning_effort": "none"} if "none" in quirks.efforts else {}
    fields = _FORMS[quirks.reasoning](wish, quirks)
    if quirks.reasoning_split:
        fields["reasoning_split"] = True
    return fields


def nearest_effort(wanted: str, allowed: tuple[str, ...]) -> str:
    """
    Return the allowed word that is nearest to *wanted*, of two the greater one.

    "none" is never near to a wish for thinking. Without a list every word is allowed.
    """
    if "default" in allowed:
        return "default"
    rising = [word for word in _EFFORTS if word in allowed and word != "none"]
    if not rising:
        return wanted
    # A word that nobody knows yet is meant to be much.
    place = _EFFORTS.index(wanted) if wanted in _EFFORTS else _EFFORTS.index("high")
    return min(reversed(rising), key=lambda word: abs(_EFFORTS.index(word) - place))


def _effort_of(wish: Wish) -> str | None:
    if wish.effort:
        return wish.effort
    if wish.budget is None:
        return None
    if wish.budget <= _LOW_BUDGET:
        return "low"
    return "medium" if wish.budget <= _MEDIUM_BUDGET else "high"


# The forms...


def _nothing(_wish: Wish, _quirks: Quirks) -> dict[str, Any]:
    return {}


def _by_effort(wish: Wish, quirks: Quirks) -> dict[str, Any]:
    if wish.thinks is False:
        off = next((word for word in ("none", "minimal") if word in quirks.efforts), None)
        lowest = next((word for word in _EFFORTS if word in quirks.efforts), None)
        return {"reasoning_effort": off or lowest} if off or lowest else {}
    effort = _effort_of(wish)
    if effort is None and wish.thinks and "none" in quirks.efforts:
        effort = "medium"  # such a model does not think unless it is told how much
    return {"reasoning_effort": nearest_effort(effort, quirks.efforts)} if effort else {}


def _by_type(wish: Wish, quirks: Quirks) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if wish.thinks is not None and not (wish.thinks is False and quirks.always_reasons):
        fields["thinking"] = {"type": "enabled" if wish.thinks else "disabled"}
    if wish.thinks and quirks.thinking_keep:
        fields["thinking"] |= _KEEP[quirks.thinking_keep]
    if quirks.efforts and (wish.thinks is not False or quirks.always_reasons):
        fields |= _by_effort(wish, quirks)
    return fields


def _by_switch(wish: Wish, quirks: Quirks) -> dict[str, Any]:
    if wish.thinks is None or (not wish.thinks and quirks.always_reasons):
        return {}
    if not wish.thinks:
        return {"enable_thinking": False}
    return {"enable_thinking": True} | (
        {"thinking_budget": wish.budget} if wish.budget is not None else {}
    )


def _for_openrouter(wish: Wish, quirks: Quirks) -> dict[str, Any]:
    if wish.thinks is False:
        return {} if quirks.always_reasons else {"reasoning": {"enabled": False}}
    if wish.effort:
        allowed = quirks.efforts or tuple(word for word in _EFFORTS if word != "max")
        return {"reasoning": {"effort": nearest_effort(wish.effort, allowed)}}
    if wish.budget is not None:
        return {"reasoning": {"max_tokens": wish.budget}}
    return {"reasoning": {"enabled": True}} if wish.thinks else {}


def _for_minimax(wish: Wish, quirks: Quirks) -> dict[str, Any]:
    if wish.thinks is None or quirks.always_reasons:
        return {}
    return {"thinking": {"type": "adaptive" if wish.thinks else "disabled"}}


def _by_template(wish: Wish, quirks: Quirks) -> dict[str, Any]:
    if wish.thinks is None or (not wish.thinks and quirks.always_reasons):
        return {}
    # Templates call it one or the other (Qwen, GLM: enable_thinking; DeepSeek, Kimi: thinking).
    switch = {"enable_thinking": wish.thinks, "thinking": wish.thinks}
    return {"chat_template_kwargs": switch}


_KEEP: Final[dict[str, dict[str, Any]]] = {
    "clear_thinking": {"clear_thinking": False},
    "keep_all": {"keep": "all"},
}
_FORMS: Final[dict[str, Callable[[Wish, Quirks], dict[str, Any]]]] = {
    "none": _nothing,
    "effort": _by_effort,
    "thinking_type": _by_type,
    "enable_thinking": _by_switch,
    "openrouter": _for_openrouter,
    "minimax": _for_minimax,
    "template_kwargs": _by_template,
}
