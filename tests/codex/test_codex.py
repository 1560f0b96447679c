"""The real Codex CLI with providers of every API: tools, reasoning, errors, the user's files."""

from __future__ import annotations

import json

import pytest

from tests import responses_answers as responses
from tests.provider import completion, failure, stream, tool_call
from tests.responses_answers import events_of, sse

pytestmark = pytest.mark.codex

MODEL = "gpt-5.5"
"""A model that Codex supports: apply_patch is a custom tool with a grammar."""
PATCH = "*** Begin Patch\n*** Add File: b.txt\n+two\n*** End Patch\n"
SHELL = tool_call("exec_command", {"cmd": "echo one > a.txt; cat a.txt"}, call_id="call_1")


def settings(api, provider, model=MODEL):
    server = {"PROVIDER_API": api, "PROVIDER_BASE_URL": provider.url}
    return {**server, "PROVIDER_API_KEY": "sk-upstream-1", "BIG_MODEL": model}


def patch_call(api):
    """Return a call of apply_patch: a custom call, or its replacement by a function."""
    if api != "responses":
        call = tool_call("apply_patch", {"input": PATCH}, call_id="call_2")
        return completion(tool_calls=[call])
    item = {"type": "custom_tool_call", "call_id": "call_2", "name": "apply_patch", "input": PATCH}
    events = events_of(responses.response({"id": "ctc_1", "status": "completed", **item}))
    return stream(*[sse([event]) for event in events], end="eof")


@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
async def test_a_session_uses_tools(api, codex, provider):
    own = 'model_reasoning_effort = "low"\n[tools]\nview_image = false\n'
    codex.config.write_text(own)
    codex.home.write(kimi=settings(api, provider))
    provider.script(
        completion("I look.", reasoning="A plan.", tool_calls=[SHELL]),
        patch_call(api),
        completion("All done."),
    )
    session = await codex.run("kimi", "Do it")
    assert session.code == 0, session
    kinds = [item["type"] for item in session.items]
    expected = ["reasoning", "agent_message", "command_execution", "file_change", "agent_message"]
    assert kinds == expected
    assert session.items[2]["aggregated_output"] == "one\n"
    assert (codex.cwd / "b.txt").read_text() == "two\n"
    assert session.text == "All done."
    assert session.events[-1]["usage"]["input_tokens"] > 20
    assert codex.config.read_text() == own
    assert {call.json["model"] for call in provider.calls} == {MODEL}
    # The model's reasoning is returned to it.
    second = json.dumps(provider.calls[1].json)
    returned = {"chat": "I look.", "responses": "gAAAAscripted", "messages": "c2lnbmVk"}
    assert returned[api] in second


async def test_an_unknown_model_works_with_the_shell_only(codex, provider):
    """It gets the shell but no apply_patch, and the proxy's context window."""
    codex.home.write(kimi={**settings("chat", provider, "kimi-k3"), "CONTEXT_WINDOW": "262144"})
    provider.script(completion("", reasoning="Plan", tool_calls=[SHELL]), completion("Done."))
    session = await codex.run("kimi", "Do it")
    assert (session.code, session.text) == (0, "Done.")
    assert (codex.cwd / "a.txt").read_text() == "one\n"
    assert provider.calls[1].json["messages"][-2]["reasoning_content"] == "Plan"


async def test_code_mode_uses_namespaced_tools(codex, provider):
    """An input item adds tools in namespaces: a script that calls the shell."""
    codex.home.write(kimi=settings("messages", provider, "gpt-6.2-sol"))
    script = 'text((await tools.exec_command({cmd: "echo one > a.txt"})).output)'
    call = tool_call("functions__exec", {"input": script}, call_id="call_1")
    provider.script(completion(tool_calls=[call]), completion("Done."))
    session = await codex.run("kimi", "Do it")
    assert (session.code, session.text) == (0, "Done.")
    assert (codex.cwd / "a.txt").read_text() == "one\n"


async def test_a_permanent_error_is_shown_immediately(codex, provider):
    codex.home.write(kimi=settings("chat", provider))
    provider.script(failure(401, "bad key"))
    session = await codex.run("kimi", "Do it")
    assert "Check PROVIDER_API_KEY" in session.messages[-1]
    assert len(provider.calls) == 1


async def test_a_context_overflow_is_recognized(codex, provider):
    codex.home.write(kimi=settings("chat", provider))
    text = "This model's maximum context length is 1000 tokens, you requested 2000 tokens"
    provider.script(failure(400, text))
    session = await codex.run("kimi", "Do it")
    assert "ran out of room" in session.messages[-1]
