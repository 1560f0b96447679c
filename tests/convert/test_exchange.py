"""One request in chat mode, and its answer, without a network."""

from __future__ import annotations

import json

import pytest

from ccproxy.convert.exchange import Exchange
from ccproxy.convert.prompt_prefix import first_change
from ccproxy.errors import Problem, ProviderRefusal
from ccproxy.providers.quirks import Quirks, Target
from tests import grammar
from tests.convert.contexts import rules
from tests.messages import prompt
from tests.provider import chunk
from tests.replies import data_line

CACHED = {"cached_tokens": 9}
USAGE = {"prompt_tokens": 400, "completion_tokens": 3, "prompt_tokens_details": CACHED}
DONE = b"data: [DONE]\n\n"


def exchange(body=None, *, shared=None, **limits):
    data = body if isinstance(body, bytes) else json.dumps(body or prompt()).encode()
    return Exchange(data, rules=shared or rules(**limits), message_id="msg_1")


def answer_body(text="hi", **more):
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": USAGE, **more}).encode()


# The request.


@pytest.mark.parametrize(
    ("requested", "model"),
    [("claude-opus-4-1", "up-big"), ("claude-haiku-4-5", "up-small"), ("up-small", "up-small")],
)
def test_the_model_is_picked_by_name(requested, model):
    request = exchange({**prompt(), "model": requested})
    assert (request.requested, request.model) == (requested, model)
    assert json.loads(request.body)["model"] == model


def test_half_an_emoji_is_replaced_for_all_readers():
    request = exchange(b'{"x":1,' + json.dumps(prompt("\ud83d")).encode()[1:])
    assert "x" in request.dropped
    assert json.loads(request.asked)["messages"][0]["content"] == "\ufffd"


@pytest.mark.parametrize("streams", [True, False, None])
def test_a_stream_is_requested_as_the_client_does(streams):
    request = exchange(prompt(stream=streams))
    assert request.streams is bool(streams)
    assert request.asks_stream is bool(streams)
    assert json.loads(request.body).get("stream", False) is bool(streams)


@pytest.mark.parametrize(
    ("limits", "goal", "expected"),
    [
        pytest.param({}, 50_000, 50_000, id="no limit by default"),
        pytest.param({"most_tokens": 4096}, 50_000, 4096, id="the user's limit"),
        pytest.param({"most_tokens": 4096}, 100, 100, id="below it"),
        pytest.param({"least_tokens": 500}, 100, 500, id="the user's minimum"),
        pytest.param({"max_output": 8192}, 50_000, 8192, id="the model's limit"),
        pytest.param({"max_output": 300, "least_tokens": 500}, 100, 300, id="the model's wins"),
    ],
)
def test_max_tokens_are_clamped(limits, goal, expected):
    request = exchange(prompt(max_tokens=goal), **limits)
    assert json.loads(request.body)["max_tokens"] == expected


def test_dropped_fields_are_reported():
    assert "container" in exchange(prompt(container="c1")).dropped


def test_chat_completions_remove_no_reasoning():
    assert exchange(prompt()).removed_reasoning == ()


def test_prompts_of_two_exchanges_can_be_compared():
    before, now = exchange(prompt("one")).prompt(), exchange(prompt("two")).prompt()
    change = first_change(before.condense(), now)
    assert change is not None
    assert change.block == "messages[0]"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model":1}', b'{"model":"m","messages":[]}'])
def test_a_bad_request_is_a_problem(body):
    with pytest.raises(Problem) as refused:
        exchange(body)
    assert refused.value.status == 400


# Prompts that are too long.

LONG = "word " * 3000


def test_a_request_far_over_the_window_is_refused_in_the_wording_for_compaction():
    with pytest.raises(Problem, match=r"prompt is too long: \d+ tokens > 1000 maximum") as refused:
        exchange(prompt(LONG), window=1000)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("text", "window"),
    [
        pytest.param(LONG, None, id="unknown window"),
        pytest.param(LONG, 100_000, id="room enough"),
        pytest.param(LONG, 3500, id="the provider decides near the limit"),
        pytest.param("CRITICAL: Respond with TEXT ONLY" + LONG, 1000, id="a compaction"),
    ],
)
def test_other_requests_are_sent(text, window):
    assert exchange(prompt(text), window=window).body


def test_a_compaction_is_known_before_a_system_message_that_follows_it():
    body = prompt("CRITICAL: Respond with TEXT ONLY" + LONG)
    body["messages"].append({"role": "system", "content": "The date has changed."})
    assert exchange(body, window=1000).body


