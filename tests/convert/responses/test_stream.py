"""The state machine converts the items of a response to the blocks of one message, in order."""

from __future__ import annotations

import json

import pytest

from ccproxy.convert.errors.classify import ProviderError
from ccproxy.convert.responses.answer import read_event
from ccproxy.convert.responses.stream import MAX_ITEMS, ResponsesToMessageStream
from ccproxy.errors import BadAnswer
from ccproxy.protocol.responses import decode_response
from ccproxy.protocol.sse import ServerEvent
from ccproxy.providers.quirks import PLAIN
from tests.chat_answers import context, screenplay
from tests.grammar import assemble, check
from tests.responses_answers import (
    call,
    event,
    events_of,
    incomplete,
    item_events,
    message,
    open_reasoning,
    reasoning,
    refusal,
    response,
    search,
)


def play(events, **settings):
    """Feed *events*, and return the client's events, which must be a valid stream."""
    machine = ResponsesToMessageStream(context(**settings))
    written = []
    for each in events:
        read = read_event(ServerEvent(b"", json.dumps(each).encode()), PLAIN)
        assert not isinstance(read, ProviderError)
        written += machine.feed(read)
    written += machine.close()
    assert check(written) == []
    return written


def script(events, **settings):
    """Return the client's events as short lines, without the first and last ones."""
    lines = screenplay(play(events, **settings))
    assert lines[0] == "message_start"
    assert lines[-1] == "message_stop"
    return lines[1:-1]


def fold(events, **settings):
    """Return the message that the client assembles."""
    return assemble(play(events, **settings))


def blocks(events, **settings):
    """Return the blocks of the message, without signatures."""
    content = fold(events, **settings)["content"]
    return [{key: value for key, value in block.items() if key != "signature"} for block in content]


def text(words):
    return {"type": "text", "text": words}


def thinking(words):
    return {"type": "thinking", "thinking": words}


def tool_use(name, arguments, call_id="call_1"):
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


# Whole and streamed answers.

ANSWERS = [
    pytest.param(response(), [], "end_turn", id="an empty answer has no block"),
    pytest.param(response(message("Hello.")), [text("Hello.")], "end_turn", id="text"),
    pytest.param(
        response(message("Two ", "parts.")), [text("Two parts.")], "end_turn", id="parts of a text"
    ),
    pytest.param(
        response(message("A remark."), message("The answer.")),
        [text("A remark."), text("The answer.")],
        "end_turn",
        id="two messages are two blocks",
    ),
    pytest.param(
        response(reasoning("First.", "Second."), message("Done.")),
        [thinking("First.\n\nSecond."), text("Done.")],
        "end_turn",
        id="the parts of a summary are one block of thinking",
    ),
    pytest.param(
        response(open_reasoning("Hm"), message("Yes")),
        [thinking("Hm"), text("Yes")],
        "end_turn",
        id="open models send the reasoning itself",
    ),
    pytest.param(
        response(reasoning(encrypted="gAAA"), message("Yes")),
        [thinking(""), text("Yes")],
        "end_turn",
        id="reasoning without a summary is an empty block, so that it can be sent back",
    ),
    pytest.param(
        response(reasoning(), message("Yes")),
        [text("Yes")],
        "end_turn",
        id="reasoning without anything is no block",
    ),
    pytest.param(
        response(message("I look."), call("Read", {"path": "a"})),
        [text("I look."), tool_use("Read", {"path": "a"})],
        "tool_use",
        id="a remark before a call",
    ),
    pytest.param(
        response(call("Read", {"path": "a"}), message("Also this.")),
        [tool_use("Read", {"path": "a"}), text("Also this.")],
        "tool_use",
        id="text after a call stays after it",
    ),
    pytest.param(
        response(call("Read", {}, call_id="a"), call("Bash", {}, call_id="b")),
        [tool_use("Read", {}, "a"), tool_use("Bash", {}, "b")],
        "tool_use",
        id="two calls",
    ),
    pytest.param(response(call("Read", "")), [tool_use("Read", {})], "tool_use", id="no arguments"),
    pytest.param(
        response(call("Read", '{"path": ')),
        [tool_use("Read", {"arguments": '{"path": '})],
        "tool_use",
        id="arguments of a completed call that are not JSON reach the client's check",
    ),
    pytest.param(
        response(refusal("I can't.")), [text("I can't.")], "refusal", id="a refusal keeps its words"
    ),
    pytest.param(
        incomplete(message("Half a")), [text("Half a")], "max_tokens", id="the token limit"
    ),
    pytest.param(
        incomplete(message("Go"), call("Bash", '{"command": "echo lo', status="incomplete")),
        [text("Go")],
        "max_tokens",
        id="a call that the token limit cut off is never shown",
    ),
    pytest.param(
        incomplete(call("Read", {"path": "a"}), call("Bash", '{"comm', call_id="b")),
        [tool_use("Read", {"path": "a"})],
        "max_tokens",
        id="a complete call stays when the next one is cut off",
    ),
    pytest.param(incomplete(reason="content_filter"), [], "refusal", id="a filtered answer"),
    pytest.param(incomplete(reason="steered"), [], "max_tokens", id="an unknown reason"),
    pytest.param(
        response({"type": "new_kind", "id": "x"}, message("Yes")),
        [text("Yes")],
        "end_turn",
        id="an unknown item is skipped",
    ),
    pytest.param(
        response(
            call(
                "multi_tool_use.parallel",
                {
                    "tool_uses": [
                        {"recipient_name": "functions.Read", "parameters": {"path": "a"}},
                        {"recipient_name": "functions.Bash", "parameters": {"command": "b"}},
                    ]
                },
            )
        ),
        [tool_use("Read", {"path": "a"}), tool_use("Bash", {"command": "b"}, "call_1_1")],
        "tool_use",
        id="OpenAI's wrapper for parallel calls is unpacked",
    ),
    pytest.param(
        response(call("parallel", {"jobs": 2})),
        [tool_use("parallel", {"jobs": 2})],
        "tool_use",
        id="a tool of the client that has the wrapper's name is not",
    ),
]


