"""
Who answers a request, by everything that the user's files say: the decision itself, without I/O.

In order:

1. From a sibling: the name is meant as it is written; rules are not asked again.
2. `LABEL:model` is meant as it is written.
3. The rules of `[routes.LABEL]`, if there are any.
4. The tiers: those of the last switch, else the env file's.

Whatever comes out may be another entry's model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ccproxy.config.answering import Map
from ccproxy.config.choices import Choices, unknown_place
from ccproxy.config.switches import NO_SWITCH, Switch
from ccproxy.config.worker import WorkerConfig
from ccproxy.errors import Problem
from ccproxy.protocol.messages import read_request
from ccproxy.routing.names import (
    Place,
    is_own_name,
    model_behind_label,
    model_for,
    place_of,
    tier_of,
)
from ccproxy.routing.rules import LOOP, UNDECIDED, Decision, decide, facts_of

_DEEPEST = 3


@dataclass(frozen=True, slots=True)
class Decided:
    """Who answers: a model of this entry, or a place elsewhere; and why, if there is a reason."""

    model: str | None
    place: Place | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """Decides for one entry."""

    config: WorkerConfig
    labels: Mapping[str, str]
    """Of the table, by lower case."""
    choices: Choices
    switch: Switch
    map: Map
    """Finds the way to who answers in the end."""

    def for_sibling(self, name: str, asked: str) -> Decided:
        """Decide for a request that another entry has sent here; *asked* is the client's word."""
        return Decided(*self._found(self._behind_label(name, asked), asked))

    def for_client(self, name: str, body: bytes, headers: Mapping[str, str] | None) -> Decided:
        """
        Decide for a client's request for *name*; without *headers*, rules are not asked.

        Raises:
            Problem: If there is no such entry, the body is no request, or names lead in circles.

        """
        wanted = self._wanted(name, body, headers)
        return Decided(*self._found(wanted.model or name, name), wanted.reason)

    # What the client wants...

    def _wanted(self, name: str, body: bytes, headers: Mapping[str, str] | None) -> Decision:
        labels, models = self.labels, self.config.models
        if place_of(name, labels) is not None:
            return Decision(name, "named")
        if wrong := unknown_place(name, labels):
            known = ", ".join(labels.values())
            raise Problem("not_found_error", f"{name}: {wrong}; labels are {known}")
        decision = self._by_rules(name, body, headers)
        if decision.model is not None:
            if place_of(decision.model, labels) is not None:
                return decision
            return Decision(self._behind_label(decision.model, name), decision.reason)
        switch = self.switch
        model = model_for(models, switch.tiers, name)
        is_elsewhere = place_of(model, labels) is not None
        tier = tier_of(models, name)
        if switch.name and model != model_for(models, NO_SWITCH.tiers, name):
            return Decision(model, f"{tier} of {switch.name}")
        return Decision(model, tier if is_elsewhere else "")

    def _by_rules(self, name: str, body: bytes, headers: Mapping[str, str] | None) -> Decision:
        routing = self.choices.routing(self.config.label)
        if routing.is_empty or headers is None or is_own_name(self.config.models, name):
            return UNDECIDED
        routing = routing.with_threshold(self.config.long_context_threshold)
        facts = facts_of(read_request(body), headers)
        return decide(routing, facts, window=lambda model: self._window(model, name))

    def _window(self, model: str | None, name: str) -> int | None:
        """Return the window of *model*, wherever it is; None: of who answers to *name*."""
        model = model or model_for(self.config.models, self.switch.tiers, name)
        place = place_of(model, self.labels) or Place(self.config.label, model)
        target = self.map.way(place, asked=name).target
        return None if target is None else target.window

    # ...and where that is.

    def _behind_label(self, name: str, asked: str) -> str:
        return model_behind_label(self.config.models, self.switch.tiers, name, asked=asked)

    def _found(self, name: str, asked: str) -> tuple[str | None, Place | None]:
        """Return the model that answers here, or the place elsewhere."""
        for _ in range(_DEEPEST):
            place = place_of(name, self.labels)
            if place is None:
                return name, None
            if place.label.lower() != self.config.label.lower():
                return None, place
            name = self._behind_label(place.model, asked)
        raise Problem(
            "api_error",
            f"{self.config.label}: the model {name} leads back to itself: look at BIG_MODEL, "
            "MIDDLE_MODEL and SMALL_MODEL, and at ccproxy switch",
            status=LOOP,
            should_retry=False,
        )
