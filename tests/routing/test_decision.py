"""The decision which entry and model answer a request."""

from __future__ import annotations

import json

import pytest

from ccproxy.errors import Problem, UsageError
from ccproxy.providers.cards import ModelCard
from ccproxy.routing.decision import Decider
from ccproxy.routing.names import ModelRef, Tiers
from ccproxy.routing.rules import LongContext, Routing
from ccproxy.routing.switching import NO_SWITCH, ModelSwitch
from ccproxy.routing.tiers import ModelMap
from tests.routing.entries import Entry, fleet_models, labels_of

CARD = ModelCard(pattern="k2.5")
ENTRIES = {
    "Kimi": Entry(
        label="Kimi",
        models=ModelMap(big="k3", middle="GLM:big", small="mini", cards=(CARD,)),
        window=1000,
    ),
    "GLM": Entry(label="GLM", models=ModelMap(big="glm-5", middle=None, small=None), window=9000),
    "Loop": Entry(label="Loop", models=ModelMap(big="Loop:big", middle=None, small=None)),
}
SWITCH = ModelSwitch(tiers=Tiers(big="GLM:glm-5", small="k2.5"), preset="cheap")
SUBAGENT = {"x-claude-code-agent-id": "a1"}


def decider(label="Kimi", *, switch=NO_SWITCH, long_context=None, **rules):
    return Decider(
        config=ENTRIES[label],
        labels=labels_of(ENTRIES),
        switch=switch,
        fleet_models=fleet_models(ENTRIES),
        routing=Routing(rules=rules, long_context=long_context),
    )


def body(text="hi", model="claude-opus-5", **more):
    message = {"role": "user", "content": text}
    return json.dumps({"model": model, "max_tokens": 9, "messages": [message], **more}).encode()


def decide(name, *, headers=None, **how):
    chosen = decider(**how).for_client(name, body(), {} if headers is None else headers)
    return str(chosen.ref or chosen.model), chosen.reason


@pytest.mark.parametrize(
    ("name", "switch", "expected"),
    [
        pytest.param("claude-opus-5", NO_SWITCH, ("k3", ""), id="a tier of the env file"),
        pytest.param("claude-sonnet-5", NO_SWITCH, ("GLM:big", "middle"), id="at another entry"),
        pytest.param("claude-opus-5", SWITCH, ("GLM:glm-5", "big of cheap"), id="switched"),
        pytest.param("claude-sonnet-5", SWITCH, ("GLM:big", "middle"), id="not switched"),
        pytest.param("k2.5", SWITCH, ("k2.5", ""), id="a model of the provider is no tier"),
        pytest.param("GLM:other", NO_SWITCH, ("GLM:other", "named"), id="named with its entry"),
        pytest.param("kimi:k9", SWITCH, ("k9", "named"), id="named at this entry"),
        pytest.param("Kimi:small", SWITCH, ("k2.5", "small of cheap"), id="a tier of this entry"),
        pytest.param("GLM:small", SWITCH, ("GLM:small", "named"), id="a tier of another one"),
    ],
)
def test_names_without_rules(name, switch, expected):
    assert decide(name, switch=switch) == expected


@pytest.mark.parametrize(
    ("name", "headers", "routing", "expected"),
    [
        pytest.param("claude-opus-5", SUBAGENT, {"subagent": "GLM:big"}, "GLM:big", id="entry"),
        pytest.param("claude-opus-5", SUBAGENT, {"subagent": "small"}, "mini", id="tier"),
        pytest.param("claude-opus-5", {}, {"subagent": "small"}, "k3", id="no rule matches"),
        pytest.param("k2.5", SUBAGENT, {"subagent": "small"}, "k2.5", id="an exact model"),
        pytest.param("GLM:x", SUBAGENT, {"subagent": "small"}, "GLM:x", id="a named entry"),
        pytest.param("Kimi:small", {}, {"background": "k2.5"}, "k2.5", id="haiku of a session"),
        pytest.param("Kimi:big", {}, {"background": "k2.5"}, "k3", id="not another tier"),
    ],
)
def test_rules_precede_tiers(name, headers, routing, expected):
    assert decide(name, headers=headers, **routing)[0] == expected


def test_rules_need_the_headers():
    chosen = decider(subagent="small").for_client("claude-opus-5", body(), None)
    assert chosen.model == "k3"


def test_a_prompt_that_exceeds_the_window_goes_to_the_long_context_model():
    rule = LongContext(model="GLM:big")
    long = decider(long_context=rule).for_client("claude-opus-5", body("word " * 4000), {})
    assert str(long.ref) == "GLM:big"
    assert decide("claude-opus-5", long_context=rule)[0] == "k3"


def test_rules_make_a_decider_read_the_request():
    assert decider(subagent="small").has_rules
    assert not decider().has_rules


def test_a_peer_names_a_tier_or_a_model():
    assert decider().for_peer("big", "claude-opus-5").model == "k3"
    assert decider(switch=SWITCH).for_peer("big", "x").ref == ModelRef("GLM", "glm-5")
    assert decider("GLM").for_peer("small", "claude-opus-5").model == "glm-5"


def test_an_unknown_label_before_a_tier_is_an_error():
    with pytest.raises(Problem, match=r'there is no proxy "Lost".*the labels are Kimi, GLM'):
        decide("Lost:big")


def test_a_model_that_refers_to_itself_is_an_error():
    with pytest.raises(Problem, match=r"Loop: the model Loop:big refers to itself") as caught:
        decide("claude-opus-5", label="Loop")
    assert caught.value.should_retry is False


# The explanation of a recorded request.


def test_an_explanation_names_the_model_with_its_entry():
    explained = decider(subagent="small").explain(
        body(), {"X-Claude-Code-Agent-Id": "a1"}, fallback=["GLM"]
    )
    assert (explained.model, explained.reason) == ("Kimi:mini", "subagent")
    assert (explained.requested, explained.fallback) == ("claude-opus-5", ("GLM",))
    assert explained.facts.kind == "subagent"


def test_an_explanation_reports_that_no_rule_matches():
    assert decider().explain(body(), {}, fallback=()).reason == "no rule matches"


@pytest.mark.parametrize("bad", [b"{", body(model="Lost:big")])
def test_an_unanswerable_request_is_explained_as_an_error(bad):
    with pytest.raises(UsageError):
        decider().explain(bad, {}, fallback=())


def test_a_long_name_is_refused():
    """Names are used as cache keys, so their length is limited."""
    with pytest.raises(Problem, match="at most 256 characters"):
        decider().for_client("x" * 257, body(), {})
    with pytest.raises(Problem, match="at most 256 characters"):
        decider().for_peer("x" * 257, "x")
