"""Messages answers as Responses: events, cut streams, errors, and the SDK's accumulator."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openai._types import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from ccproxy.convert.common.thinking import Signer
from ccproxy.convert.openai_clients.response_stream import ResponseStream, whole_response
from ccproxy.convert.openai_clients.response_writer import KEEP_ALIVE, ResponseWriter
from ccproxy.convert.openai_clients.sealed_reasoning import ReasoningSeal
from ccproxy.convert.openai_clients.tool_kinds import ToolKinds
from ccproxy.errors import BadAnswer, Problem
from ccproxy.protocol import sse
from ccproxy.protocol.responses_request import ToolDefinition, read_responses_request
from ccproxy.providers.quirks import Target

TOOLS = [
    ToolDefinition("function", "f"),
    ToolDefinition("custom", "patch"),
    ToolDefinition("local_shell"),
    ToolDefinition("tool_search", execution="client"),
    ToolDefinition("namespace", "ns", tools=[ToolDefinition("function", "g")]),
]
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


class Source:
    """An exchange that passes Messages answers on and ends failed ones with an error event."""

    ended = stopped = False

    def __init__(self, rest=b"", end=b""):
        self._rest, self._end = rest, end

    def feed(self, data):
        return data

    def close(self):
        if self._rest is None:
            raise BadAnswer("cut")
        return self._rest

    def fail(self, problem):
        return self._end or sse.encode(b"error", b"{}")


def writer(api="chat", **fields):
    seal = ReasoningSeal(Signer(b"key"), Target(provider="p", model="m", api=api))
    request = read_responses_request(json.dumps({"model": "m", "input": "x", **fields}).encode())
    tools = ToolKinds(TOOLS, with_search=False)
    return ResponseWriter(request, tools=tools, seal=seal, response_id="resp_1", created_at=1)


def message(*content, stop_reason="end_turn", **usage):
    usage = usage or {"input_tokens": 5, "output_tokens": 2}
    return {"content": list(content), "stop_reason": stop_reason, "usage": usage}


def messages_events(answer):
    """Return the Messages stream of *answer*, with every delta in two pieces."""
    events = [{"type": "message_start", "message": {"usage": {"input_tokens": 9}}}]
    for index, block in enumerate(answer["content"]):
        begun = {**block, **({"input": {}} if "input" in block else {})}
        events.append({"type": "content_block_start", "index": index, "content_block": begun})
        delta = {"type": "content_block_delta", "index": index}
        events += [{**delta, "delta": each} for each in _deltas(block)]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": answer["stop_reason"]}
    events += [
        {"type": "ping"},
        {"type": "message_delta", "delta": delta, "usage": answer["usage"]},
    ]
    return [*events, {"type": "message_stop"}]


def _deltas(block):
    fields = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}
    kind, name = fields.get(block["type"], ("input_json_delta", "partial_json"))
    text = block.get(name) or (_compact(block["input"]) if block.get("input") else "")
    for piece in filter(None, (text[:3], text[3:])):
        yield {"type": kind, name: piece}
    if block.get("signature"):
        yield {"type": "signature_delta", "signature": block["signature"]}


def _compact(value):
    return msgspec.json.encode(value).decode()


def data_of(events):
    return b"".join(sse.encode(e["type"].encode(), json.dumps(e).encode()) for e in events)


def events_in(data):
    decoder = sse.Decoder()
    return [json.loads(event.data) for event in decoder.feed(data)]


def converted(answer, *, size=10**6, api="chat"):
    stream = ResponseStream(Source(), writer(api))
    data = data_of(messages_events(answer))
    pieces = [stream.feed(data[at : at + size]) for at in range(0, len(data), size)]
    return b"".join([*pieces, stream.close()])


def text(words):
    return {"type": "text", "text": words}


def use(name, **arguments):
    return {"type": "tool_use", "id": f"call_{name}", "name": name, "input": arguments}


THINKING = {"type": "thinking", "thinking": "A plan", "signature": "ccproxy1.s"}
SEARCH = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
EVERYTHING = message(
    THINKING,
    text("Grüße \U0001f600"),
    use("f", a="ü"),
    use("patch", input='*** "Begin"'),
    use("local_shell", command=["ls"]),
    use("tool_search", query="x"),
    use("ns__g"),
    SEARCH,
    FOUND,
    stop_reason="tool_use",
    input_tokens=5,
    cache_read_input_tokens=7,
    cache_creation_input_tokens=1,
    output_tokens=4,
    output_tokens_details={"thinking_tokens": 3},
)


@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_the_stream_is_one_that_openai_could_send(size):
    """The SDK parses every event, and its result equals the final event's."""
    events = events_in(converted(EVERYTHING, size=size))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    state = ResponseStreamState(input_tools=[], text_format=omit)  # type: ignore[var-annotated]
    for event in events:
        state.handle_event(EVENT.validate_python(event))
    assert events[-1]["type"] == "response.completed"
    accumulated = state._completed_response.to_dict()["output"]  # type: ignore[union-attr]
    assert [item["id"] for item in accumulated] == [
        item["id"] for item in events[-1]["response"]["output"]
    ]