@pytest.mark.parametrize(("whole", "content", "stop_reason"), ANSWERS)
def test_a_stream_is_the_same_message_as_the_whole_answer(whole, content, stop_reason):
    streamed = fold(events_of(whole))
    machine = ResponsesToMessageStream(context())
    written = machine.feed_response(decode_response(json.dumps(whole).encode())) + machine.close()
    assert check(written) == []
    assert assemble(written) == streamed
    assert blocks(events_of(whole)) == content
    assert streamed["stop_reason"] == stop_reason


@pytest.mark.parametrize(("whole", "content", "stop_reason"), ANSWERS)
@pytest.mark.parametrize("missing", ["output", "done", "deltas", "added", "all but deltas"])
def test_redundant_parts_of_a_stream_may_be_missing(whole, content, stop_reason, missing):
    events = events_of(whole)
    if missing in ("output", "all but deltas"):
        events[-1] = {**events[-1], "response": {**events[-1]["response"], "output": []}}
    dropped = {
        "done": ("output_item.done",),
        "deltas": (".delta",),
        "added": ("output_item.added", "part.added"),
        "all but deltas": ("_text.done", "refusal.done", "part.done", "part.added"),
    }
    events = [
        each for each in events if not each["type"].endswith(dropped.get(missing, ("no event",)))
    ]
    assert blocks(events) == content
    assert fold(events)["stop_reason"] == stop_reason


# Order.


def test_text_and_summaries_are_streamed_as_they_arrive():
    assert script(events_of(response(reasoning("Think hard"), message("An answer")))) == [
        "0 thinking",
        "0 + Think",
        "0 +  hard",
        "0 !",
        "0 .",
        "1 text",
        "1 + An an",
        "1 + swer",
        "1 .",
        "end_turn",
    ]


def test_items_that_interleave_are_written_one_after_the_other():
    first = item_events(call("Read", {"path": "a"}, call_id="a"), 0)
    second = item_events(message("Meanwhile"), 1)
    mixed = [each for pair in zip(first, second, strict=False) for each in pair]
    mixed += first[len(second) :] + second[len(first) :]
    whole = response(call("Read", {"path": "a"}, call_id="a"), message("Meanwhile"))
    assert blocks([*mixed, event("response.completed", response=whole)]) == [
        tool_use("Read", {"path": "a"}, "a"),
        text("Meanwhile"),
    ]


def test_item_ids_are_ignored():
    """Copilot sends a different id with every event."""
    events = events_of(response(reasoning("Hm"), message("Yes"), call("Read", {})))
    for number, each in enumerate(events):
        if "item_id" in each:
            each["item_id"] = f"id{number}+/=="
        if "item" in each:
            each["item"] = {**each["item"], "id": f"id{number}+/=="}
    assert blocks(events) == [thinking("Hm"), text("Yes"), tool_use("Read", {})]


