"""
Streams as providers send them, each also split at many sizes.

Every answer is read by the checker of the stream grammar.
"""

from __future__ import annotations

import json
from typing import Any

from tests.cases.case import Case, has, kinds
from tests.cases.requests import BASH
from tests.provider import chunk, stream

STREAMED = (True,)
TOOLS = {"tools": [BASH]}
STOP = chunk(finish="stop")
ONE_TWO = {"content": kinds("text"), "content.0.text": "one two", "stop_reason": "end_turn"}


def call(index: int | None, text: str, **head: Any) -> dict[str, Any]:
    """Return a chunk with a fragment of a call's arguments."""
    function = {"arguments": text, **({"name": head.pop("name")} if "name" in head else {})}
    entry = {**head, "function": function}
    return chunk(tool_calls=[entry if index is None else {"index": index, **entry}])


LS = '{"command":"ls"}'
ONE_LS = {
    "content": kinds("tool_use"),
    "content.0.name": "Bash",
    "content.0.input": {"command": "ls"},
    "stop_reason": "tool_use",
}


def whole_call(index: int, call_id: str, command: str) -> dict[str, Any]:
    """Return a whole call of Bash."""
    function = {"name": "Bash", "arguments": json.dumps({"command": command})}
    return {"index": index, "id": call_id, "type": "function", "function": function}


def line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


