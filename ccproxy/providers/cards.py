"""Model cards: the limits, price and quirks of models, by name pattern."""

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
"""Quirks of the Responses API that apply to every provider."""

NameMatcher = Callable[[str], re.Match[str] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Facts about the models that `pattern` matches; None where a fact is unknown."""

    pattern: str = "*"
    window: int | None = None
    """The context window in tokens."""
    max_output: int | None = None
    """The maximum number of output tokens."""
    price: Price | None = None
    quirks: Quirks = PLAIN
    preset_fields: frozenset[str] = frozenset()
    """The names of the quirks that the preset or the card sets."""
    card_fields: frozenset[str] = frozenset()
    """The names of the quirks that the card sets."""
    api: Api | None = None
    """The dialect that the models require; None means the provider's default."""
    responses_quirks: Mapping[str, Any] = field(default_factory=dict)
    """Quirks that override others in the Responses API."""
    facts: ModelFacts | None = None
    """The model's row in the catalogue, or None."""

    def quirks_in(self, api: Api) -> Quirks:
        """Return the quirks that apply in the dialect *api*."""
        if api != "responses":
            return self.quirks
        return msgspec.structs.replace(self.quirks, **_IN_RESPONSES, **self.responses_quirks)

    def with_facts(self, facts: ModelFacts) -> ModelCard:
        """Return the card of one model, with assumptions replaced by its row in the catalogue."""
        api = facts.api or self.api
        changes: dict[str, Any] = {}
        in_responses = dict(self.responses_quirks)
        if facts.images is not None:
            changes["images"] = facts.images
        if facts.images:
            changes["flat_text"] = False
        if facts.always_reasons is not None:
            changes["always_reasons"] = facts.always_reasons
        if facts.pdf is False:  # True does not specify the format that the provider accepts
            changes["pdf"] = in_responses["pdf"] = "text"
        if facts.efforts is not None:
            # The values of the model's own dialect; other dialects may lack some.
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

        The preset's quirks take precedence over *quirks*, and only the card's over *overrides*.
        """
        fields = {
            **{name: value for name, value in quirks.items() if name not in self.preset_fields},
            **{name: value for name, value in overrides.items() if name not in self.card_fields},
        }
        return replace(self, quirks=msgspec.structs.replace(self.quirks, **fields))


UNKNOWN_MODEL = ModelCard()
"""The card of an unknown model."""


@lru_cache(maxsize=1024)
def name_matcher(pattern: str) -> NameMatcher:
    """Compile a glob *pattern* of model names, ignoring case."""
    return re.compile(translate(pattern), re.IGNORECASE).match
