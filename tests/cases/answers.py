"""What the client gets for a complete answer, whole or streamed."""

from __future__ import annotations

from tests.cases.case import Case, has, kinds
from tests.cases.requests import BASH, LONG_NAME
from tests.provider import completion, raw, tool_call

TOOLS = {"tools": [BASH]}


def usage(**fields):
    return {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050, **fields}


CASES = (
    Case(
        rule="text is text",
        answers=(completion('Grüße, 世界 👋\n"quoted" \\ back'),),
        message={
            "content": kinds("text"),
            "content.0.text": 'Grüße, 世界 👋\n"quoted" \\ back',
            "stop_reason": "end_turn",
            "stop_sequence": None,
        },
    ),
    Case(
        rule="the message is named for the model that was asked for",
        model="claude-opus-4-1",
        message={"model": "claude-opus-4-1", "id": lambda value: value.startswith("msg_")},
    ),
    Case(
        rule="a pure tool turn has no empty text",
        request=TOOLS,
        answers=(completion(tool_calls=[tool_call("Bash", {"command": "ls"})]),),
        message={
            "content": kinds("tool_use"),
            "content.0.name": "Bash",
            "content.0.id": "call_1",
            "content.0.input": {"command": "ls"},
            "stop_reason": "tool_use",
        },
    ),
    Case(
        rule="calls at once are blocks of their own",
        request=TOOLS,
        answers=(
            completion(
                "Both:",
                tool_calls=[
                    tool_call("Bash", {"command": "a"}, call_id="call_a"),
                    tool_call("Bash", {"command": "b"}, call_id="call_b"),
                ],
            ),
        ),
        message={
            "content": kinds("text", "tool_use", "tool_use"),
            "content.1.input.command": "a",
            "content.2.input.command": "b",
        },
    ),
    Case(
        rule="tools win over finish_reason stop",
        request=TOOLS,
        answers=(completion(tool_calls=[tool_call("Bash", {"command": "x"})], finish="stop"),),
        message={"stop_reason": "tool_use"},
        source="googleapis/python-genai#2868",
    ),
    Case(
        rule="no arguments are an empty object",
        request=TOOLS,
        answers=(completion(tool_calls=[tool_call("Bash", "")]),),
        message={"content.0.input": {}},
    ),
    Case(
        rule="a call without an id gets one",
        request=TOOLS,
        answers=(completion(tool_calls=[tool_call("Bash", {"command": "x"}, call_id=None)]),),
        message={"content.0.id": bool},
    ),
    Case(
        rule="an id that Anthropic would refuse is replaced",
        request=TOOLS,
        answers=(
            completion(
                tool_calls=[tool_call("Bash", {"command": "x"}, call_id="functions.Bash:0")]
            ),
        ),
        message={"content": kinds("tool_use")},
        source="Kimi: functions.NAME:INDEX",
    ),
    Case(
        rule="reasoning is thinking, before the text",
        answers=(completion("Four.", reasoning="Two and two"),),
        message={
            "content": kinds("thinking", "text"),
            "content.0.thinking": "Two and two",
            "content.1.text": "Four.",
        },
    ),
    Case(
        rule="a leading think tag is thinking",
        answers=(completion("<think>Two and two</think>\n\nFour."),),
        message={
            "content": kinds("thinking", "text"),
            "content.0.thinking": has("Two and two"),
            "content.1.text": has("Four."),
        },
    ),
    Case(
        rule="a tag that only looks like thinking is text",
        answers=(completion("<thing>x</thing>"),),
        message={"content": kinds("text"), "content.0.text": "<thing>x</thing>"},
    ),
    *(
        Case(
            rule=f"finish_reason {finish} is {reason}",
            answers=(completion("x", finish=finish),),
            message={"stop_reason": reason, "content.0.text": "x"},
        )
        for finish, reason in (
            ("stop", "end_turn"),
            ("length", "max_tokens"),
            ("content_filter", "refusal"),
            ("eos", "end_turn"),
        )
    ),
    Case(
        rule="cached tokens are reported separately",
        answers=(completion("x", usage=usage(prompt_tokens_details={"cached_tokens": 900})),),
        message={
            "usage.input_tokens": 100,
            "usage.cache_read_input_tokens": 900,
            "usage.output_tokens": 50,
        },
    ),
    Case(
        rule="DeepSeek's way of telling cached tokens",
        provider="deepseek",
        model="deepseek-chat",
        answers=(completion("x", usage=usage(prompt_cache_hit_tokens=600)),),
        message={"usage.input_tokens": 400, "usage.cache_read_input_tokens": 600},
    ),
    Case(
        rule="Kimi's way of telling cached tokens",
        provider="kimi",
        model="kimi-k2-turbo-preview",
        answers=(completion("x", usage=usage(cached_tokens=250)),),
        message={"usage.input_tokens": 750, "usage.cache_read_input_tokens": 250},
    ),
    Case(
        rule="without usage there are still numbers",
        answers=(completion("x", usage=None),),
        message={
            "usage.input_tokens": lambda value: value >= 0,
            "usage.output_tokens": lambda value: value >= 0,
        },
    ),
    Case(
        rule="a shortened tool name comes back in full",
        request={"tools": [{**BASH, "name": LONG_NAME}]},
        answers=(
            lambda call: completion(
                tool_calls=[tool_call(call.json["tools"][0]["function"]["name"], {"command": "x"})]
            ),
        ),
        message={"content.0.name": LONG_NAME},
    ),
    Case(
        rule="arguments as an object are arguments",
        request=TOOLS,
        ways=(False,),
        answers=(
            raw(
                '{"choices":[{"message":{"role":"assistant","tool_calls":[{"id":"c","type":'
                '"function","function":{"name":"Bash","arguments":{"command":"x"}}}]},'
                '"finish_reason":"tool_calls"}]}'
            ),
        ),
        message={"content.0.input": {"command": "x"}},
    ),
    Case(
        rule="blank lines before a whole answer are keep-alive",
        ways=(False,),
        answers=(
            raw(
                '\n\n\n{"choices":[{"message":{"role":"assistant","content":"late"},'
                '"finish_reason":"stop"}]}'
            ),
        ),
        message={"content.0.text": "late"},
        source="api-docs.deepseek.com, rate limit",
    ),
)
