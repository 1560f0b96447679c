"""
Choose the model that answers a request.

Rules, in order:

1. `[1m]`, Claude Code's suffix for its long context window, is removed.
2. The name of a tier's model, a model listed by the preset, or a name that matches a pass pattern
   is sent to the provider unchanged.
3. A name that contains "haiku" selects SMALL, and "sonnet" selects MIDDLE. All other names,
   including "opus" and unknown names, select BIG.
4. For a tier without a model, the client's name is sent.

Comparisons ignore case; the case of a sent name is preserved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal, cast

from ccproxy.bounded_dict import MAX_MODELS
from ccproxy.providers.cards import UNKNOWN_MODEL, ModelCard, NameMatcher, name_matcher
from ccproxy.providers.catalogue import ModelFacts, row_of, rows_by_name
from ccproxy.providers.pricing import Price

Tier = Literal["big", "middle", "small"]
TIERS: tuple[Tier, ...] = ("big", "middle", "small")

LONG_WINDOW_MARK = "[1m]"


@dataclass(frozen=True, kw_only=True)
class ModelMap:
    """The models of one entry: three tiers, the names sent unchanged, and the model cards."""

    big: str | None
    """If None, the client's model name is sent (the `anthropic` preset)."""
    middle: str | None
    small: str | None
    pass_patterns: tuple[str, ...] = ()
    cards: tuple[ModelCard, ...] = ()
    """The first card with a matching pattern applies."""
    unknown: ModelCard = UNKNOWN_MODEL
    """The card of a model that matches none of `cards`."""
    rows: Mapping[str, ModelFacts] = field(default_factory=dict)
    """The catalogue's facts about individual models."""
    passes_rows: bool = False
    """Whether the names in `rows` are sent unchanged."""
    prices: tuple[tuple[str, Price], ...] = ()
    """The user's prices by name pattern; they override those of the cards."""

    @cached_property
    def pick(self) -> Callable[[str], str]:
        """A cached function that returns the model for a requested name."""
        return lru_cache(maxsize=MAX_MODELS)(self._pick)

    def _pick(self, requested: str) -> str:
        name = without_mark(requested)
        return name if self._passes(name) else self.tier(tier_named_in(name)) or name

    def tier(self, tier: Tier) -> str | None:
        """Return the model for *tier*."""
        return cast("str | None", getattr(self, tier))

    @cached_property
    def card(self) -> Callable[[str], ModelCard]:
        """A cached function that returns the card for the provider's name of a model."""
        return lru_cache(maxsize=MAX_MODELS)(self._card)

    def _card(self, model: str) -> ModelCard:
        card = next((card for matches, card in self._by_pattern if matches(model)), self.unknown)
        facts = row_of(self._rows, model)
        return card if facts is None else card.with_facts(facts)

    def describes(self, model: str) -> bool:
        """Return True if a card or the catalogue describes *model*."""
        has_card = any(matches(model) for matches, _ in self._by_pattern)
        return has_card or row_of(self._rows, model) is not None

    def price(self, model: str) -> Price | None:
        """Return the price of *model*, or None if unknown."""
        own = (price for matches, price in self._own_prices if matches(model))
        return next(own, self.card(model).price)

    def knows(self, name: str) -> bool:
        """Return True if *name* is sent to the provider unchanged."""
        return self._passes(without_mark(name))

    def lists(self, name: str) -> bool:
        """Return True if *name* is a tier's model or listed by the preset."""
        return without_mark(name).lower() in self._listed_names

    def listed(self) -> tuple[str, ...]:
        """Return the models of the tiers, then the other models listed by the preset."""
        patterns = (card.pattern for card in self.cards)
        names = (pattern for pattern in patterns if not any(char in pattern for char in "*?["))
        return tuple(dict.fromkeys((*self.tiers(), *names)))

    def tiers(self) -> tuple[str, ...]:
        """Return the distinct models of the tiers, biggest first."""
        return tuple(dict.fromkeys(name for name in (self.big, self.middle, self.small) if name))

    # Cached, because every request uses them.

    @cached_property
    def _by_pattern(self) -> tuple[tuple[NameMatcher, ModelCard], ...]:
        return tuple((name_matcher(card.pattern), card) for card in self.cards)

    @cached_property
    def _own_prices(self) -> tuple[tuple[NameMatcher, Price], ...]:
        return tuple((name_matcher(pattern), price) for pattern, price in self.prices)

    @cached_property
    def _rows(self) -> Mapping[str, ModelFacts]:
        return rows_by_name(self.rows)

    @cached_property
    def _listed_names(self) -> frozenset[str]:
        return frozenset(name.lower() for name in self.listed())

    @cached_property
    def _pass(self) -> tuple[NameMatcher, ...]:
        return tuple(name_matcher(pattern) for pattern in self.pass_patterns)

    def _passes(self, name: str) -> bool:
        lower = name.lower()
        is_known = lower in self._listed_names or (self.passes_rows and lower in self._rows)
        return is_known or any(matches(name) for matches in self._pass)


def tier_named_in(name: str) -> Tier:
    """Return the tier of a Claude model's *name*."""
    lower = name.lower()
    if "haiku" in lower:
        return "small"
    return "middle" if "sonnet" in lower else "big"


def without_mark(name: str) -> str:
    """Return *name* without Claude Code's `[1m]` suffix and surrounding whitespace."""
    stripped = name.strip()
    if stripped.lower().endswith(LONG_WINDOW_MARK):
        return stripped[: -len(LONG_WINDOW_MARK)].rstrip()
    return stripped