def test_an_earlier_compaction_does_not_exempt_a_request():
    body = prompt("CRITICAL: Respond with TEXT ONLY" + LONG)
    body["messages"] += [
        {"role": "assistant", "content": "<summary>s</summary>"},
        {"role": "user", "content": "Go on"},
    ]
    with pytest.raises(Problem, match="prompt is too long"):
        exchange(body, window=1000)


def test_unknown_fields_are_listed_as_dropped():
    request = exchange(prompt(next_years_field={"a": 1}, container="c", another=None))
    assert request.dropped == ("container", "another", "next_years_field")


def test_a_learned_factor_makes_the_margin_smaller():
    names = rules(window=2600)
    names.calibration.learn("up-big", estimated=4000, reported=4000)
    with pytest.raises(Problem, match="prompt is too long"):
        exchange(prompt(LONG), shared=names)


# The answer.


def test_a_whole_answer():
    request = exchange()
    message = json.loads(request.whole(answer_body()))
    assert (message["id"], message["model"]) == ("msg_1", "claude-opus-4-1")
    assert message["content"] == [{"type": "text", "text": "hi"}]
    assert request.usage["input_tokens"] == 391
    assert request.stop_reason == "end_turn"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 100_000])
def test_a_stream_is_the_same_message_with_every_chunking(size):
    usage = {**chunk(), "choices": [], "usage": USAGE}
    chunks = [chunk("", role="assistant"), chunk("h"), chunk("é"), chunk(finish="stop"), usage]
    data = b"".join(map(data_line, chunks)) + DONE
    request = exchange(prompt(stream=True))
    written = [request.feed(data[at : at + size]) for at in range(0, len(data), size)]
    stream = b"".join([*written, request.close()])
    assert grammar.check(stream) == []
    message = grammar.assemble(stream)
    assert message["content"][0]["text"] == "hé"
    assert (request.ended, request.stopped, request.stop_reason) == (True, False, "end_turn")
    assert request.usage["cache_read_input_tokens"] == 9


def test_a_stream_without_an_end_is_a_problem_and_then_an_event():
    request = exchange(prompt(stream=True))
    written = request.feed(data_line(chunk("h")))
    with pytest.raises(Problem) as broken:
        request.close()
    stream = written + request.fail(broken.value)
    assert grammar.check(stream) == []
    assert stream.count(b"event: error") == 1
    assert request.stop_reason is None


def test_a_stream_that_only_breaks_off_after_its_finish_is_whole():
    request = exchange(prompt(stream=True))
    written = request.feed(data_line(chunk("h")) + data_line(chunk(finish="length")))
    assert request.stop_reason is None
    message = grammar.assemble(written + request.close())
    assert message["stop_reason"] == request.stop_reason == "max_tokens"


def test_data_after_the_end_is_ignored():
    request = exchange(prompt(stream=True))
    request.feed(data_line(chunk("h", finish="stop")) + DONE)
    assert request.feed(data_line(chunk("more", finish="length"))) == b""
    assert request.close() == b""
    assert request.stop_reason == "end_turn"


def test_an_error_in_a_stream_is_a_problem():
    request = exchange(prompt(stream=True))
    request.feed(data_line(chunk("h")))
    with pytest.raises(Problem, match="overloaded"):
        request.feed(data_line({"error": {"message": "overloaded", "code": 503}}))


def test_a_stop_sequence_ends_the_answer():
    request = exchange(prompt(stream=True, stop_sequences=["</block>"]))
    stream = request.feed(data_line(chunk("yes</bl"))) + request.feed(data_line(chunk("ock> more")))
    assert (request.stopped, request.ended, request.stop_reason) == (True, True, "stop_sequence")
    assert grammar.assemble(stream + request.close())["content"][0]["text"] == "yes"


def test_a_whole_client_is_served_from_a_stream():
    request = exchange(
        prompt(thinking={"type": "adaptive"}),
        quirks=Quirks(thinking_needs_stream=True, reasoning="enable_thinking"),
    )
    assert (request.streams, request.asks_stream) == (False, True)
    data = b"".join(map(data_line, [chunk(reasoning_content="hm"), chunk("hi", finish="stop")]))
    message = json.loads(request.whole(data + DONE))
    assert [block["type"] for block in message["content"]] == ["thinking", "text"]


# The numbers.