CASES = (
    Case(
        rule="chunks are put together",
        ways=STREAMED,
        answers=(
            stream(chunk("", role="assistant"), chunk("one "), chunk("two"), chunk(finish="stop")),
        ),
        message=ONE_TWO,
    ),
    Case(
        rule="all characters survive",
        ways=STREAMED,
        answers=(stream(chunk("ü世👩‍👩‍👧\u2028\x85"), chunk('\\n "\t'), chunk(finish="stop")),),
        message={"content.0.text": 'ü世👩‍👩‍👧\u2028\x85\\n "\t'},
    ),
    Case(
        rule="lines end in CR LF",
        ways=STREAMED,
        answers=(
            stream(
                f"data: {line(chunk('one '))}\r\n\r\n",
                f"data: {line(chunk('two', finish='stop'))}\r\n\r\ndata: [DONE]\r\n\r\n",
                end="eof",
            ),
        ),
        message=ONE_TWO,
    ),
    Case(
        rule="comments, event names, ids and no space after data:",
        ways=STREAMED,
        answers=(
            stream(
                ": OPENROUTER PROCESSING\n\n",
                f"event: message\nid: 7\ndata:{line(chunk('one '))}\n\n",
                ":\n\n",
                f"retry: 3000\ndata:{line(chunk('two', finish='stop'))}\n\ndata:[DONE]\n\n",
                end="eof",
            ),
        ),
        message=ONE_TWO,
    ),
    Case(
        rule="a byte order mark at the start",
        ways=STREAMED,
        answers=(stream(b"\xef\xbb\xbf", chunk("one "), chunk("two", finish="stop")),),
        message=ONE_TWO,
    ),
    Case(
        rule="[DONE] without finish_reason is an end",
        ways=STREAMED,
        answers=(stream(chunk("one "), chunk("two")),),
        message=ONE_TWO,
    ),
    Case(
        rule="finish_reason without [DONE] is an end",
        ways=STREAMED,
        answers=(stream(chunk("one "), chunk("two", finish="stop"), end="eof"),),
        message=ONE_TWO,
    ),
    Case(
        rule="the last event lacks its blank line",
        ways=STREAMED,
        answers=(stream(chunk("one "), f"data: {line(chunk('two', finish='stop'))}", end="eof"),),
        message=ONE_TWO,
    ),
    Case(
        rule="a stream that just ends is an error",
        ways=STREAMED,
        answers=(stream(chunk("one "), end="eof"),),
        error={"type": "api_error"},
        source="anomalyco/opencode#40061",
    ),
    Case(
        rule="an error in a chunk is an error",
        ways=STREAMED,
        answers=(stream(chunk("one "), {"error": {"code": 502, "message": "Upstream went away"}}),),
        error={"message": has("Upstream went away")},
        source="OpenRouter: errors after the start",
    ),
    Case(
        rule="Azure's chunks without choices or delta",
        ways=STREAMED,
        answers=(
            stream(
                {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
                chunk("one "),
                {"choices": [{"index": 0, "content_filter_offsets": {}, "finish_reason": None}]},
                {"choices": [{"index": 0, "delta": None, "finish_reason": None}]},
                chunk("two", finish="stop"),
            ),
        ),
        message=ONE_TWO,
        source="openai-python#1677",
    ),
    Case(
        rule="usage on a last chunk of its own",
        ways=STREAMED,
        answers=(
            stream(
                chunk("one "),
                chunk("two", finish="stop"),
                {"choices": [], "usage": {"prompt_tokens": 70, "completion_tokens": 9}},
            ),
        ),
        message={"usage.input_tokens": 70, "usage.output_tokens": 9, **ONE_TWO},
    ),
    # Tools.
    Case(
        rule="arguments come in fragments",
        ways=STREAMED,
        request=TOOLS,
        answers=(
            stream(
                call(0, "", id="call_1", type="function", name="Bash"),
                call(0, '{"comm'),
                call(0, 'and": "e'),
                call(0, 'cho \\"ü\\""}'),
                chunk(finish="tool_calls"),
            ),
        ),
        message={
            "content": kinds("tool_use"),
            "content.0.input": {"command": 'echo "ü"'},
            "stop_reason": "tool_use",
        },
    ),
    Case(
        rule="reasoning that is sent twice is passed on once",
        provider="openrouter",
        model="deepseek/deepseek-r1",
        ways=STREAMED,
        answers=(
            stream(
                chunk(
                    "", reasoning="Hm", reasoning_details=[{"type": "reasoning.text", "text": "Hm"}]
                ),
                chunk("Yes.", finish="stop"),
            ),
        ),
        message={"content": kinds("thinking", "text"), "content.0.thinking": "Hm"},
    ),
    Case(
        rule="two whole calls each have a finish_reason",
        ways=STREAMED,
        request=TOOLS,
        answers=(
            stream(
                chunk(tool_calls=[whole_call(0, "c1", "ls")], finish="tool_calls"),
                chunk(tool_calls=[whole_call(1, "c2", "pwd")], finish="tool_calls"),
            ),
        ),
        message={
            "content": kinds("tool_use", "tool_use"),
            "content.0.input": {"command": "ls"},
            "content.1.input": {"command": "pwd"},
            "stop_reason": "tool_use",
        },
    ),
    Case(
        rule="every piece of a call has a new id",
        ways=STREAMED,
        request=TOOLS,
        answers=(
            stream(
                call(0, "", id="call_A", name="Bash"),
                call(0, '{"comm', id="call_B"),
                call(0, 'and":', id="call_C"),
                call(0, '"ls"}', id="call_D"),
                chunk(finish="tool_calls"),
            ),
        ),
        message=ONE_LS,
    ),
    Case(
        rule="every piece of a call has a new index and id",
        ways=STREAMED,
        request=TOOLS,
        answers=(
            stream(
                call(0, "", id="call_A", name="Bash"),
                call(1, '{"command":', id="call_B"),
                call(2, '"ls"}', id="call_C"),
                chunk(finish="tool_calls"),
            ),
        ),
        message=ONE_LS,
    ),
    Case(
        rule="a call is repeated at another index, in pieces",
        ways=STREAMED,
        request=TOOLS,
        answers=(
            stream(
                call(0, '{"command":', id="c1", name="Bash"),
                call(0, '"ls"}', id="c1"),
                call(1, '{"command":', id="c1", name="Bash"),
                call(1, '"ls"}', id="c1"),
                chunk(finish="tool_calls"),
            ),
        ),
        message=ONE_LS,
    ),
    Case(
        rule="a second call has the id, index and name of the first",
        ways=STREAMED,
        request=TOOLS,
        answers=(
            stream(
                call(0, '{"command":', id="c1", name="Bash"),
                call(0, '"ls"}'),
                call(0, '{"command":"pwd"}', id="c1", name="Bash"),
                chunk(finish="tool_calls"),
            ),
        ),
        message={
            "content": kinds("tool_use", "tool_use"),
            "content.0.input": {"command": "ls"},
            "content.1.input": {"command": "pwd"},
        },
    ),
    Case(
        rule="name and arguments of a call are not in an object",
        request=TOOLS,
        answers=(
            stream(
                chunk(tool_calls=[{"index": 0, "id": "c1", "name": "Bash", "arguments": LS}]),
                chunk(finish="tool_calls"),
            ),
        ),
        ways=STREAMED,
        message=ONE_LS,
    ),
    Case(
        rule="a channel marker follows the name of a tool",
        ways=STREAMED,
        request=TOOLS,
        answers=(
            stream(
                call(0, "", id="c1", name="Bash<|channel|>commentary"),
                call(0, LS),
                chunk(finish="tool_calls"),
            ),
        ),
        message=ONE_LS,
    ),
    Case(
        rule="events without content come between chunks",
        ways=STREAMED,
        answers=(
            stream(
                "data: null\n\n",
                chunk("one "),
                "data: ping\n\n",
                "data: {}\n\n",
                chunk("two"),
                'data: "keepalive"\n\n',
                "data: []\n\n",
                STOP,
            ),
        ),
        message=ONE_TWO,
    ),
    *(
        Case(
            rule=f"tool_calls is {odd!r} beside text",
            ways=STREAMED,
            answers=(
                stream(
                    chunk("one ", tool_calls=odd),
                    chunk("two", tool_calls=odd),
                    STOP,
                ),
            ),
            message=ONE_TWO,
        )
        for odd in ({}, "", [None], [], False)
    ),
    Case(
        rule="reasoning between tags is repeated in its own field",
        provider="minimax",
        model="MiniMax-M3",
        ways=STREAMED,
        answers=(
            stream(
                chunk("<think>The user"),
                chunk(" wants</think>", reasoning_content="The user wants"),
                chunk("Ok"),
                STOP,
            ),
        ),
        message={
            "content": kinds("thinking", "text"),
            "content.0.thinking": "The user wants",
            "content.1.text": "Ok",
        },
    ),
    Case(
        rule="a closing tag follows the reasoning",
        ways=STREAMED,
        answers=(stream(chunk(reasoning_content="hm"), chunk("</think>\n\none two"), STOP),),
        message={"content.0.thinking": "hm", "content.1.text": "one two"},
    ),
    Case(
        rule="Copilot's reasoning is thinking",
        provider="copilot",
        ways=STREAMED,
        request=TOOLS,
        answers=(
            stream(
                chunk(reasoning_text="I think "),
                chunk(reasoning_text="so"),
                chunk(tool_calls=[whole_call(0, "c1", "ls")]),
                chunk(reasoning_opaque="OPAQUE==", finish="tool_calls"),
            ),
        ),
        message={"content.0.thinking": "I think so", "content.1.input": {"command": "ls"}},
    ),
    Case(
        rule="reasoning is an object with a text",
        ways=STREAMED,
        answers=(stream(chunk(reasoning_content={"text": "Hm"}), chunk("a"), STOP),),
        message={"content.0.thinking": "Hm", "content.1.text": "a"},
    ),
    Case(
        rule="the client omits the text of thinking",
        ways=STREAMED,
        request={"thinking": {"type": "adaptive", "display": "omitted"}},
        answers=(stream(chunk(reasoning_content="Hm"), chunk("a"), STOP),),
        message={
            "content": kinds("thinking", "text"),
            "content.0.thinking": "",
            "content.1.text": "a",
        },
    ),
    Case(
        rule="a tool call is written into the text as DSML",
        provider="deepseek",
        model="deepseek-v4-pro",
        request=TOOLS,
        answers=(
            stream(
                chunk("I will list.\n\n"),
                chunk('<｜DSML｜tool_calls>\n<｜DSML｜invoke name="Bash">\n<｜DSML｜parameter '),
                chunk('name="command" string="true">ls</｜DSML｜parameter>\n</｜DSML｜invoke>\n'),
                chunk("</｜DSML｜tool_calls>"),
                STOP,
            ),
        ),
        ways=STREAMED,
        message={
            "content": kinds("text", "tool_use"),
            "content.0.text": "I will list.\n\n",
            "content.1.input": {"command": "ls"},
            "stop_reason": "tool_use",
        },
    ),
)
