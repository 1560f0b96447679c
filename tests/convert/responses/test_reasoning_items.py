"""Reasoning is stored in the thinking block's signature, and returns only to its producer."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from msgspec import structs

from ccproxy.convert.responses.learning import Refusals
from ccproxy.convert.responses.request import to_responses
from ccproxy.convert.responses.stream import ResponsesToMessageStream
from ccproxy.errors import Problem, ProviderRefusal
from ccproxy.protocol.messages import read_request
from ccproxy.protocol.responses import decode_event, decode_response
from ccproxy.providers.quirks import Quirks, Target
from tests.asking import SIGNER, encode, request, result, user
from tests.chat_answers import context
from tests.grammar import assemble
from tests.responses_answers import call, events_of, message, reasoning, response
from tests.responses_rules import violations

HOME = {"provider": "acme", "model": "up-1", "endpoint": "e1"}


def target(**changes):
    quirks = Quirks(tool_ids="responses", reasoning="effort", encrypted_reasoning=True)
    return Target(**(HOME | changes), api="responses", quirks=quirks)


def answer(whole, *, streamed=False):
    """Return the assistant's message, which the client receives and sends back."""
    machine = ResponsesToMessageStream(context(target=target(), signer=SIGNER))
    if streamed:
        events = []
        for each in events_of(whole):
            events += machine.feed(decode_event(json.dumps(each).encode()))
    else:
        events = machine.feed_response(decode_response(json.dumps(whole).encode()))
    content = assemble(events + machine.close())["content"]
    return {"role": "assistant", "content": content}


def sent_back(turn, *, to=None, refusals=None, results=("call_1",)):
    """Return the items of the answer in the next request."""
    last = user(*[result(call_id) for call_id in results]) if results else user("Next")
    read = read_request(encode(request(user("Go"), turn, last)))
    options = {} if refusals is None else {"refusals": refusals}
    body = json.loads(to_responses(read, to or target(), signer=SIGNER, **options).body)
    assert violations(body) == []
    return body["input"][1 : -max(1, len(results))]


CALL = {k: v for k, v in call("Read", {"path": "a"}).items() if k not in ("id", "status")}
CALL["arguments"] = '{"path":"a"}'
ANSWER = response(
    reasoning("First.", "Second: ☃", encrypted="gAAA=="),
    message("I look."),
    reasoning(encrypted="gBBB"),
    call("Read", {"path": "a"}),
)
FIRST = {
    "type": "reasoning",
    "summary": [
        {"type": "summary_text", "text": "First."},
        {"type": "summary_text", "text": "Second: ☃"},
    ],
    "encrypted_content": "gAAA==",
}
REMARK = {"type": "message", "role": "assistant", "content": "I look."}
SECOND = {"type": "reasoning", "summary": [], "encrypted_content": "gBBB"}


@pytest.mark.parametrize("streamed", [False, True])
def test_reasoning_is_returned_unchanged_and_in_its_place(streamed):
    assert sent_back(answer(ANSWER, streamed=streamed)) == [FIRST, REMARK, SECOND, CALL]


@pytest.mark.parametrize(
    "change",
    [{"provider": "other"}, {"model": "up-2"}, {"endpoint": "e2"}],
    ids=["provider", "model", "endpoint"],
)
def test_reasoning_is_never_sent_to_another_model(change):
    assert sent_back(answer(ANSWER), to=target(**change)) == [REMARK, CALL]


def test_only_messages_have_a_phase():
    quirks = structs.replace(target().quirks, message_phase=True)
    items = sent_back(answer(ANSWER), to=replace(target(), quirks=quirks))
    assert [item.get("phase") for item in items] == [None, "commentary", None, None]


def test_reasoning_is_sent_again_after_a_turn_of_another_provider():
    output = answer(ANSWER)
    sent_back(output, to=target(provider="other"))
    assert sent_back(output) == [FIRST, REMARK, SECOND, CALL]


@pytest.mark.parametrize("signature", ["", "EqQBCkYIBBgCKkDq8V3nQ0m", "ccproxy1.AAAAbm90IG91cnM"])
def test_foreign_signatures_are_never_sent(signature):
    output = answer(ANSWER)
    for block in output["content"]:
        if block["type"] == "thinking":
            block["signature"] = signature
    assert sent_back(output) == [REMARK, CALL]


def test_a_cut_signature_is_foreign():
    output = answer(ANSWER)
    output["content"][0]["signature"] = output["content"][0]["signature"][:-3]
    assert sent_back(output) == [REMARK, SECOND, CALL]


def test_reasoning_whose_followers_the_client_dropped_is_left_out():
    output = answer(ANSWER)
    output["content"] = [block for block in output["content"] if block["type"] != "tool_use"]
    assert sent_back(output, results=()) == [FIRST, REMARK]
    output["content"] = output["content"][:1]
    assert sent_back(output, results=()) == []


def test_a_summary_that_the_client_changed_is_one_part():
    output = answer(ANSWER)
    output["content"][0]["thinking"] = "Shorter"
    assert sent_back(output)[0]["summary"] == [{"type": "summary_text", "text": "Shorter"}]


