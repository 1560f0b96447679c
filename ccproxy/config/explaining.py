"""What would become of a recorded request at an entry, and why; nothing is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ccproxy.config.answering import map_of
from ccproxy.config.check import Checked
from ccproxy.config.deciding import Decider
from ccproxy.config.switches import read_switch, switch_path
from ccproxy.errors import Problem, UsageError
from ccproxy.protocol.messages import read_request
from ccproxy.routing.rules import facts_of
from ccproxy.routing.tiers import without_mark


def explain(
    checked: Checked, label: str, body: bytes, headers: Mapping[str, str]
) -> dict[str, Any]:
    """
    Return the model that would answer, the reason, what was seen, and who would stand in.

    Raises:
        UsageError: If *body* is no request, or no entry can answer it.

    """
    lower = {name.lower(): value for name, value in headers.items()}
    decider = Decider(
        config=checked.workers[label],
        labels={known.lower(): known for known in checked.workers},
        choices=checked.choices,
        switch=read_switch(switch_path(checked.fleet.state, label)),
        map=map_of(checked.fleet),
    )
    try:
        request = read_request(body)
        decided = decider.for_client(without_mark(request.model), body, lower)
        facts = facts_of(request, lower)
    except Problem as problem:
        raise UsageError(problem.message) from problem
    place = str(decided.place) if decided.place else f"{label}:{decided.model}"
    return {
        "requested": request.model,
        "model": place,
        "reason": decided.reason or "no rule fits",
        "facts": asdict(facts),
        "fallback": list(checked.choices.fallback(label)),
    }
