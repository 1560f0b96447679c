"""
Decide which entry and model answer a request, without I/O.

In order of precedence:

1. A name from a peer is used unchanged, because the first entry has already applied the rules.
2. `LABEL:model` is used unchanged, except for tiers of the receiving entry, which sessions of
   `ccproxy run` name this way.
3. The rules in `[routes.LABEL]`, if any.
4. The tiers of the last switch, otherwise those of the env file.

The result may be another entry's model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ccproxy.errors import Problem, UsageError
from ccproxy.protocol.messages import check_model, read_request
from ccproxy.routing.entry_references import FleetModels
from ccproxy.routing.names import (
    NO_TIERS,
    ModelRef,
    RoutingEntry,
    Tiers,
    is_own_name,
    model_after_label,
    model_for,
    parse_ref,
    tier_named,
    tier_of,
    unknown_label,
)
from ccproxy.routing.rules import (
    LOOP,
    NO_ROUTING,
    UNDECIDED,
    Decision,
    RequestFacts,
    Routing,
    decide,
    request_facts,
)
from ccproxy.routing.switching import ModelSwitch
from ccproxy.routing.tiers import without_mark

_MAX_REFERENCES = 3


@dataclass(frozen=True, slots=True)
class Destination:
    """The model of this entry that answers a request, or a reference to another entry."""

    model: str | None
    ref: ModelRef | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The decision for a recorded request, which is not sent."""

    requested: str
    model: str
    """The model that would answer, as `LABEL:model`."""
    reason: str
    facts: RequestFacts
    fallback: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """Makes the routing decisions of one entry."""

    config: RoutingEntry
    labels: Mapping[str, str]
    """The labels of the table, by their lower-case form."""
    switch: ModelSwitch
    fleet_models: FleetModels[RoutingEntry]
    routing: Routing = NO_ROUTING

    @property
    def has_rules(self) -> bool:
        """Whether a rule may depend on the content of a request."""
        return not self.routing.is_empty

    def for_peer(self, name: str, requested: str) -> Destination:
        """Decide for another entry's request; *requested* is the client's original model name."""
        check_model(name)
        return Destination(*self._locate(self._after_label(name, requested), requested))

    def for_client(self, name: str, body: bytes, headers: Mapping[str, str] | None) -> Destination:
        """
        Decide for a client's request for *name*; without *headers*, the rules are skipped.

        Raises:
            Problem: If the name is too long, its entry does not exist, *body* is not a request, or
                names form a cycle.
        """
        check_model(name)
        decision = self._decide(name, body, headers)
        return Destination(*self._locate(decision.model or name, name), decision.reason)

    def explain(
        self, body: bytes, headers: Mapping[str, str], *, fallback: Sequence[str]
    ) -> Explanation:
        """
        Return the model that would answer a recorded request, and the reason.

        Raises:
            UsageError: If *body* is not a request, or no entry can answer it.
        """
        lower = {name.lower(): value for name, value in headers.items()}
        try:
            request = read_request(body)
            destination = self.for_client(without_mark(request.model), body, lower)
            facts = request_facts(request, lower)
        except Problem as problem:
            raise UsageError(problem.message) from problem
        ref = destination.ref or f"{self.config.label}:{destination.model}"
        return Explanation(
            requested=request.model,
            model=str(ref),
            reason=destination.reason or "no rule matches",
            facts=facts,
            fallback=tuple(fallback),
        )

    # The requested model

    def _decide(self, name: str, body: bytes, headers: Mapping[str, str] | None) -> Decision:
        labels = self.labels
        ref = parse_ref(name, labels)
        if ref is not None and not self._is_own_tier(ref):
            return Decision(name, "named")
        if text := unknown_label(name, labels):
            text = f"{name}: {text}; the labels are {', '.join(labels.values())}"
            raise Problem("not_found_error", text)
        is_fixed = ref is None and is_own_name(self.config.models, name)
        decision = UNDECIDED if is_fixed else self._apply_rules(name, body, headers, ref)
        if decision.model is not None:
            if parse_ref(decision.model, labels) is not None:
                return decision
            return Decision(self._after_label(decision.model, name), decision.reason)
        switch = self.switch
        model = self._model_of(ref, name, switch.tiers)
        tier = tier_of(self.config.models, name)
        if switch.name and model != self._model_of(ref, name, NO_TIERS):
            return Decision(model, f"{tier} of {switch.name}")
        is_elsewhere = parse_ref(model, labels) is not None
        return Decision(model, tier if is_elsewhere else "")

    def _apply_rules(
        self, name: str, body: bytes, headers: Mapping[str, str] | None, ref: ModelRef | None
    ) -> Decision:
        routing = self.routing
        if routing.is_empty or headers is None:
            return UNDECIDED
        routing = routing.with_threshold(self.config.long_context_threshold)
        facts = request_facts(read_request(body), headers)
        if ref is not None and tier_named(ref.model) == "small":
            facts = replace(facts, background=True)  # ccproxy's sessions use this name for haiku
        return decide(routing, facts, window=lambda model: self._window(model, name))

    def _is_own_tier(self, ref: ModelRef) -> bool:
        is_own = ref.label.lower() == self.config.label.lower()
        return is_own and tier_named(ref.model) is not None

    def _model_of(self, ref: ModelRef | None, name: str, switched: Tiers) -> str:
        """Return the model for *name*, or for *ref* if it is a tier of this entry."""
        models = self.config.models
        if ref is None:
            return model_for(models, switched, name)
        return model_after_label(models, switched, ref.model, requested=name)

    def _window(self, model: str | None, name: str) -> int | None:
        """Return the window of *model* (by default the model for *name*), at whichever entry."""
        ref = parse_ref(name, self.labels)
        model = model or self._model_of(ref, name, self.switch.tiers)
        ref = parse_ref(model, self.labels) or ModelRef(self.config.label, model)
        target = self.fleet_models.chain(ref, requested=name).target
        return None if target is None else target.window

    # The entry of the model

    def _after_label(self, name: str, requested: str) -> str:
        return model_after_label(self.config.models, self.switch.tiers, name, requested=requested)

    def _locate(self, name: str, requested: str) -> tuple[str | None, ModelRef | None]:
        """Return this entry's model that answers, or a reference to another entry."""
        for _ in range(_MAX_REFERENCES):
            ref = parse_ref(name, self.labels)
            if ref is None:
                return name, None
            if ref.label.lower() != self.config.label.lower():
                return None, ref
            name = self._after_label(ref.model, requested)
        raise Problem(
            "api_error",
            f"{self.config.label}: the model {name} refers to itself; check BIG_MODEL, "
            "MIDDLE_MODEL and SMALL_MODEL, and the last ccproxy switch",
            status=LOOP,
            should_retry=False,
        )
