"""Tests of the state machine that converts chunks to the blocks of one message."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy.convert.chat.stream import CUT_SHORT, FAILED, STOP_REASON, ChatToMessageStream
from ccproxy.errors import STATUS_OF_KIND, Problem
from tests.chat_answers import SIGNER, call, context, end, parsed, say, screenplay
from tests.grammar import STOP_REASONS, assemble, check


def play(chunks, *, done=True, **settings):
    """Feed *chunks*, and return all events, which must be a valid stream."""
    machine = ChatToMessageStream(context(**settings))
    events = [event for chunk in chunks for event in machine.feed(parsed(chunk))]
    if done:
        machine.done()
    events += machine.close()
    assert check(events) == []
    return events


def script(chunks, **settings):
    """Return the events as short lines, without the first and last ones of every stream."""
    lines = screenplay(play(chunks, **settings))
    assert lines[0] == "message_start"
    assert lines[-1] == "message_stop"
    return lines[1:-1]


# Text and thinking.


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param([end()], ["end_turn"], id="an empty answer has no block"),
        pytest.param(
            [say(["a", {"type": "video"}, None]), say([{"text": "b"}]), end()],
            ["0 text", "0 + a", "0 + b", "0 .", "end_turn"],
            id="texts next to unknown parts",
        ),
        pytest.param(
            [say(""), say("Hel"), say("lo"), end()],
            ["0 text", "0 + Hel", "0 + lo", "0 .", "end_turn"],
            id="text",
        ),
        pytest.param(
            [say(reasoning_content="Hm"), say("Yes"), end()],
            ["0 thinking", "0 + Hm", "0 !", "0 .", "1 text", "1 + Yes", "1 .", "end_turn"],
            id="thinking is signed and closed before text",
        ),
        pytest.param(
            [say("a"), say(reasoning="b"), say("c"), end()],
            [
                "0 text",
                "0 + a",
                "0 .",
                "1 thinking",
                "1 + b",
                "1 !",
                "1 .",
                "2 text",
                "2 + c",
                "2 .",
                "end_turn",
            ],
            id="thinking may follow",
        ),
        pytest.param(
            [say(None, reasoning_content=""), say("", reasoning_content=None), say("t"), end()],
            ["0 text", "0 + t", "0 .", "end_turn"],
            id="empty deltas open nothing",
        ),
        pytest.param(
            [say("\n"), say(" "), say("a"), end()],
            ["0 text", "0 + \n a", "0 .", "end_turn"],
            id="white space waits for something to see",
        ),
        pytest.param([say("\n\n"), end()], ["end_turn"], id="white space alone is no block"),
        pytest.param(
            [say(reasoning_content="a"), say("\n"), say(reasoning_content="b"), say("c"), end()],
            ["0 thinking", "0 + a", "0 + b", "0 !", "0 .", "1 text", "1 + \nc", "1 .", "end_turn"],
            id="white space does not end the thinking",
        ),
        pytest.param(
            [say("a", reasoning_content="t"), end()],
            ["0 thinking", "0 + t", "0 !", "0 .", "1 text", "1 + a", "1 .", "end_turn"],
            id="both in one chunk",
        ),
        pytest.param(
            [say(refusal="No."), end()],
            ["0 text", "0 + No.", "0 .", "end_turn"],
            id="a refusal is text",
        ),
        pytest.param(
            [
                say(reasoning="aa", reasoning_details=[{"type": "reasoning.text", "text": "aa"}]),
                say("T"),
                end(),
            ],
            ["0 thinking", "0 + aa", "0 !", "0 .", "1 text", "1 + T", "1 .", "end_turn"],
            id="two copies of one reasoning are one",
        ),
        pytest.param(
            [say(reasoning_details=[{"type": "reasoning.text", "text": "a"}]), say("T"), end()],
            ["0 thinking", "0 + a", "0 !", "0 .", "1 text", "1 + T", "1 .", "end_turn"],
            id="details alone are read",
        ),
        pytest.param(
            [
                say([{"type": "thinking", "thinking": [{"type": "text", "text": "2+2"}]}]),
                say([{"type": "text", "text": "4"}, {"type": "reference"}, "x"]),
                end(),
            ],
            ["0 thinking", "0 + 2+2", "0 !", "0 .", "1 text", "1 + 4", "1 + x", "1 .", "end_turn"],
            id="content parts (Mistral)",
        ),
        pytest.param(
            [say([{"type": "thinking", "thinking": "a"}, {"type": "text", "text": "b"}]), end()],
            ["0 thinking", "0 + a", "0 !", "0 .", "1 text", "1 + b", "1 .", "end_turn"],
            id="a thinking part may be a string",
        ),
        pytest.param(
            [say("<th"), say("ink>plan</thi"), say("nk>\n\nAns"), say("wer"), end()],
            [
                "0 thinking",
                "0 + plan",
                "0 !",
                "0 .",
                "1 text",
                "1 + Ans",
                "1 + wer",
                "1 .",
                "end_turn",
            ],
            id="think tags over chunks",
        ),
        pytest.param(
            [say("<think>plan"), end()],
            ["0 thinking", "0 + plan", "0 !", "0 .", "end_turn"],
            id="a tag without an end",
        ),
        pytest.param(
            [say("<thin"), end()],
            ["0 text", "0 + <thin", "0 .", "end_turn"],
            id="withheld text is written at the end",
        ),
        pytest.param(
            [say(reasoning_content="r"), say("<think>r</think>a"), end()],
            ["0 thinking", "0 + r", "0 !", "0 .", "1 text", "1 + a", "1 .", "end_turn"],
            id="tags next to a reasoning field repeat it",
        ),
        pytest.param(
            [say("<think>\n\n</think>a"), end()],
            ["0 text", "0 + a", "0 .", "end_turn"],
            id="an empty thought is none",
        ),
        pytest.param(
            [say(False), say({}), say([]), say(reasoning_content=["x"], refusal=7), end()],
            ["end_turn"],
            id="empty values and other types are ignored",
        ),
        pytest.param(
            [say("a"), end(), say("b"), end(), say("c")],
            ["0 text", "0 + a", "0 + b", "0 + c", "0 .", "end_turn"],
            id="text after an early finish_reason belongs to the answer",
        ),
    ],
)
def test_text_and_thinking(chunks, expected):
    assert script(chunks) == expected


def test_tags_are_text_where_the_provider_does_not_think_in_them():
    chunks = [say("<think>a</think>b"), end()]
    (block,) = assemble(play(chunks, quirks={"think_tags": False}))["content"]
    assert block == {"type": "text", "text": "<think>a</think>b"}


def test_hidden_thinking_is_dropped_from_every_source():
    chunks = [say(reasoning_content="a"), say("<think>b</think>c"), end()]
    assert script(chunks, hide_thinking=True) == ["0 text", "0 + c", "0 .", "end_turn"]
    assert script([say("<think>b</think>c"), end()], hide_thinking=True)[0] == "0 text"


# Tool calls.

A = {"index": 0, "id": "call_a", "name": "Read"}
B = {"index": 1, "id": "call_b", "name": "Grep"}


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param(
            [say(None), call("", **A), call('{"pa', index=0), call('th":1}', index=0), end()],
            ["0 tool_use call_a Read", '0 + {"pa', '0 + th":1}', "0 .", "tool_use"],
            id="arguments are passed on as they arrive",
        ),
        pytest.param(
            [call("", **A), call("", index=0, name="Many"), call("{}", index=0), end()],
            ["0 tool_use call_a ReadMany", "0 + {}", "0 .", "tool_use"],
            id="a name in pieces is one name",
        ),
        pytest.param(
            [call("", **A), end("tool_calls")],
            ["0 tool_use call_a Read", "0 .", "tool_use"],
            id="no arguments",
        ),
        pytest.param(
            [call(None, **A), call("null", index=0), end()],
            ["0 tool_use call_a Read", "0 .", "tool_use"],
            id="null arguments are none",
        ),
        pytest.param(
            [call({"a": 1}, **A), end()],
            ["0 tool_use call_a Read", '0 + {"a":1}', "0 .", "tool_use"],
            id="arguments that are an object",
        ),
        pytest.param(
            [call('"{\\"a\\"', **A), call(':1}"', index=0), end()],
            ["0 tool_use call_a Read", '0 + {"a":1}', "0 .", "tool_use"],
            id="arguments that were encoded twice",
        ),
        pytest.param(
            [call("[1]", **A), end()],
            ["0 tool_use call_a Read", '0 + {"arguments":[1]}', "0 .", "tool_use"],
            id="arguments that are no object are made one",
        ),
        pytest.param(
            [call('{"a":', **A), call("{}", **B), call("1}", index=0), end()],
            [
                "0 tool_use call_a Read",
                '0 + {"a":',
                "0 + 1}",
                "0 .",
                "1 tool_use call_b Grep",
                "1 + {}",
                "1 .",
                "tool_use",
            ],
            id="an interleaved call waits for the first one",
        ),
        pytest.param(
            [
                call('{"a":', **A),
                call('{"b"', **B),
                call("1}", index=0),
                call(":2}", index=1),
                end(),
            ],
            [
                "0 tool_use call_a Read",
                '0 + {"a":',
                "0 + 1}",
                "0 .",
                "1 tool_use call_b Grep",
                '1 + {"b"',
                "1 + :2}",
                "1 .",
                "tool_use",
            ],
            id="and is relayed immediately from then on",
        ),
        pytest.param(
            [call('{"a":1}', **A), call('{"b"', **B), call(":2}", index=1), end()],
            [
                "0 tool_use call_a Read",
                '0 + {"a":1}',
                "0 .",
                "1 tool_use call_b Grep",
                '1 + {"b"',
                "1 + :2}",
                "1 .",
                "tool_use",
            ],
            id="calls one after the other",
        ),
        pytest.param(
            [
                call("{}", **A),
                call("{}", **B),
                call('{"a":1}', index=0),
                call('{"b":2}', index=1),
                end(),
            ],
            [
                "0 tool_use call_a Read",
                '0 + {"a":1}',
                "0 .",
                "1 tool_use call_b Grep",
                '1 + {"b":2}',
                "1 .",
                "tool_use",
            ],
            id="an empty object may be replaced until the end",
        ),
        pytest.param(
            [call('{"a":1}', **A), call('{"a":1}', **A), say("x"), call('{"a":1}', **A), end()],
            [
                "0 tool_use call_a Read",
                '0 + {"a":1}',
                "0 .",
                "1 text",
                "1 + x",
                "1 .",
                "tool_use",
            ],
            id="a repeated call is one call",
        ),
        pytest.param(
            [call("{}", **A), say("done"), end()],
            ["0 tool_use call_a Read", "0 + {}", "0 .", "1 text", "1 + done", "1 .", "tool_use"],
            id="text after a call opens a block",
        ),
        pytest.param(
            [call('{"a"', **A), say("x"), call(":1}", index=0), say("y"), end()],
            [
                "0 tool_use call_a Read",
                '0 + {"a"',
                "0 + :1}",
                "0 .",
                "1 text",
                "1 + x",
                "1 + y",
                "1 .",
                "tool_use",
            ],
            id="text within a call waits for its end",
        ),
        pytest.param(
            [say("go"), call('{"a"', **A), say("", tool_calls=[]), call(":1}", index=0), end()],
            [
                "0 text",
                "0 + go",
                "0 .",
                "1 tool_use call_a Read",
                '1 + {"a"',
                "1 + :1}",
                "1 .",
                "tool_use",
            ],
            id="empty content does not break a call",
        ),
        pytest.param(
            [say("\n"), call("{}", **A), end()],
            ["0 tool_use call_a Read", "0 + {}", "0 .", "tool_use"],
            id="white space before a call is no block",
        ),
        pytest.param(
            [say("<thi"), call("{}", **A), end()],
            ["0 text", "0 + <thi", "0 .", "1 tool_use call_a Read", "1 + {}", "1 .", "tool_use"],
            id="held text is written before the call",
        ),
        pytest.param(
            [
                call(None, index=0, id="call_a"),
                call("{}", index=0),
                call("", index=0, name="Read"),
                end(),
            ],
            ["0 tool_use call_a Read", "0 + {}", "0 .", "tool_use"],
            id="a late name",
        ),
        pytest.param(
            [call("", index=0, name="Read"), call("{}", index=0, id="call_a"), end()],
            ["0 tool_use call_a Read", "0 + {}", "0 .", "tool_use"],
            id="a late id",
        ),
        pytest.param(
            [call('{"a":1}', **A), call("", index=0), call(" ", index=0), say("x"), end()],
            [
                "0 tool_use call_a Read",
                '0 + {"a":1}',
                "0 +  ",
                "0 .",
                "1 text",
                "1 + x",
                "1 .",
                "tool_use",
            ],
            id="empty continuations",
        ),
        pytest.param(
            [call("", index=0), call("", index=3), end("tool_calls")],
            ["end_turn"],
            id="calls without content are ignored",
        ),
        pytest.param(
            [
                say(function_call={"name": "Read", "arguments": '{"a"'}),
                say(function_call={"arguments": ":1}"}),
                end("function_call"),
            ],
            ["0 tool_use MADE Read", '0 + {"a":1}', "0 .", "tool_use"],
            id="the form before tools",
        ),
        pytest.param(
            [call('{"pa', **A), end("length")],
            ["0 tool_use call_a Read", '0 + {"pa', "0 .", "max_tokens"],
            id="a call that the length cut is relayed",
        ),
    ],
)
def test_tool_calls(chunks, expected):
    made = next((line.split()[2] for line in script(chunks) if " toolu_" in line), "")
    assert script(chunks) == [line.replace("MADE", made) for line in expected]


NO_OBJECTS = [
    pytest.param(["{'command': 'ls'}"], id="quotes of another language"),
    pytest.param(['{"command": "a\nb"}'], id="a raw line end in a string"),
    pytest.param(['{"command": "ls"}}'], id="one brace too many"),
    pytest.param(['{"a": 1}', '{"b": 2}'], id="two objects"),
    pytest.param(['{"a"', '{"a": 1}'], id="all of it once more (cumulative)"),
    pytest.param(['{"command": "a'], id="cut"),
    pytest.param([' {"command"', ": "], id="cut between two pieces"),
]


@pytest.mark.parametrize("pieces", NO_OBJECTS)
@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("tool_calls", "tool_use"),
        ("stop", "tool_use"),
        ("length", "max_tokens"),
        ("model_length", "model_context_window_exceeded"),
    ],
)
@pytest.mark.parametrize("more", [[], [say("x")], [call("{}", **B)]])
def test_arguments_that_are_not_json_are_passed_on_unchanged(pieces, reason, expected, more):
    """Claude Code reports the fault to the model; an error would only repeat the request."""
    chunks = [call("", **A), *(call(piece, index=0) for piece in pieces), *more, end(reason)]
    lines = script(chunks)
    assert "".join(line[4:] for line in lines if line.startswith("0 +")) == "".join(pieces)
    assert lines[-1] == expected


def test_a_call_that_has_ended_cannot_continue():
    with pytest.raises(Problem, match="call to Read that had ended"):
        play([call('{"a":1}', **A), call('{"b":1}', **B), call('{"c":1}', index=0), end()])


def test_a_long_tool_name_is_restored():
    chunks = [call("{}", index=0, id="c", name="mcp__short_1a2b"), end()]
    events = play(chunks, tool_names={"mcp__short_1a2b": "mcp__a_very_long_name"})
    assert events[1]["content_block"]["name"] == "mcp__a_very_long_name"


def test_a_call_without_a_name_is_an_error():
    with pytest.raises(Problem, match="without a name"):
        play([call('{"a":1}', index=0, id="c"), end()])


def test_calls_over_several_choices_are_merged():
    # Copilot; each choice has its own finish_reason.
    first = {"index": 0, "delta": {"content": "Look."}, "finish_reason": "tool_calls"}
    tool = {"index": 0, "id": "t1", "function": {"name": "Read", "arguments": "{}"}}
    second = {"index": 1, "delta": {"tool_calls": [tool]}, "finish_reason": "tool_calls"}
    expected = ["0 text", "0 + Look.", "0 .", "1 tool_use t1 Read", "1 + {}", "1 .", "tool_use"]
    assert script([{"choices": [first, second]}]) == expected
    assert script([{"choices": [first]}, {"choices": [second]}]) == expected


# Data that must return to the provider.


def carried(event_or_block):
    return SIGNER.open(event_or_block["signature"]).carried


def signed(signature):
    return {"google": {"thought_signature": signature}}


def test_a_signature_names_its_origin():
    events = play([say(reasoning="a"), end()])
    origin = SIGNER.open(assemble(events)["content"][0]["signature"])
    assert (origin.provider, origin.model, origin.carried) == ("acme", "up-1", {})


def test_a_thought_signature_precedes_its_call():
    chunks = [call("{}", **A, extra_content=signed("S1")), call("{}", **B), end()]
    content = assemble(play(chunks))["content"]
    assert [block["type"] for block in content] == ["thinking", "tool_use", "tool_use"]
    assert content[0]["thinking"] == ""
    assert carried(content[0]) == {"thought_signatures": {"call_a": "S1"}}


def test_open_thinking_carries_the_signature():
    chunks = [say(reasoning="hm"), call("{}", **A, extra_content=signed("S1")), end()]
    content = assemble(play(chunks))["content"]
    assert [block["type"] for block in content] == ["thinking", "tool_use"]
    assert carried(content[0]) == {"thought_signatures": {"call_a": "S1"}}


def test_closed_thinking_does_not_carry_the_signature():
    chunks = [say(reasoning="hm"), say("t"), call("{}", **A, extra_content=signed("S1")), end()]
    content = assemble(play(chunks))["content"]
    assert [block["type"] for block in content] == ["thinking", "text", "thinking", "tool_use"]
    assert (carried(content[0]), carried(content[2])) == (
        {},
        {"thought_signatures": {"call_a": "S1"}},
    )


def test_each_call_may_have_its_own_signature():
    chunks = [call("{}", **A, extra_content=signed("S1"))]
    chunks += [call("{}", **B, extra_content=signed("S2")), end()]
    content = assemble(play(chunks))["content"]
    signatures = [carried(block) for block in content if block["type"] == "thinking"]
    assert signatures == [
        {"thought_signatures": {"call_a": "S1"}},
        {"thought_signatures": {"call_b": "S2"}},
    ]


def test_a_late_signature_follows_the_call():
    chunks = [call("{}", **A), call("", index=0, extra_content=signed("S1")), end()]
    content = assemble(play(chunks))["content"]
    assert [block["type"] for block in content] == ["tool_use", "thinking"]
    assert carried(content[1]) == {"thought_signatures": {"call_a": "S1"}}


@pytest.mark.parametrize(
    "extra",
    [None, [], {"google": None}, {"google": {"thought_signature": None}}, signed(""), signed(5)],
)
def test_metadata_without_a_signature_needs_no_block(extra):
    assert script([call("{}", **A, extra_content=extra), end()])[0] == "0 tool_use call_a Read"


def test_details_are_carried_without_their_text():
    fragments = [{"type": "reasoning.text", "index": 0, "text": text} for text in ("Let ", "me")]
    encrypted = {"type": "reasoning.encrypted", "index": 1, "data": "xyz", "id": "rs_1"}
    chunks = [say(reasoning=part["text"], reasoning_details=[part]) for part in fragments]
    chunks += [say(reasoning_details=[encrypted]), call("{}", **A), end()]
    content = assemble(play(chunks))["content"]
    assert [block["type"] for block in content] == ["thinking", "tool_use"]
    packed = {"type": "reasoning.text", "index": 0, "text": 6}
    assert carried(content[0]) == {"reasoning_details": [packed, encrypted]}


def test_late_encrypted_details_follow_the_call():
    encrypted = {"type": "reasoning.encrypted", "data": "xyz"}
    chunks = [call('{"a"', **A), call(":1}", index=0), say(reasoning_details=[encrypted]), end()]
    content = assemble(play(chunks))["content"]
    assert [block["type"] for block in content] == ["tool_use", "thinking"]
    assert carried(content[1]) == {"reasoning_details": [encrypted]}


def test_late_labels_need_no_block():
    label = {"type": "reasoning.text", "index": 0, "format": "unknown"}
    chunks = [call("{}", **A), say(reasoning_details=[label]), end()]
    assert [block["type"] for block in assemble(play(chunks))["content"]] == ["tool_use"]


def test_encrypted_details_without_thinking_get_a_block_before_the_call():
    encrypted = {"type": "reasoning.encrypted", "data": "xyz"}
    content = assemble(play([say(reasoning_details=[encrypted]), call("{}", **A), end()]))[
        "content"
    ]
    assert [block["type"] for block in content] == ["thinking", "tool_use"]
    assert carried(content[0]) == {"reasoning_details": [encrypted]}


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(
            [say("a", reasoning_details=[{"type": "reasoning.encrypted", "data": "x"}]), end()],
            id="an answer without calls needs no block",
        ),
        pytest.param(
            [say("a", reasoning_details=[{"type": "reasoning.text", "text": ""}, 5]), end()],
            id="labels need no block",
        ),
    ],
)
def test_no_block_without_data_to_return(chunks):
    assert script(chunks) == ["0 text", "0 + a", "0 .", "end_turn"]


# Ends of streams.


@pytest.mark.parametrize(
    ("reason", "expected"),
    [*STOP_REASON.items(), ("made_up", "end_turn"), ("MAX_TOKENS", "max_tokens")],
)
def test_stop_reasons_of_text(reason, expected):
    assert expected in STOP_REASONS
    without_calls = "end_turn" if expected == "tool_use" else expected
    assert script([say("a"), end(reason)])[-1] == without_calls


def test_finish_reasons_are_in_lower_case_and_have_one_meaning():
    assert [term for term in (*STOP_REASON, *FAILED) if term != term.lower()] == []
    assert STOP_REASON.keys().isdisjoint(FAILED)
    assert set(FAILED.values()) <= STATUS_OF_KIND.keys()
    assert set(STOP_REASON.values()) - {"tool_use"} >= CUT_SHORT


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", "tool_use"),
        ("tool_calls", "tool_use"),
        ("function_call", "tool_use"),
        ("content_filter", "tool_use"),
        ("length", "max_tokens"),
    ],
)
def test_stop_reasons_with_calls(reason, expected):
    assert script([call("{}", **A), end(reason)])[-1] == expected


@pytest.mark.parametrize("reasons", [("stop", "length"), ("length", "stop")])
def test_a_plain_finish_reason_hides_no_specific_one(reasons):
    assert script([say("a"), *map(end, reasons)])[-1] == "max_tokens"


@pytest.mark.parametrize("reason", ["", None, 5])
def test_without_a_reason_the_answer_does_not_end(reason):
    chunks = [end(reason), say("a"), end(reason)]
    assert script(chunks) == ["0 text", "0 + a", "0 .", "end_turn"]
    with pytest.raises(Problem, match="was cut off"):
        script(chunks, done=False)


@pytest.mark.parametrize(
    ("chunks", "done", "words"),
    [
        pytest.param([], False, "empty", id="nothing"),
        pytest.param([], True, "empty", id="nothing but [DONE]"),
        pytest.param([{"choices": []}], True, "empty", id="no choice"),
        pytest.param([say("a")], False, "was cut off", id="neither finish_reason nor [DONE]"),
        pytest.param(
            [call('{"a', **A)], True, "in the middle of a tool call", id="[DONE] within a call"
        ),
        pytest.param(
            [call('{"a', **A), say("x")],
            True,
            "in the middle of a tool call",
            id="or with text after it",
        ),
        pytest.param(
            [call("{}", **A), call('{"a', **B)],
            True,
            "in the middle of a tool call",
            id="the second one",
        ),
        pytest.param([say({"text": "a"}), end()], True, "neither text", id="content as an object"),
        pytest.param(
            [say([{"type": "video", "url": "u"}]), end()],
            True,
            "parts of the unsupported type video",
            id="video",
        ),
        pytest.param([say(5), end()], True, "neither text", id="content as a number"),
        pytest.param([end("error")], True, "aborted", id="finish_reason error"),
        pytest.param([end("network_error")], True, "aborted", id="finish_reason network_error"),
    ],
)
def test_answers_without_an_end_are_errors(chunks, done, words):
    with pytest.raises(Problem, match=words) as caught:
        play(chunks, done=done)
    assert caught.value.kind in ("api_error", "overloaded_error")


def test_an_answer_without_finish_reason_may_have_whole_calls():
    assert script([call("{}", **A)])[-1] == "tool_use"
    assert script([call("", **A)])[-1] == "tool_use"


def test_closing_twice_returns_nothing_more():
    machine = ChatToMessageStream(context())
    machine.feed(parsed(end()))
    assert machine.complete
    assert len(machine.close()) == 2
    assert machine.close() == []
    assert machine.feed(parsed(say("late"))) == []


def test_the_whole_message_at_the_end_of_a_stream_is_not_a_second_answer():
    # MiniMax.
    last = {"choices": [{"finish_reason": "stop", "message": {"content": "ab"}}]}
    assert script([say("a"), say("b"), last])[:3] == ["0 text", "0 + a", "0 + b"]


# Stop sequences.


def test_a_stop_sequence_cuts_over_chunks():
    machine = ChatToMessageStream(context(stop_sequences=("</block>",)))
    lines = []
    for piece in ("<block>no", "</blo", "ck> because"):
        assert not machine.stopped
        lines += screenplay(machine.feed(parsed(say(piece))))
    assert machine.stopped
    assert machine.complete
    assert machine.feed(parsed(say("more", tool_calls=[{"id": "x"}]))) == []
    events = machine.close()
    assert lines == ["message_start", "0 text", "0 + <block>no"]
    assert events[1]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "</block>"}


def test_calls_after_a_stop_sequence_are_dropped():
    chunks = [say("a END b", tool_calls=[{"id": "x", "function": {"name": "Read"}}]), end()]
    assert script(chunks, stop_sequences=("END",)) == ["0 text", "0 + a ", "0 .", "stop_sequence"]


def test_the_beginning_of_a_stop_sequence_is_written_at_the_end():
    chunks = [say("a EN"), end()]
    assert script(chunks, stop_sequences=("END",)) == [
        "0 text",
        "0 + a ",
        "0 + EN",
        "0 .",
        "end_turn",
    ]


def test_thinking_is_not_cut():
    chunks = [say(reasoning="the END is"), say("near"), end()]
    assert script(chunks, stop_sequences=("END",))[1] == "0 + the END is"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        pytest.param({"stop_reason": "END"}, ("stop_sequence", "END"), id="vLLM"),
        pytest.param({"matched_stop": "END"}, ("stop_sequence", "END"), id="SGLang"),
        pytest.param({"stop_reason": 151645}, ("end_turn", None), id="a token id"),
        pytest.param({"matched_stop": "</s>"}, ("end_turn", None), id="not one of the client's"),
    ],
)
def test_the_provider_may_name_the_sequence(choice, expected):
    events = play([say("a"), end("stop", **choice)], stop_sequences=("END",))
    assert tuple(events[-2]["delta"].values()) == expected


# Usage.


def usage_of(chunks, **settings):
    usage = play(chunks, **settings)[-2]["usage"]
    return usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]


U = {"prompt_tokens": 20, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 8}}
LATER = {"prompt_tokens": 20, "completion_tokens": 6}


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param([end(), {"choices": [], "usage": U}], (12, 8, 5), id="a chunk of its own"),
        pytest.param([end(usage=U)], (12, 8, 5), id="on the finish chunk"),
        pytest.param([end("stop", usage=None), end()], (11, 0, 0), id="null"),
        pytest.param(
            [{"choices": [{"finish_reason": "stop", "usage": U}]}], (12, 8, 5), id="in the choice"
        ),
        pytest.param([end() | {"x_groq": {"usage": U}}], (12, 8, 5), id="Groq"),
        pytest.param([end() | {"x_groq": {"id": "r"}}], (11, 0, 0), id="Groq without numbers"),
        pytest.param(
            [say("a") | {"usage": U}, end(usage=LATER)], (20, 0, 6), id="the last one holds"
        ),
        pytest.param(
            [end(usage=U), {"choices": [], "usage": {"prompt_tokens": 0}}],
            (12, 8, 5),
            id="zeros do not",
        ),
        pytest.param([say("a" * 41), end()], (11, 0, 11), id="none: estimates"),
        pytest.param([end(usage="many")], (11, 0, 0), id="text is ignored"),
    ],
)
def test_usage_is_found(chunks, expected):
    assert usage_of(chunks) == expected


def test_hidden_thinking_counts():
    assert usage_of([say(reasoning="a" * 40), end()], hide_thinking=True)[-1] == 10


def test_message_start_has_the_estimate():
    message = play([end(usage=U)])[0]["message"]
    assert message["usage"]["input_tokens"] == 11
    assert (message["id"], message["model"]) == ("msg_test", "claude-test")


def test_usage_is_known_before_the_end():
    machine = ChatToMessageStream(context())
    assert machine.usage["input_tokens"] == 11
    machine.feed(parsed(end(usage=U)))
    assert machine.usage["output_tokens"] == 5


# Deltas that the relay may copy.


@pytest.mark.parametrize(
    ("chunks", "settings", "block"),
    [
        pytest.param([], {}, None, id="nothing is open"),
        pytest.param([say("a")], {}, 0, id="text"),
        pytest.param([say(reasoning="a")], {}, 0, id="thinking, the text has not begun"),
        pytest.param([say("<think>a")], {}, None, id="a closing tag may follow"),
        pytest.param([say("<think>a</think>b")], {}, 1, id="after the tag"),
        pytest.param([say("a")], {"stop_sequences": ("x",)}, None, id="text may be cut"),
        pytest.param([say(reasoning="a")], {"stop_sequences": ("x",)}, 0, id="thinking may not"),
        pytest.param([call("{", **A)], {}, 0, id="a call"),
        pytest.param([call("{", **A), say("x")], {}, None, id="something waits"),
        pytest.param([say("a"), end()], {}, None, id="the answer is finished"),
        pytest.param([say("a")], {"quirks": {"text_calls": True}}, None, id="text may be a call"),
        pytest.param(
            [say(reasoning_content="a")], {"omit_thinking": True}, None, id="omitted thinking"
        ),
        pytest.param([say("a")], {"quirks": {"reasoning_split": True}}, None, id="snapshots"),
    ],
)
def test_a_block_is_steady_if_its_deltas_change_nothing_else(chunks, settings, block):
    machine = ChatToMessageStream(context(**settings))
    for chunk in chunks:
        machine.feed(parsed(chunk))
    assert machine.steady_block == block


def test_absorbed_deltas_count():
    machine = ChatToMessageStream(context())
    machine.feed(parsed(call('{"a":"', **A)))
    machine.absorb(["bcd", '"}'])
    assert screenplay(machine.feed(parsed(say("x"))))[:2] == ["0 .", "1 text"]
    assert machine.usage["output_tokens"] == 3  # a limit of twelve characters


# Any input.

TEXT = st.text(alphabet="ab<think>/ \n", max_size=6)
PIECES = st.one_of(
    TEXT.map(say),
    TEXT.map(lambda text: say(reasoning_content=text)),
    st.builds(
        call,
        st.sampled_from(["", "{}", '{"a"', ":1}", "x", None]),
        index=st.sampled_from([None, 0, 1]),
        id=st.sampled_from([None, "", "a", "b", "x:1"]),
        name=st.sampled_from([None, "", "Read", "Grep"]),
    ),
    st.sampled_from([end(), end("length"), {"choices": []}, {"choices": None}]),
)


@settings(deadline=None)
@given(st.lists(PIECES, max_size=12), st.booleans(), st.sampled_from([(), ("ab",)]))
def test_any_answer_keeps_the_grammar_or_is_an_error(chunks, done, stops):
    machine = ChatToMessageStream(context(stop_sequences=stops))
    events = []
    try:
        for chunk in chunks:
            events += machine.feed(parsed(chunk))
        if done:
            machine.done()
        events += machine.close()
    except Problem as problem:
        events.append({"type": "error", "error": {"message": problem.message}})
    assert check(events) == []


# Models that write calls into the text (DeepSeek), or repeat their reasoning (MiniMax).

CALL_IN_TEXT = (
    '<｜DSML｜tool_calls><｜DSML｜invoke name="Read">'
    '<｜DSML｜parameter name="path" string="true">a</｜DSML｜parameter></｜DSML｜invoke>'
    "</｜DSML｜tool_calls>"
)


def test_a_call_in_the_text_is_a_tool_call():
    message = assemble(
        play([say("I look. "), say(CALL_IN_TEXT), end()], quirks={"text_calls": True})
    )
    words, use = message["content"]
    assert words == {"type": "text", "text": "I look. "}
    assert (use["name"], use["input"]) == ("Read", {"path": "a"})
    assert message["stop_reason"] == "tool_use"


def test_text_that_only_resembles_a_call_is_text():
    message = assemble(play([say("a <｜DSM"), end()], quirks={"text_calls": True}))
    assert message["content"] == [{"type": "text", "text": "a <｜DSM"}]


def thought(text):
    return say(reasoning_content=text)


def detail(text, **more):
    return {"type": "reasoning.text", "text": text, "index": 0, **more}


@pytest.mark.parametrize(
    ("chunks", "thinking", "text"),
    [
        pytest.param(
            [
                say("A", reasoning_details=[detail("He")]),
                say("AB", reasoning_details=[detail("Hello")]),
            ],
            "Hello",
            "AB",
            id="growing snapshots",
        ),
        pytest.param(
            [say("A", reasoning_details=[detail("He")]), say("B", reasoning_details=[detail("y")])],
            "Hey",
            "AB",
            id="pieces",
        ),
        pytest.param(
            [
                say(
                    "A",
                    reasoning_details=[{"type": "reasoning.encrypted", "data": "x"}, detail("")],
                )
            ],
            "",
            "A",
            id="details without text",
        ),
        pytest.param(
            [say(reasoning_content="He"), say("A", reasoning_content="Hello")],
            "Hello",
            "A",
            id="snapshots of a field",
        ),
    ],
)
def test_snapshots_become_pieces(chunks, thinking, text):
    content = assemble(play([*chunks, end()], quirks={"reasoning_split": True}))["content"]
    assert "".join(block.get("thinking", "") for block in content) == thinking
    assert "".join(block.get("text", "") for block in content) == text


@pytest.mark.parametrize(
    ("chunks", "thinking"),
    [
        pytest.param(
            [say("<think>one two</think>"), say(reasoning_content="one "), say("Hi")],
            "one two",
            id="a copy of the tagged reasoning is left out",
        ),
        pytest.param(
            [say("<think>one"), say(reasoning_content="one"), say(" two</think>Hi")],
            "one two",
            id="also while the tag is open",
        ),
        pytest.param(
            [say("<think>one two</think>Hi"), *map(thought, ("one ", "two")), say("")],
            "one two",
            id="also after the text has begun",
        ),
        pytest.param(
            [say("<think>one</think>H"), say(reasoning_content="other"), say("Hi")],
            "oneother",
            id="other reasoning is kept",
        ),
    ],
)
def test_reasoning_in_tags_and_in_a_field(chunks, thinking):
    content = assemble(play([*chunks, end()], quirks={"think_tags": True}))["content"]
    assert "".join(block.get("thinking", "") for block in content) == thinking
    assert content[-1]["text"] == "Hi"


def test_the_search_for_copied_reasoning_ends():
    others = [thought(f"{number}") for number in range(20)]
    chunks = [say("<think>one</think>Hi"), *others, thought("one"), end()]
    content = assemble(play(chunks))["content"]
    assert content[-1]["thinking"] == "".join(map(str, range(20))) + "one"


def test_a_refusal_may_be_a_content_part():
    parts = [{"type": "refusal", "refusal": "No."}]
    assert script([say(parts), end()]) == ["0 text", "0 + No.", "0 .", "end_turn"]


def test_only_one_call_if_the_client_allows_one():
    chunks = [call("{}", index=0, id="a", name="A"), call("{}", index=1, id="b", name="B"), end()]
    content = assemble(play(chunks, single_call=True))["content"]
    assert [block["name"] for block in content] == ["A"]


@pytest.mark.parametrize(
    ("second", "calls"),
    [
        pytest.param('{"x":1}', 1, id="repeated"),
        pytest.param('{"x":2}', 2, id="with other arguments"),
    ],
)
def test_a_call_with_the_id_and_name_of_another(second, calls):
    chunks = [
        call('{"x":1}', index=0, id="a", name="A"),
        call(second[:3], index=1, id="a", name="A"),
        call(second[3:], index=1),
        end(),
    ]
    assert len(assemble(play(chunks))["content"]) == calls


def test_thinking_blocks_are_read_like_details():
    """LiteLLM sends thinking blocks in Anthropic's format."""
    chunks = [say(thinking_blocks=[{"type": "thinking", "thinking": "Hm"}]), say("Yes"), end()]
    assert [block["type"] for block in assemble(play(chunks))["content"]] == ["thinking", "text"]


def test_opaque_reasoning_is_carried_in_a_signature():
    (block, _) = assemble(
        play([say(reasoning_text="Hm", reasoning_opaque="SEALED"), say("Yes"), end()])
    )["content"]
    origin = SIGNER.open(block["signature"])
    assert origin is not None
    assert origin.carried == {"reasoning_opaque": "SEALED"}