@pytest.mark.parametrize("summary", [(), ("A plan.",)])
def test_encrypted_content_of_the_final_event_is_carried(summary):
    """Azure sends it only there, after the block is closed and the call is written."""
    late = reasoning(*summary, encrypted="gLATE")
    machine = ResponsesToMessageStream(context(target=target(), signer=SIGNER))
    events = []
    for each in events_of(response(late, call("Read", {"path": "a"}))):
        if each["type"] == "response.output_item.done":
            each["item"] = {**each["item"], "encrypted_content": None}
        events += machine.feed(decode_event(json.dumps(each).encode()))
    output = {"role": "assistant", "content": assemble(events + machine.close())["content"]}
    parts = [{"type": "summary_text", "text": part} for part in summary]
    item = {"type": "reasoning", "summary": parts, "encrypted_content": "gLATE"}
    assert sent_back(output) == [item, CALL]


def test_the_ciphertext_of_the_added_event_is_not_final():
    machine = ResponsesToMessageStream(context(target=target(), signer=SIGNER))
    events = []
    for each in events_of(ANSWER):
        if each["type"] == "response.output_item.added" and each["item"]["type"] == "reasoning":
            each["item"] = {**each["item"], "encrypted_content": "gSHORT"}
        events += machine.feed(decode_event(json.dumps(each).encode()))
    output = {"role": "assistant", "content": assemble(events + machine.close())["content"]}
    assert sent_back(output) == [FIRST, REMARK, SECOND, CALL]


# Refusals.


def problem(text, code="", parameter="", status=400):
    refusal = ProviderRefusal(
        status=status, text=text, codes=frozenset(filter(None, [code])), parameter=parameter
    )
    return Problem("invalid_request_error", text, status=status, refusal=refusal)


def body_of(turn, refusals):
    read = read_request(
        encode(request(user("Go"), turn, user(result("call_1")), thinking={"type": "adaptive"}))
    )
    return to_responses(read, target(), signer=SIGNER, refusals=refusals).body


@pytest.mark.parametrize(
    "refused",
    [
        problem(
            "The encrypted content for item rs_1 could not be verified. Reason: Encrypted content "
            "organization_id did not match the target organization.",
            "invalid_encrypted_content",
        ),
        problem("Encrypted content could not be decrypted or parsed."),
        problem("The encrypted reasoning was created for a different account or model"),
        problem("reasoning encrypted_content was not issued to this caller"),
    ],
    ids=["OpenAI", "without a code", "Bedrock", "a gateway"],
)
def test_refused_reasoning_is_left_out_of_later_requests(refused):
    refusals = Refusals()
    output = answer(ANSWER)
    assert refusals.learn(refused, body_of(output, refusals), "up-1")
    assert sent_back(output, refusals=refusals) == [REMARK, CALL]
    assert not refusals.learn(refused, body_of(output, refusals), "up-1"), "nothing is left to drop"
    later = answer(response(reasoning(encrypted="gNEW"), call("Read", {"path": "a"})))
    assert sent_back(later, refusals=refusals)[0]["encrypted_content"] == "gNEW"


@pytest.mark.parametrize(
    ("refused", "path"),
    [
        (
            problem(
                "Your organization must be verified to generate reasoning summaries.",
                "unsupported_value",
                "reasoning.effort",
            ),
            ("reasoning", "effort"),
        ),
        (
            problem("Encrypted content is not supported with this model.", "", "include"),
            ("include",),
        ),
        (problem("Unknown parameter: 'include'."), ("include",)),
        (problem("'max_output_tokens' is not supported"), ("max_output_tokens",)),
    ],
)
def test_a_parameter_that_was_refused_is_left_out(refused, path):
    def value(body):
        matches = json.loads(body)
        for key in path:
            matches = matches.get(key, {})
        return matches

    refusals = Refusals()
    output = answer(ANSWER)
    read = read_request(
        encode(request(user("Go"), output_config={"effort": "low"}, thinking={"type": "adaptive"}))
    )
    before = to_responses(read, target(), signer=SIGNER, refusals=refusals).body
    assert value(before)
    assert refusals.learn(refused, before, "up-1")
    assert not value(to_responses(read, target(), signer=SIGNER, refusals=refusals).body)
    other = to_responses(read, target(model="up-2"), signer=SIGNER, refusals=refusals).body
    assert value(other), "it was learned of one model only"
    assert output


@pytest.mark.parametrize(
    "refused",
    [
        problem("Unknown parameter: 'input[1].colour'.", "unknown_parameter", "input[1].colour"),
        problem("Unknown parameter: 'store'.", "unknown_parameter", "store"),
        problem("Rate limit reached", status=429),
        Problem("invalid_request_error", "ours"),
    ],
    ids=["inside the input", "store", "a rate limit", "an error of ours"],
)
def test_other_refusals_teach_nothing(refused):
    assert not Refusals().learn(refused, b'{"input":[],"store":false}', "up-1")