def test_deltas_of_arguments_are_previews():
    """Copilot encrypts them; only the final arguments are readable."""
    events = events_of(response(call("Read", {"path": "a"})))
    for each in events:
        if each["type"].endswith("arguments.delta"):
            each["delta"] = "gAAAA"
    assert blocks(events) == [tool_use("Read", {"path": "a"})]


def test_a_server_may_give_every_item_the_same_index():
    events = events_of(response(reasoning("Hm"), message("Yes"), call("Read", {})))
    for each in events:
        if "output_index" in each:
            each["output_index"] = 0
    assert blocks(events) == [thinking("Hm"), text("Yes"), tool_use("Read", {})]


def test_null_deltas_and_unknown_events_are_skipped():
    events = events_of(response(message("Yes")))
    odd = [
        event("keepalive"),
        event("response.new_kind.delta", delta="zzz", output_index=0, item="no object"),
        event("response.output_text.delta", output_index=0, content_index=0, delta=None),
    ]
    assert blocks([*events[:4], *odd, *events[4:]]) == [text("Yes")]


# The end.


@pytest.mark.parametrize("count", range(1, 10))
def test_an_answer_without_its_final_event_is_cut_off(count):
    events = events_of(response(message("Yes")))[:-1]
    with pytest.raises(BadAnswer, match="was cut off"):
        play(events[:count])


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelled"])
def test_an_unfinished_status_at_the_end_is_an_error(status):
    events = events_of(response(message("Yes")))
    events[-1] = event("response.completed", response=response(status=status))
    with pytest.raises(BadAnswer, match=status):
        play(events)


def test_a_stop_sequence_is_enforced_across_deltas():
    answer = fold(events_of(response(message("yes</block> no"))), stop_sequences=("</block>",))
    assert answer["content"] == [text("yes")]
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", "</block>")


def test_items_after_a_stop_sequence_are_dropped():
    whole = response(message("a STOP b"), call("Read", {}))
    answer = fold(events_of(whole), stop_sequences=("STOP",))
    assert answer["content"] == [text("a ")]
    assert answer["stop_reason"] == "stop_sequence"


def test_a_stop_sequence_that_does_not_occur_withholds_nothing():
    assert blocks(events_of(response(message("a ST"))), stop_sequences=("STOP",)) == [text("a ST")]


def test_hidden_reasoning_leaves_no_block():
    whole = response(reasoning("Secret", encrypted="gAAA"), message("yes"))
    assert blocks(events_of(whole), hide_thinking=True) == [text("yes")]


def test_tool_names_are_restored():
    answer = blocks(events_of(response(call("short_1", {}))), tool_names={"short_1": "a.long"})
    assert answer[0]["name"] == "a.long"


@pytest.mark.parametrize("call_id", ["", "with space", "known"])
def test_an_id_that_cannot_be_used_is_replaced(call_id):
    answer = blocks(
        events_of(response(call("Read", {}, call_id=call_id))), known_ids=frozenset(["known"])
    )
    assert answer[0]["id"].startswith("toolu_")


def test_a_search_of_the_provider_is_a_server_tool():
    events = events_of(response(search("x", "https://e.org/a"), message("Found it.")))
    use, result, answer = fold(events)["content"]
    assert (use["type"], use["name"], use["input"]) == (
        "server_tool_use",
        "web_search",
        {"query": "x"},
    )
    assert (result["type"], result["tool_use_id"]) == ("web_search_tool_result", use["id"])
    assert [each["url"] for each in result["content"]] == ["https://e.org/a"]
    assert answer == text("Found it.")
    assert fold(events)["stop_reason"] == "end_turn"


# Numbers.


def test_cached_and_written_tokens_are_part_of_the_input():
    usage = {
        "input_tokens": 1000,
        "input_tokens_details": {"cached_tokens": 700, "cache_write_tokens": 200},
        "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 4},
    }
    answer = fold(events_of(response(message("x"), usage=usage)))
    assert answer["usage"]["input_tokens"] == 100
    assert answer["usage"]["cache_read_input_tokens"] == 700
    assert answer["usage"]["cache_creation_input_tokens"] == 200
    assert answer["usage"]["output_tokens"] == 10


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": 5, "output_tokens": 2}, "none"])
def test_usage_may_be_missing_or_bare(usage):
    answer = fold(events_of(response(message("x"), usage=usage)))
    assert answer["usage"]["output_tokens"] >= 1


