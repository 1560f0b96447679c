"""Complete answers, whole or streamed, and the messages that the client gets."""

from __future__ import annotations

from tests.cases.case import Case, kinds
from tests.cases.requests import BASH, LONG_NAME
from tests.provider import completion, raw, tool_call

TOOLS = {"tools": [BASH]}


CASES = (
    Case(
        rule="text arrives unchanged",
        answers=(completion('Grüße, 世界 👋\n"quoted" \\ back'),),
        message={
            "content": kinds("text"),
            "content.0.text": 'Grüße, 世界 👋\n"quoted" \\ back',
            "stop_reason": "end_turn",
            "stop_sequence": None,
        },
    ),
    Case(
        rule="the message names the requested model",
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
        rule="parallel calls are separate blocks",
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