def test_a_stream_and_a_whole_answer_are_the_same():
    streamed = events_in(converted(EVERYTHING))[-1]["response"]
    whole = json.loads(whole_response(json.dumps(EVERYTHING).encode(), writer()))
    assert whole == streamed
    Response.model_validate(whole)


def test_the_items():
    output = json.loads(whole_response(json.dumps(EVERYTHING).encode(), writer()))["output"]
    reasoning, content, f, patch, shell, search, g, web = output
    assert reasoning["summary"] == [{"type": "summary_text", "text": "A plan"}]
    assert reasoning["encrypted_content"] == "ccproxy1.s"
    assert content["content"][0]["text"] == "Grüße \U0001f600"
    assert (f["type"], json.loads(f["arguments"]), f["call_id"]) == (
        *("function_call", {"a": "ü"}),
        "call_f",
    )
    assert (patch["type"], patch["input"]) == ("custom_tool_call", '*** "Begin"')
    assert shell["action"] == {"type": "exec", "command": ["ls"], "env": {}}
    assert (search["execution"], search["arguments"]) == ("client", {"query": "x"})
    assert (g["name"], g["namespace"], g["arguments"]) == ("g", "ns", "{}")
    assert web["action"] == {"type": "search", "query": "x"}
    assert len({item["id"] for item in output}) == 8


def test_the_usage_includes_cached_tokens():
    usage = json.loads(whole_response(json.dumps(EVERYTHING).encode(), writer()))["usage"]
    assert usage == {
        "input_tokens": 13,
        "input_tokens_details": {"cached_tokens": 7, "cache_write_tokens": 1},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 17,
    }


@pytest.mark.parametrize(
    ("stop_reason", "status", "reason"),
    [
        ("end_turn", "completed", None),
        ("stop_sequence", "completed", None),
        ("max_tokens", "incomplete", "max_output_tokens"),
        ("model_context_window_exceeded", "incomplete", "max_output_tokens"),
        ("refusal", "incomplete", "content_filter"),
    ],
)
def test_stop_reasons(stop_reason, status, reason):
    last = events_in(converted(message(text("Hi"), stop_reason=stop_reason)))[-1]
    response = last["response"]
    assert (last["type"], response["status"]) == (f"response.{status}", status)
    assert (response["incomplete_details"] or {}).get("reason") == reason


@pytest.mark.parametrize(
    ("block", "field", "value"),
    [
        (use("patch"), "input", ""),
        (use("patch", other=1), "input", '{"other":1}'),
        (use("local_shell"), "action", {"type": "exec", "command": [], "env": {}}),
    ],
)
def test_arguments_that_the_tool_does_not_have(block, field, value):
    (item,) = events_in(converted(message(block)))[-1]["response"]["output"]
    assert item[field] == value


