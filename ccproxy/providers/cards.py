"""Model cards: limits, price and quirks of models, by name pattern."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import translate
from functools import lru_cache
from typing import Any

import msgspec

from ccproxy.providers.catalogue import ModelFacts
from ccproxy.providers.pricing import Price
from ccproxy.providers.quirks import PLAIN, Api, Quirks

_IN_RESPONSES: Mapping[str, Any] = {
    "cache_control": False,
    "effort_with_tools": True,
    "tool_ids": "responses",
    "usage_without_reasoning": False,
}
"""Facts of the Responses API that hold for every provider."""

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
    preset_fields: frozenset[str] = frozenset()
    """Names of the quirks that the preset or the card sets."""
    card_fields: frozenset[str] = frozenset()
    """Names of the quirks that the card sets."""
    api: Api | None = None
    """The dialect in which the models must be asked; None: the provider's."""
    responses_quirks: Mapping[str, Any] = field(default_factory=dict)
    """Quirks that replace others when the models are asked in the Responses API."""
    facts: ModelFacts | None = None
    """The row of the catalogue; None if the model has none."""

    def quirks_in(self, api: Api) -> Quirks:
        """Return the quirks that hold in the dialect *api*."""
        if api != "responses":
            return self.quirks
        return msgspec.structs.replace(self.quirks, **_IN_RESPONSES, **self.responses_quirks)

    def with_facts(self, facts: ModelFacts) -> ModelCard:
        """Return the card of one model; its row in the catalogue replaces assumptions."""
        api = facts.api or self.api
        changes: dict[str, Any] = {}
        in_responses = dict(self.responses_quirks)
        if facts.images is not None:
            changes["images"] = facts.images
        if facts.images:
            changes["flat_text"] = False
        if facts.always_reasons is not None:
            changes["always_reasons"] = facts.always_reasons
        if facts.pdf is False:  # True does not tell in which form the provider takes it
            changes["pdf"] = in_responses["pdf"] = "text"
        if facts.efforts is not None:
            # The words of the model's own dialect; the other one may lack some.
            (in_responses if api == "responses" else changes)["efforts"] = facts.efforts
        return replace(
            self,
            window=facts.prompt_window or self.window,
            max_output=facts.max_output or self.max_output,
            price=facts.price or self.price,
            api=api,
            quirks=msgspec.structs.replace(self.quirks, **changes),
            responses_quirks=in_responses,
            card_fields=self.card_fields | changes.keys(),
            facts=facts,
        )

    def with_family(self, quirks: Mapping[str, Any], overrides: Mapping[str, Any]) -> ModelCard:
        """
        Return the card with the quirks of a model family.

        *quirks* yield to those of the preset, *overrides* only to those of the card.
        """
        fields = {
            **{name: value for name, value in quirks.items() if name not in self.preset_fields},
            **{name: value for name, value in overrides.items() if name not in self.card_fields},
        }
        return replace(self, quirks=msgspec.structs.replace(self.quirks, **fields))


UNKNOWN_MODEL = ModelCard()
"""The card of a model of which nothing is known."""


@lru_cache(maxsize=1024)
def name_matcher(pattern: str) -> NameMatcher:
    """Compile a glob *pattern* of model names; case is ignored."""
    return re.compile(translate(pattern), re.IGNORECASE).match