def test_message_start_carries_an_estimate_that_learns():
    shared = rules()
    first = exchange(prompt(LONG, stream=True), shared=shared)
    started = grammar.read(first.feed(data_line(chunk("h"))))[0][1]
    estimate = started["message"]["usage"]["input_tokens"]
    assert 2000 < estimate < 8000
    usage = {**chunk(), "choices": [], "usage": {"prompt_tokens": 2 * estimate}}
    first.feed(data_line(chunk(finish="stop")) + data_line(usage) + DONE)
    second = exchange(prompt(LONG, stream=True), shared=shared)
    started = grammar.read(second.feed(data_line(chunk("h"))))[0][1]
    assert started["message"]["usage"]["input_tokens"] == pytest.approx(2 * estimate, rel=0.01)


def test_counting_uses_the_calibration():
    shared = rules()
    body = json.dumps(prompt(LONG)).encode()
    before = shared.count(body)
    shared.calibration.learn("up-big", estimated=1000, reported=1500)
    assert shared.count(body) == pytest.approx(1.5 * before, rel=0.01)


def test_an_exchange_has_its_request_and_target():
    data = json.dumps(prompt(stream=True)).encode()
    request = exchange(data)
    assert (request.asked, request.request.stream) == (data, True)
    assert (request.target.provider, request.target.model) == ("up", "up-big")
    assert (request.searches, request.own_search) == (False, False)


# Refused features.


def refusal(text, *, status=400, codes=()):
    details = ProviderRefusal(status=status, text=text, codes=frozenset(codes), parameter="")
    return Problem("invalid_request_error", text, status=status, refusal=details)


def test_a_refused_field_is_left_out_of_the_next_attempt():
    shared = rules()
    request = exchange(prompt(temperature=0.5), shared=shared)
    problem = refusal("Unsupported parameter: 'temperature' is not supported")
    assert request.revise(problem)
    assert "temperature" not in json.loads(request.body)
    assert "temperature" not in json.loads(exchange(prompt(temperature=1), shared=shared).body)
    assert not request.revise(problem)


def test_a_refusal_that_names_nothing_changes_nothing():
    request = exchange()
    before = request.body
    assert not request.revise(refusal("no"))
    assert request.body == before


def test_a_model_without_streams_is_asked_for_a_whole_answer():
    request = exchange(prompt(stream=True))
    assert request.revise(refusal("Streaming is not supported for this model"))
    assert (request.streams, request.asks_stream) == (True, False)


# The Responses API.

RESPONSE = {
    "id": "r",
    "status": "completed",
    "output": [
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "hi"}],
        }
    ],
    "usage": {"input_tokens": 400, "output_tokens": 3},
    "input_transformations": [{"type": "reasoning_dropped", "reason": "model_changed"}],
}


def rules_for(api, **more):
    def target(model, api=api):
        return Target(provider="up", model=model, api=api, quirks=Quirks())

    return rules(target=target, **more)


def test_a_whole_answer_of_the_responses_api():
    request = exchange(shared=rules_for("responses"))
    message = json.loads(request.whole(json.dumps(RESPONSE).encode()))
    assert message["content"] == [{"type": "text", "text": "hi"}]
    assert (request.api, request.stop_reason) == ("responses", "end_turn")
    assert request.usage["output_tokens"] == 3
    assert request.removed_reasoning == ("model_changed",)


def test_a_stream_of_the_responses_api():
    request = exchange(prompt(stream=True), shared=rules_for("responses"))
    done = {"type": "response.completed", "response": RESPONSE}
    written = request.feed(data_line(done))
    assert b"message_stop" in written + request.close()
    assert request.removed_reasoning == ("model_changed",)


def test_a_failure_after_the_end_of_an_answer_is_not_an_error():
    request = exchange(prompt(stream=True))
    request.feed(data_line(chunk("hi", finish_reason="stop")) + DONE)
    assert b"error" not in request.fail(Problem("api_error", "reset"))


def test_the_conversation_is_the_clients_request():
    assert exchange(prompt("Hi")).conversation().messages[0].role == "user"


def test_a_model_of_another_api_is_converted_for_that_one():
    request = exchange(shared=rules_for("chat", may_change_api=True))
    text = "This model is only supported in v1/responses and not in v1/chat/completions."
    assert request.revise(refusal(text, status=404))
    assert (request.api, "input" in json.loads(request.body)) == ("responses", True)
    unknown = refusal("Unsupported parameter: 'max_output_tokens'")
    assert request.revise(unknown)
    assert "max_output_tokens" not in json.loads(request.body)
    assert not request.revise(unknown)


def test_tools_that_will_be_deferred_do_not_exceed_the_window():
    tools = [{"name": f"t{n}", "description": "x " * 2000, "input_schema": {}} for n in range(4)]
    with pytest.raises(Problem, match="too long"):
        exchange(prompt(tools=tools), window=1000)
    assert exchange(prompt(tools=tools), window=1000, quirks=Quirks(max_tools=2)).defers_tools
