"""Model cards: limits, price and quirks of models, by name pattern."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import translate

from ccproxy.providers.pricing import Price
from ccproxy.providers.quirks import PLAIN, Quirks

NameMatcher = Callable[[str], re.Match[str] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Facts about the models that `pattern` matches; None where a fact is unknown."""

    pattern: str = "*"
    window: int | None = None
    """Context window in tokens."""
    max_output: int | None = None
    """Largest number of tokens in one answer."""
    price: Price | None = None
    quirks: Quirks = PLAIN


UNKNOWN_MODEL = ModelCard()
"""The card of a model of which nothing is known."""


def name_matcher(pattern: str) -> NameMatcher:
    """Compile a glob *pattern* of model names; case is ignored."""
    return re.compile(translate(pattern), re.IGNORECASE).match
