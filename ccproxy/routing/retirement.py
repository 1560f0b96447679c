"""Find the models of an entry that the provider retires."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # avoids loading the presets for `status`, which needs only the sentence
    from ccproxy.providers.cards import ModelCard

NOTICE_DAYS = 30
"""The user is warned this many days before a retirement."""


class Retirement(NamedTuple):
    """A retired model, or one that will be retired."""

    model: str
    date: str
    """YYYY-MM-DD, or empty if unknown."""
    successor: str
    """The recommended replacement, or empty if unknown."""


def retirements(
    models: Iterable[str], card_of: Callable[[str], ModelCard], *, until: str
) -> list[Retirement]:
    """Return the *models* that are retired, or will be before the day *until* (YYYY-MM-DD)."""
    matches = []
    for model in dict.fromkeys(models):
        facts = card_of(model).facts
        if facts is None:
            continue
        is_near = bool(facts.retires) and facts.retires < until
        if is_near or (facts.status == "retired" and not facts.retires):
            matches.append(Retirement(model, facts.retires, facts.successor))
    return matches


def retirement_text(retirement: Retirement, *, today: str) -> str:
    """Return a sentence about *retirement* for the user."""
    model, date, successor = retirement
    if not date:
        text = f"the provider has retired {model}"
    elif date > today:
        text = f"the provider will retire {model} on {date}"
    else:
        text = f"the provider retired {model} on {date}"
    return f"{text}; its successor is {successor}" if successor else text