@pytest.mark.parametrize("arguments", ["{", "[1]", "[" * 100_000])
def test_arguments_that_are_not_an_object(arguments):
    stream = ResponseStream(Source(), writer())
    begun = {"type": "tool_use", "id": "c", "name": "tool_search", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": arguments}
    events = [
        {"type": "content_block_start", "index": 0, "content_block": begun},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
    ]
    done = events_in(stream.feed(data_of(events)))[-1]
    assert done["item"]["arguments"] == {}


def test_reasoning_of_a_direct_provider_is_sealed():
    hidden = {"type": "redacted_thinking", "data": "d"}
    thinking = {**THINKING, "signature": "own"}
    events = events_in(converted(message(thinking, hidden, text("Hi")), api="messages"))
    items = events[-1]["response"]["output"]
    assert [item["type"] for item in items] == ["reasoning", "reasoning", "message"]
    assert [item["encrypted_content"][:9] for item in items[:2]] == ["ccproxy1."] * 2
    assert items[1]["summary"] == []


def test_a_signature_without_text_is_reasoning_without_a_summary():
    block = {"type": "thinking", "thinking": "", "signature": "ccproxy1.s"}
    (item, _) = events_in(converted(message(block, text("Hi"))))[-1]["response"]["output"]
    assert (item["summary"], item["encrypted_content"]) == ([], "ccproxy1.s")


def test_unsigned_reasoning_has_no_ciphertext():
    block = {"type": "thinking", "thinking": "A", "signature": ""}
    (item, _) = events_in(converted(message(block, text("Hi"))))[-1]["response"]["output"]
    assert "encrypted_content" not in item


def test_deltas_of_another_kind_are_ignored():
    begun = {"type": "content_block_start", "index": 0, "content_block": text("")}
    delta = {"type": "citations_delta", "citation": {}}
    events = [begun, {"type": "content_block_delta", "index": 0, "delta": delta}]
    stream = ResponseStream(Source(), writer())
    stream.feed(data_of(events))
    assert stream.feed(data_of([{"type": "content_block_start"}, {"type": "new_event"}])) == b""


def test_a_block_without_its_end_is_ended_by_the_next():
    events = [
        {"type": "content_block_start", "index": 0, "content_block": text("")},
        {"type": "content_block_start", "index": 1, "content_block": text("")},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ]
    last = events_in(ResponseStream(Source(), writer()).feed(data_of(events)))[-1]
    assert len(last["response"]["output"]) == 2


# The end of a stream.


def test_an_end_without_its_last_event():
    stream = ResponseStream(Source(), writer())
    stream.feed(data_of(messages_events(message(text("Hi")))[:-1]))
    assert events_in(stream.close())[-1]["type"] == "response.completed"


def test_a_stream_without_an_end():
    stream = ResponseStream(Source(rest=None), writer())
    with pytest.raises(BadAnswer):
        stream.close()
    assert ResponseStream(Source(), writer()).close() == b""


PROBLEM = Problem("overloaded_error", "busy")


def test_a_failure_ends_the_response():
    stream = ResponseStream(Source(), writer())
    stream.feed(data_of(messages_events(message(text("Hi")))[:3]))
    (failed,) = events_in(stream.fail(PROBLEM))
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert failed["response"]["error"] == {"code": "server_error", "message": "busy"}
    assert stream.fail(PROBLEM) == b""


def test_a_failure_before_the_beginning():
    kinds = [event["type"] for event in events_in(ResponseStream(Source(), writer()).fail(PROBLEM))]
    assert kinds == ["response.created", "response.in_progress", "response.failed"]


def test_a_failure_after_the_end_of_the_answer():
    """The exchange already has the end of the answer when the failure occurs."""
    rest = data_of(messages_events(message(text("Hi")))[-2:])
    stream = ResponseStream(Source(end=rest), writer())
    stream.feed(data_of(messages_events(message(text("Hi")))[:-2]))
    assert events_in(stream.fail(PROBLEM))[-1]["type"] == "response.completed"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"type": "rate_limit_error", "message": "slow"}, "rate_limit_exceeded"),
        ({"type": "made_up"}, "server_error"),
        (None, "server_error"),
    ],
)
def test_an_error_event_of_a_direct_provider(error, code):
    data = data_of([{"type": "error", "error": error}])
    failed = events_in(ResponseStream(Source(), writer()).feed(data))[-1]
    assert failed["response"]["error"]["code"] == code


def test_an_event_that_is_not_valid():
    with pytest.raises(BadAnswer):
        ResponseStream(Source(), writer()).feed(b"event: x\ndata: [\n\n")


def test_the_source_decides_when_reading_ends():
    source = Source()
    stream = ResponseStream(source, writer())
    assert (stream.ended, stream.stopped) == (False, False)
    source.ended = source.stopped = True
    assert (stream.ended, stream.stopped) == (True, True)


def test_keep_alive_is_an_event_while_the_response_is_open():
    made = writer()
    stream = ResponseStream(Source(), made)
    assert made.keep_alive() == sse.COMMENT
    events = messages_events(message(text("Hi")))
    stream.feed(data_of(events[:1]))
    stream.feed(data_of(events[:1]))  # begins only once
    assert made.keep_alive() == KEEP_ALIVE
    stream.feed(data_of(events[1:]))
    assert made.keep_alive() == sse.COMMENT


def test_the_response_repeats_the_parameters():
    fields = {"temperature": 0.5, "tool_choice": "none", "text": {"format": {"type": "text"}}}
    response = writer(**fields).response
    encoded = json.loads(whole_response(json.dumps(message(text("Hi"))).encode(), writer(**fields)))
    assert (response["temperature"], encoded["tool_choice"]) == (0.5, "none")
    assert encoded["text"]["format"] == {"type": "text"}
