"""Responses requests for providers of that API: changed and unchanged parts."""

from __future__ import annotations

import json

import pytest

from ccproxy.convert.openai_clients.response_writer import KEEP_ALIVE
from ccproxy.convert.openai_clients.responses_passthrough import ResponsesPassthrough
from ccproxy.errors import BadAnswer, Problem, ProviderRefusal
from ccproxy.protocol import sse
from ccproxy.protocol.responses_request import read_responses_outline
from ccproxy.protocol.sse import Decoder
from tests import responses_answers as answers
from tests.convert.contexts import rules
from tests.responses_answers import events_of
from tests.responses_answers import sse as as_stream

PROBLEM = Problem("overloaded_error", "busy")
REASONING = answers.reasoning("A", encrypted="gAAAA")
WHOLE = answers.response(REASONING, answers.message("Hi"))


def exchange(context=None, data=None, **fields):
    body = data or json.dumps({"model": "up-big", "input": "Hi", "store": False, **fields}).encode()
    outline = read_responses_outline(body)
    fixed = {"rules": context or rules(), "response_id": "resp_0", "created_at": 1}
    return ResponsesPassthrough(body, outline, **fixed)


def passed_request(context=None, **fields):
    return json.loads(exchange(context, **fields).body)


def events_in(data):
    return [json.loads(event.data) for event in Decoder().feed(data)]


def refusal(text, **more):
    fields = {"status": 400, "text": text, "codes": frozenset(), "parameter": "", **more}
    return Problem("invalid_request_error", text, refusal=ProviderRefusal(**fields))


def test_a_request_keeps_its_bytes():
    body = b'{ "model": "up-big", "store": false, "input": "Hi", "x": 1.50}'
    made = exchange(data=body)
    assert (made.body, made.streams, made.known_dropped) == (body, False, ())


@pytest.mark.parametrize("store", [{}, {"store": False}])
def test_half_an_emoji_does_not_end_a_session(store):
    assert passed_request(input="half \ud83d", **store)["input"] == "half \ufffd"


@pytest.mark.parametrize("store", [{}, {"store": None}])
def test_nothing_is_stored_and_claude_names_mean_tiers(store):
    body = passed_request(model="claude-opus-4-1", **store)
    assert (body["store"], body["model"]) == (False, "up-big")


# Reasoning.


def sealed(context=None):
    made = exchange(context)
    item = json.loads(made.whole(json.dumps(WHOLE).encode()))["output"][0]
    assert item["encrypted_content"].startswith("ccproxy1.")
    return item


def test_reasoning_is_returned_unchanged():
    items = [{"role": "user", "content": "Hi"}, sealed(), {**answers.message("Hi"), "id": "msg_1"}]
    assert passed_request(input=items)["input"] == [items[0], REASONING, items[2]]


def test_foreign_reasoning_is_left_out_with_the_ids():
    foreign = answers.reasoning("B", encrypted="gBBBB")
    quoted = {"role": "user", "content": '"encrypted_content"', "encrypted_content": None}
    made = exchange(input=[quoted, foreign, sealed(), answers.call("f", {})])
    items = json.loads(made.body)["input"]
    assert [item.get("type") for item in items] == [None, "reasoning", "function_call"]
    assert not any("id" in item for item in items)
    assert made.dropped == ("input.reasoning",)


def test_an_input_that_is_not_a_list_is_left_to_the_provider():
    assert "input" not in json.loads(
        exchange(data=b'{"model": "up-big", "x": "\\"encrypted_content\\""}').body
    )
    assert passed_request(input={"encrypted_content": "x"})["input"] == {"encrypted_content": "x"}


def test_the_conversation_can_be_identified():
    assert exchange(input=[{"role": "user", "content": "Hi"}]).conversation() is not None


def test_a_text_about_reasoning_is_not_reasoning():
    made = exchange(input='"encrypted_content":')
    assert json.loads(made.body)["input"] == '"encrypted_content":'


def test_a_refused_ciphertext_is_left_out_of_later_requests():
    context = rules(target=_responses_target)
    made = exchange(context, input=[{"role": "user", "content": "Hi"}, sealed(context)])
    stale = refusal("The encrypted content for item rs_1 could not be verified")
    assert made.revise(stale)
    assert len(json.loads(made.body)["input"]) == 1
    assert not made.revise(stale)


def _responses_target(model):
    return rules().target(model)


def test_a_refused_parameter_is_left_out_of_later_requests():
    context = rules()
    made = exchange(context, text={"verbosity": "low", "x": 1}, top_p=1)
    unknown = refusal("Unknown parameter: 'text.verbosity'.", parameter="text.verbosity")
    assert made.revise(unknown)
    assert json.loads(made.body)["text"] == {"x": 1}
    assert passed_request(context, text={"verbosity": "low"}).get("text") is None
    assert not made.revise(refusal("no"))


# Answers.


@pytest.mark.parametrize("size", [1, 50, 10**6])
def test_a_stream_is_passed_on_with_sealed_reasoning(size):
    made = exchange(stream=True)
    data = as_stream(events_of(WHOLE))
    pieces = [made.feed(data[at : at + size]) for at in range(0, len(data), size)]
    events = events_in(b"".join([*pieces, made.close()]))
    assert [event["type"] for event in events] == [event["type"] for event in events_of(WHOLE)]
    done = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    assert done == events[-1]["response"]["output"]
    assert done[0]["encrypted_content"] == sealed()["encrypted_content"]
    assert made.usage["input_tokens"] == WHOLE["usage"]["input_tokens"]


def test_a_whole_answer_without_reasoning_keeps_its_bytes():
    body = json.dumps(answers.response(answers.message("Hi")), indent=1).encode()
    assert exchange().whole(body) == body
    assert exchange().whole(b"[1]") == b"[1]"
    assert exchange().usage == {}


def test_received_output_is_estimated_until_the_provider_reports_usage():
    made = exchange()
    made.feed(as_stream([answers.event("response.output_text.delta", delta="a" * 40)]))
    made.feed(b'data: {"delta":5}\n\n')
    assert made.usage["output_tokens"] == 10


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(b'data: {"type":"response.completed"\n\n', id="invalid JSON"),
        pytest.param(
            b'data: {"x":"\\"encrypted_content\\"","encrypted_content":1}\n\n', id="other"
        ),
        pytest.param(b'data: {"a":1}\ndata: \n\n', id="several lines"),
    ],
)
def test_other_events_are_passed_on(event):
    assert exchange().feed(event) == event


def test_a_stream_without_an_end():
    made = exchange()
    made.feed(as_stream(events_of(WHOLE)[:3]))
    with pytest.raises(BadAnswer):
        made.close()
    (failed,) = events_in(made.fail(PROBLEM))
    assert (failed["type"], failed["response"]["id"]) == ("response.failed", WHOLE["id"])
    assert made.fail(PROBLEM) == b""


def test_a_failure_before_the_beginning():
    created, failed = events_in(exchange().fail(PROBLEM))
    assert created["response"]["id"] == failed["response"]["id"] == "resp_0"
    assert failed["response"]["error"]["code"] == "server_error"


def test_an_error_event_is_an_end():
    made = exchange()
    made.feed(as_stream([answers.event("error", error={"message": "no"})]))
    assert made.close() == b""


def test_keep_alive_is_an_event_while_the_response_is_open():
    made = exchange()
    assert made.keep_alive() == sse.COMMENT
    made.feed(as_stream(events_of(WHOLE)[:1]))
    assert made.keep_alive() == KEEP_ALIVE
    made.feed(as_stream(events_of(WHOLE)[1:]))
    assert made.keep_alive() == sse.COMMENT
