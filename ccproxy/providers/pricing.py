"""Model prices, and the cost of an answer's usage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

PRICES = ("input", "output", "cache_read", "cache_write")
"""The fields of `Price`, in the order in which settings and presets list them."""
_USAGE_FIELDS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)
_prices = attrgetter(*PRICES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars per million tokens; None where the provider publishes no price."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Price:
        """Make a price of two to four *numbers*, in the order of `PRICES`."""
        return cls(**dict(zip(PRICES, numbers, strict=False)))

    def cost(self, usage: Mapping[str, Any]) -> float | None:
        """Return the cost of *usage* in dollars; None if it has tokens without a price."""
        total = 0.0
        for name, price in zip(_USAGE_FIELDS, _prices(self), strict=True):
            tokens = usage.get(name) or 0
            if tokens and price is None:
                return None
            total += tokens * (price or 0.0)
        return total / 1e6