def test_removed_reasoning_is_reported():
    removed = [
        {"id": "rs_1", "type": "reasoning", "action": "removed", "reason": "prefix_mismatch"}
    ]
    machine = ResponsesToMessageStream(context())
    whole = response(message("x"), input_transformations=removed)
    machine.feed_response(decode_response(json.dumps(whole).encode()))
    assert machine.removed_reasoning == removed


# Answers that differ from OpenAI's.


def test_an_answer_ends_once():
    events = events_of(response(message("Hi")))
    assert script([*events, events[-1]]) == script(events)
    machine = ResponsesToMessageStream(context())
    machine.feed_response(decode_response(json.dumps(response(message("Hi"))).encode()))
    assert machine.close()
    assert machine.close() == []


def test_items_that_are_missing_or_done_twice_change_nothing():
    item = message("Hi")
    events = events_of(response(item))
    broken = [
        event("response.output_item.added", output_index=0),
        *events[:-1],
        event("response.output_item.done", output_index=0),
        event("response.output_item.done", output_index=0, item=item),
        events[-1],
    ]
    assert script(broken) == script(events)


def test_an_item_with_a_lower_index_is_written_first_if_nothing_is_written_yet():
    items = [call("B", {}, call_id="b"), call("A", {}, call_id="a")]
    added = [
        event("response.output_item.added", output_index=index, item={**item, "arguments": "{"})
        for index, item in ((1, items[0]), (0, items[1]))
    ]
    done = [
        event("response.output_item.done", output_index=index, item=item)
        for index, item in ((1, items[0]), (0, items[1]))
    ]
    final = event("response.completed", response=response(items[1], items[0]))
    names = [block["name"] for block in blocks([*added, *done, final])]
    assert names == ["A", "B"]


def test_a_message_that_was_streamed_is_not_repeated_by_the_final_response():
    streamed = item_events(message("Hi"), 0)
    final = event("response.completed", response=response(message("Hi"), message("Hi")))
    assert blocks([*streamed, final]) == [text("Hi")]


def test_a_call_without_a_name_is_an_error():
    with pytest.raises(BadAnswer, match="tool call without a name"):
        play(events_of(response(call("", {"a": 1}))))


def test_a_think_tag_in_the_text_is_reasoning():
    quirks = {"think_tags": True}
    events = events_of(response(message("<think>Hm</think>Yes")))
    assert blocks(events, quirks=quirks) == [thinking("Hm"), text("Yes")]
    unclosed = events_of(response(message("<think>Hm")))
    assert blocks(unclosed, quirks=quirks) == [thinking("Hm")]
    held = events_of(response(message("<thi")))
    assert blocks(held, quirks=quirks) == [text("<thi")]


def test_arguments_may_be_an_object():
    whole = response(call("Read", "{}"))
    whole["output"][0]["arguments"] = {"path": "x"}
    (block,) = blocks([event("response.completed", response=whole)])
    assert block["input"] == {"path": "x"}


@pytest.mark.parametrize(
    "arguments", ["[1", '{"tool_uses": [{"recipient_name": "web.run", "parameters": {}}]}', "[]"]
)
def test_a_tool_that_does_not_wrap_calls_is_called_itself(arguments):
    (block,) = blocks(events_of(response(call("parallel", arguments))))
    assert block["name"] == "parallel"


def test_other_actions_of_a_search_leave_no_block():
    opened = search("x")
    opened["action"] = {"type": "open_page", "url": "https://e.org"}
    assert blocks(events_of(response(opened, message("Hi")))) == [text("Hi")]


# Servers that omit the indexes of items and parts.


@pytest.mark.parametrize("index", [None, [0], "0"], ids=str)
def test_an_index_that_is_not_a_number_means_the_first_part(index):
    answer = response(message("Hello."), reasoning("Hm"), open_reasoning("Hm"))
    events = [
        {**each, "content_index": index, "summary_index": index} for each in events_of(answer)
    ]
    assert blocks(events) == [text("Hello."), thinking("Hm"), thinking("Hm")]


def test_a_status_that_is_not_a_string_is_ignored():
    whole = {**response(message("Hi")), "status": ["x"]}
    assert fold([event("response.completed", response=whole)])["stop_reason"] == "end_turn"


def test_an_answer_with_too_many_items_is_an_error():
    events = [
        {"type": "response.output_item.added", "output_index": number, "item": {"type": "message"}}
        for number in range(MAX_ITEMS + 1)
    ]
    with pytest.raises(BadAnswer, match="more than 4,096 items"):
        play(events)
