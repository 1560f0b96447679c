"""Requests of the client, and the requests that reach the provider."""

from __future__ import annotations

from typing import Any

from tests.cases.case import ABSENT, Case, as_json, has, kinds, lacks

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
BASH = {
    "name": "Bash",
    "description": "Runs a command",
    "input_schema": {
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
    },
}
LONG_NAME = "mcp__a_server_with_a_long_name__look_up_the_invoice_by_its_reference_number"
CACHED = {"cache_control": {"type": "ephemeral"}}


def user(*content: Any) -> dict[str, Any]:
    words = len(content) == 1 and isinstance(content[0], str)
    return {"role": "user", "content": content[0] if words else list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def use(identity: str = "toolu_1", name: str = "Bash", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": identity, "name": name, "input": arguments}


def result(identity: str = "toolu_1", content: Any = "done", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identity, "content": content, **more}


CASES = (
    # Messages.
    Case(
        rule="system text comes first",
        request={"system": "Be brief."},
        provider_body={
            "messages.0": {"role": "system", "content": "Be brief."},
            "messages.1": {"role": "user", "content": "hello"},
        },
    ),
    Case(
        rule="system blocks are joined with a blank line",
        request={"system": [text("One.", **CACHED), text("Two.")]},
        provider_body={"messages.0.content": "One.\n\nTwo.", "messages": lacks("cache_control")},
    ),
    Case(
        rule="Claude Code's attribution line is not for others",
        request={"system": [text("x-anthropic-billing-header: cc_version=2"), text("Be brief.")]},
        provider_body={"messages.0.content": "Be brief."},
    ),
    Case(
        rule="a system message in the conversation keeps its place",
        request={"messages": [user("one"), {"role": "system", "content": "From now on: short."}]},
        provider_body={
            "messages": kinds("user", "system"),
            "messages.1.content": "From now on: short.",
        },
    ),
    Case(
        rule="text is the same as string and as block",
        request={"messages": [user(text("hello"))]},
        provider_body={"messages.0": {"role": "user", "content": "hello"}},
    ),
    Case(
        rule="a picture becomes a data URL",
        request={"messages": [user(text("What is this?"), IMAGE)]},
        provider_body={
            "messages.0.content": kinds("text", "image_url"),
            "messages.0.content.1.image_url.url": f"data:image/png;base64,{PNG}",
        },
    ),
    Case(
        rule="a picture's address stays an address",
        request={
            "messages": [
                user(
                    text("?"),
                    {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
                )
            ]
        },
        provider_body={"messages.0.content.1.image_url.url": "https://x.test/a.png"},
    ),
    Case(
        rule="unknown blocks and fields are left out",
        request={
            "messages": [user(text("hi"), {"type": "hologram", "data": "x"})],
            "context_management": {"edits": []},
            "metadata": {"user_id": "u" * 100},
            "mcp_servers": [],
        },
        provider_body={
            "messages.0.content": has("hi"),
            "context_management": ABSENT,
            "mcp_servers": ABSENT,
        },
    ),
    # Tools.
    Case(
        rule="a tool's call and result go round",
        request={
            "tools": [BASH],
            "messages": [
                user("list"),
                assistant(text("Listing."), use(command='ls -l "ü"')),
                user(result(content="a.txt")),
            ],
        },
        provider_body={
            "messages": kinds("user", "assistant", "tool"),
            "messages.1.content": "Listing.",
            "messages.1.tool_calls.0.id": "toolu_1",
            "messages.1.tool_calls.0.function.name": "Bash",
            "messages.1.tool_calls.0.function.arguments": as_json({"command": 'ls -l "ü"'}),
            "messages.2": {"role": "tool", "tool_call_id": "toolu_1", "content": "a.txt"},
            "tools.0.type": "function",
            "tools.0.function.name": "Bash",
            "tools.0.function.parameters.required": ["command"],
        },
    ),
    Case(
        rule="results directly follow their calls, text comes last",
        request={
            "tools": [BASH],
            "messages": [
                user("go"),
                assistant(use("toolu_a", command="a"), use("toolu_b", command="b")),
                user(text("and now?"), result("toolu_b", "B"), result("toolu_a", "A")),
            ],
        },
        provider_body={
            "messages": kinds("user", "assistant", "tool", "tool", "user"),
            "messages.-1.content": "and now?",
        },
    ),
    Case(
        rule="a result in blocks is their text",
        request={
            "tools": [BASH],
            "messages": [
                user("go"),
                assistant(use()),
                user(result(content=[text("A"), text("B")])),
            ],
        },
        provider_body={"messages.2.content": has("A"), "messages.2.tool_call_id": "toolu_1"},
    ),
    Case(
        rule="a failed result is marked",
        request={
            "tools": [BASH],
            "messages": [
                user("go"),
                assistant(use()),
                user(result(content="no such file", is_error=True)),
            ],
        },
        provider_body={
            "messages.2.content": lambda value: "rror" in value and "no such file" in value
        },
    ),
    Case(
        rule="a result without content is accepted",
        request={
            "tools": [BASH],
            "messages": [
                user("go"),
                assistant(use()),
                user({"type": "tool_result", "tool_use_id": "toolu_1"}),
            ],
        },
        provider_body={
            "messages.2.role": "tool",
            "messages.2.content": lambda value: value is not None,
        },
    ),
    Case(
        rule="a picture in a result follows as a picture, never as text",
        request={
            "tools": [BASH],
            "messages": [user("go"), assistant(use()), user(result(content=[IMAGE]))],
        },
        provider_body={
            "messages.2.content": lacks(PNG[:40]),
            "messages.3.role": "user",
            "messages.3.content": has(f"data:image/png;base64,{PNG}"),
        },
    ),
    Case(
        rule="a call that was never answered gets an answer",
        request={"tools": [BASH], "messages": [user("go"), assistant(use()), user("never mind")]},
        provider_body={"messages": kinds("user", "assistant", "tool", "user")},
    ),
    Case(
        rule="a result without its call becomes text",
        request={"messages": [user(result("toolu_lost", "left over"))]},
        provider_body={"messages.0.role": "user", "messages.0.content": has("left over")},
    ),
    Case(
        rule="a long tool name is shortened the same everywhere",
        request={
            "tools": [{**BASH, "name": LONG_NAME}],
            "tool_choice": {"type": "tool", "name": LONG_NAME},
            "messages": [user("go"), assistant(use(name=LONG_NAME)), user(result())],
        },
        provider_body={
            "": lambda body: (
                len(
                    {
                        body["tools"][0]["function"]["name"],
                        body["tool_choice"]["function"]["name"],
                        body["messages"][1]["tool_calls"][0]["function"]["name"],
                    }
                )
                == 1
            ),
            "tools.0.function.name": lambda name: len(name) <= 64,
        },
    ),
    Case(
        rule="server tools are left out",
        request={"tools": [BASH, {"type": "web_search_20250305", "name": "web_search"}]},
        provider_body={
            "tools": lambda tools: [tool["function"]["name"] for tool in tools] == ["Bash"]
        },
    ),
    Case(
        rule="a schema without type is one of an object",
        request={"tools": [{"name": "Now", "input_schema": {}}]},
        provider_body={"tools.0.function.parameters.type": "object"},
    ),
    *(
        Case(
            rule=f"tool_choice {choice['type']}",
            request={"tools": [BASH], "tool_choice": choice},
            provider_body={"tool_choice": expected},
        )
        for choice, expected in (
            ({"type": "auto"}, lambda value: value == "auto"),
            ({"type": "any"}, "required"),
            ({"type": "none"}, "none"),
            ({"type": "tool", "name": "Bash"}, {"type": "function", "function": {"name": "Bash"}}),
        )
    ),
    Case(
        rule="one call at a time",
        request={
            "tools": [BASH],
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        },
        provider_body={"parallel_tool_calls": False},
    ),
    # Thinking.
    Case(
        rule="foreign thinking is not for the provider",
        request={
            "messages": [
                user("go"),
                assistant(
                    {"type": "thinking", "thinking": "SECRET", "signature": "Zm9yZWlnbg=="},
                    {"type": "redacted_thinking", "data": "SECRET"},
                    text("Done."),
                ),
                user("more"),
            ]
        },
        provider_body={"messages": lacks("SECRET"), "messages.1.content": "Done."},
    ),
    *(
        Case(
            rule=f"thinking {thinking['type']} is accepted and not forwarded to a plain server",
            request={"thinking": thinking, "max_tokens": 4000},
            provider_body={"thinking": ABSENT, "reasoning_effort": ABSENT},
        )
        for thinking in (
            {"type": "enabled", "budget_tokens": 2000},
            {"type": "disabled"},
            {"type": "adaptive"},
        )
    ),
    # Sampling.
    Case(
        rule="what the client did not ask for is not added",
        provider_body={"temperature": ABSENT, "top_p": ABSENT, "stop": ABSENT, "tools": ABSENT},
    ),
    Case(
        rule="sampling goes as asked",
        request={"temperature": 0.3, "top_p": 0.9, "stop_sequences": ["END"]},
        provider_body={"temperature": 0.3, "top_p": 0.9, "stop": ["END"], "max_tokens": 100},
    ),
    Case(
        rule="usage is asked for in streams",
        ways=(True,),
        provider_body={"stream": True, "stream_options.include_usage": True},
    ),
    # Providers with special requirements.
    Case(
        rule="reasoning models count max_completion_tokens and take no temperature",
        provider="openai",
        model="gpt-5",
        request={"temperature": 0.5},
        provider_body={"max_completion_tokens": 100, "max_tokens": ABSENT, "temperature": ABSENT},
        source="pydantic-ai profiles/openai.py; JohnnyZ93/oai-compatible-copilot#19",
    ),
    Case(
        rule="DeepSeek wants reasoning back with every tool turn, empty if there was none",
        provider="deepseek",
        model="deepseek-v4-pro",
        request={
            "thinking": {"type": "enabled", "budget_tokens": 2000},
            "max_tokens": 4000,
            "tools": [BASH],
            "messages": [user("go"), assistant(use()), user(result())],
        },
        provider_body={"messages.1.reasoning_content": lambda value: isinstance(value, str)},
        source="vercel/ai#13203",
    ),
    Case(
        rule="Mistral wants tool ids of nine alphanumerics",
        provider="mistral",
        model="mistral-large-latest",
        request={
            "tools": [BASH],
            "messages": [
                user("go"),
                assistant(use("toolu_01ABC-def")),
                user(result("toolu_01ABC-def")),
            ],
        },
        provider_body={
            "messages.1.tool_calls.0.id": lambda value: len(value) == 9 and value.isalnum(),
            "": lambda body: (
                body["messages"][1]["tool_calls"][0]["id"] == body["messages"][2]["tool_call_id"]
            ),
        },
        source="Mistral error 3280",
    ),
    Case(
        rule="Mistral knows no stream_options",
        provider="mistral",
        model="mistral-large-latest",
        ways=(True,),
        provider_body={"stream_options": ABSENT, "stream": True},
        source="Mistral 422 extra_forbidden",
    ),
    Case(
        rule="GLM chooses tools by itself and streams arguments on request",
        provider="zai",
        model="glm-4.6",
        request={"tools": [BASH], "tool_choice": {"type": "any"}},
        ways=(True,),
        provider_body={"tool_choice": lambda value: value == "auto", "tool_stream": True},
        source="docs.z.ai/guides/tools/stream-tool",
    ),
    Case(
        rule="Gemini's schemas know neither $schema nor exclusiveMinimum",
        provider="gemini",
        model="gemini-2.5-pro",
        request={
            "tools": [
                {
                    "name": "Wait",
                    "input_schema": {
                        "$schema": "http://json-schema.org/draft-07/schema#",
                        "type": "object",
                        "properties": {
                            "$schema": {"type": "string"},
                            "seconds": {"type": "number", "exclusiveMinimum": 0},
                        },
                    },
                }
            ]
        },
        provider_body={
            "tools.0.function.parameters.$schema": ABSENT,
            "tools.0.function.parameters.properties.$schema.type": "string",
            "tools.0.function.parameters.properties.seconds.exclusiveMinimum": ABSENT,
        },
        source="theopenco/llmgateway#1763",
    ),
    Case(
        rule="Qwen thinks only in streams, so a whole answer is streamed upstream",
        provider="qwen",
        model="qwen3-max",
        request={"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 4000},
        ways=(False,),
        provider_body={"stream": lambda value: value is True, "enable_thinking": True},
        message={"content.0.text": "ok"},
        source="new-api#1109",
    ),
    Case(
        rule="Groq refuses reasoning in the history",
        provider="groq",
        model="openai/gpt-oss-120b",
        request={
            "tools": [BASH],
            "messages": [
                user("go"),
                assistant({"type": "thinking", "thinking": "hm", "signature": "eA=="}, use()),
                user(result()),
            ],
        },
        provider_body={"messages.1.reasoning_content": ABSENT, "messages.1.reasoning": ABSENT},
        source="tashfeenahmed/freellmapi#1070",
    ),
)
