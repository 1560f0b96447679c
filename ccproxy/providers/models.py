"""
Which model answers a request, and what is known about it.

Rules of choice, in order:

1. `[1m]`, Claude Code's mark for its long window, is cut off.
2. A name of BIG, MIDDLE or SMALL, a model of the preset, or a name that matches a pass pattern
   goes to the provider as it is.
3. A name with "haiku" in it means SMALL, else one with "sonnet" MIDDLE; every other one,
   "opus" and unknown names alike, means BIG.
4. A tier that has no model sends the client's name on.

Names are compared without regard to case; what is sent keeps its case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import Any

from ccproxy.providers.quirks import PLAIN, Quirks

LONG_WINDOW_MARK = "[1m]"

_NAMES_KEPT = 256

_Matches = Callable[[str], re.Match[str] | None]


PRICES = ("input", "output", "cache_read", "cache_write")
"""The fields of `Price` in the order in which prices are written."""
_USAGE = (
    *("input_tokens", "output_tokens"),
    *("cache_read_input_tokens", "cache_creation_input_tokens"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars per million tokens; None where it is not known, which is never a guess."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Price:
        """Make a price of two to four *numbers*, in the order of `PRICES`."""
        return cls(**dict(zip(PRICES, numbers, strict=False)))

    def cost(self, usage: Mapping[str, Any]) -> float | None:
        """Return what *usage* costs; None if it has tokens whose price is not known."""
        total = 0.0
        for name, price in zip(_USAGE, _prices(self), strict=True):
            tokens = usage.get(name) or 0
            if tokens and price is None:
                return None
            total += tokens * (price or 0.0)
        return total / 1e6


_prices = attrgetter(*PRICES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What is known about the models whose names match `pattern`."""

    pattern: str = "*"
    window: int | None = None
    """Context window in tokens."""
    max_output: int | None = None
    """The most tokens of one answer."""
    price: Price | None = None
    quirks: Quirks = PLAIN

    @property
    def sees_images(self) -> bool:
        """Whether images reach the model."""
        return self.quirks.images


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The model that is asked, and whether it is another one than the client named."""

    model: str
    substituted: bool


@dataclass(frozen=True, kw_only=True)
class ModelMap:
    """The models of one entry: three tiers, what passes unchanged, and a card for each."""

    big: str | None
    """None: the provider gets the name that the client sent (the `anthropic` preset)."""
    middle: str | None
    small: str | None
    pass_patterns: tuple[str, ...] = ()
    cards: tuple[ModelCard, ...] = ()
    """The first card whose pattern matches is the model's card."""
    unknown: ModelCard = ModelCard()
    """The card of every other model."""
    prices: tuple[tuple[str, Price], ...] = ()
    """The user's own by patterns; they win over those of the cards."""

    def pick(self, requested: str) -> Choice:
        """Decide which model answers a request for *requested*."""
        return self._picked(requested)

    @cached_property
    def _picked(self) -> Callable[[str], Choice]:
        return lru_cache(maxsize=_NAMES_KEPT)(self._pick)

    def _pick(self, requested: str) -> Choice:
        name = without_mark(requested)
        if self._passes(name):
            return Choice(model=name, substituted=False)
        model = self._tier(name) or name
        return Choice(model=model, substituted=model != name)

    def card(self, model: str) -> ModelCard:
        """Return what is known about *model*, a name of the provider's."""
        return next((card for pattern, card in self._by_pattern if pattern(model)), self.unknown)

    def price(self, model: str) -> Price | None:
        """Return what *model* costs; None if that is not known."""
        own = (price for matches, price in self._own_prices if matches(model))
        return next(own, self.card(model).price)

    def knows(self, name: str) -> bool:
        """Tell whether *name* goes to the provider as it is."""
        return self._passes(without_mark(name))

    def lists(self, name: str) -> bool:
        """Tell whether *name* is a tier's model, or one that the preset names."""
        return without_mark(name).lower() in self._known

    def listed(self) -> tuple[str, ...]:
        """Return the tiers' models, then those that the preset names."""
        patterns = (card.pattern for card in self.cards)
        named = (pattern for pattern in patterns if not any(sign in pattern for sign in "*?["))
        return tuple(dict.fromkeys((*self.tiers(), *named)))

    def tiers(self) -> tuple[str, ...]:
        """Return the models of the tiers, each once, biggest first."""
        return tuple(dict.fromkeys(name for name in (self.big, self.middle, self.small) if name))

    # Put together once: every request asks for them.

    @cached_property
    def _by_pattern(self) -> tuple[tuple[_Matches, ModelCard], ...]:
        return tuple((_matcher(card.pattern), card) for card in self.cards)

    @cached_property
    def _own_prices(self) -> tuple[tuple[_Matches, Price], ...]:
        return tuple((_matcher(pattern), price) for pattern, price in self.prices)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(name.lower() for name in self.listed())

    @cached_property
    def _pass(self) -> tuple[_Matches, ...]:
        return tuple(_matcher(pattern) for pattern in self.pass_patterns)

    def _passes(self, name: str) -> bool:
        return name.lower() in self._known or any(matches(name) for matches in self._pass)

    def _tier(self, name: str) -> str | None:
        wanted = name.lower()
        if "haiku" in wanted:
            return self.small
        return self.middle if "sonnet" in wanted else self.big


def without_mark(name: str) -> str:
    """Cut Claude Code's `[1m]` off *name*."""
    stripped = name.strip()
    if stripped.lower().endswith(LONG_WINDOW_MARK):
        return stripped[: -len(LONG_WINDOW_MARK)].rstrip()
    return stripped


def _matcher(pattern: str) -> _Matches:
    return re.compile(translate(pattern), re.IGNORECASE).match
