"""
Sessions of the real Claude Code: its actions, the provider's requests, and the files on disk.

A strict server must accept every request that reaches the provider.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import struct
import sys
import zlib
from typing import Any

import pytest

from tests.claude.driver import started
from tests.provider import Answer, Call, chunk, completion, failure, stream, tool_call

pytestmark = pytest.mark.claude


def bash(command: str, call_id: str = "call_1") -> dict[str, Any]:
    return tool_call("Bash", {"command": command}, call_id=call_id)


@pytest.fixture(params=["chat", "responses"])
def api(request) -> str:
    return request.param


def conversation(call: Call) -> list[dict[str, Any]]:
    """Return the messages of Chat Completions, or the items of the Responses API."""
    return call.json["messages"] if "messages" in call.json else call.json["input"]


def messages(call: Call, role: str) -> list[dict[str, Any]]:
    return [message for message in conversation(call) if message.get("role") == role]


def tool_names(call: Call) -> list[str]:
    return [tool.get("function", tool)["name"] for tool in call.json["tools"]]


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content)


def results(call: Call) -> dict[str, str]:
    if "messages" in call.json:
        return {message["tool_call_id"]: text_of(message) for message in messages(call, "tool")}
    return {
        item["call_id"]: text_of({"content": item["output"]})
        for item in conversation(call)
        if item["type"] == "function_call_output"
    }


# The demo model.


async def test_the_demo_model_runs_a_command(claude_on_demo):
    session = await claude_on_demo.run("run `echo hello-$((6*7))`")
    assert [call["name"] for call in session.tool_calls] == ["Bash"]
    assert "hello-42" in session.tool_results[session.tool_calls[0]["id"]]
    assert "hello-42" in session.text
    assert session.code == 0


async def test_run_starts_claude_on_the_right_proxy(claude_on_demo, home):
    claude = claude_on_demo
    environ = claude.environment(PYTHONPATH=":".join(sys.path))
    del environ["ANTHROPIC_BASE_URL"], environ["ANTHROPIC_AUTH_TOKEN"]
    ccproxy = [sys.executable, "-m", "ccproxy", "--config", str(home.path / "ccproxy.toml")]
    command = [*ccproxy, "run", "demo", "--", str(claude.binary), *claude.arguments("run `pwd`")]
    async with started(command, claude.cwd, environ) as child:
        out, errors = await asyncio.wait_for(child.communicate(), 90)
    assert child.returncode == 0, errors
    assert str(claude.cwd) in json.loads(out.splitlines()[-1])["result"]


async def test_direct_mode_leaves_the_request_as_it_is(claude_direct, provider):
    provider.script(completion(tool_calls=[bash("echo hi-$((40+2))")]), completion("Done."))
    session = await claude_direct.run("Run it")
    session.expect("Done.")
    first, second = (call.json for call in provider.calls)
    assert {call.path for call in provider.calls} == {"/v1/messages"}
    assert first["model"] == "big"
    assert "cache_control" in json.dumps(first["system"])
    assert "hi-42" in json.dumps(second["messages"][-1])


# Tools.


async def test_a_session_of_many_tools(claude, provider):
    """Commands run once, files contain the exact bytes, and the prompt only grows at its end."""
    file = claude.cwd / "out" / "ünï.py"
    content = 'print("héllo \\"wörld\\" 😀")\n# tab\there\nx = {"a": [1, 2], "b": "c\\\\d"}\n'
    edit = {"file_path": str(file), "old_string": "# tab\there", "new_string": "# edited ✓"}
    steps = [
        bash("echo x >> ran.log; echo hi-$((40+2))"),
        tool_call("Write", {"file_path": str(file), "content": content}, call_id="call_2"),
        tool_call("Edit", edit, call_id="call_3"),
        tool_call("Read", {"file_path": str(file)}, call_id="call_4"),
    ]
    answers = [completion("Next.", tool_calls=[step]) for step in steps]
    provider.script(*answers, completion("All is done."))
    session = await claude.run("Build the file")

    session.expect("All is done.")
    assert [call["name"] for call in session.tool_calls] == ["Bash", "Write", "Edit", "Read"]
    assert (claude.cwd / "ran.log").read_text() == "x\n"
    assert file.read_text() == content.replace("# tab\there", "# edited ✓")
    assert "hi-42" in results(provider.calls[1])["call_1"]
    assert len(provider.calls) == 5
    for earlier, later in zip(provider.calls, provider.calls[1:], strict=False):
        before, after = conversation(earlier), conversation(later)
        assert after[: len(before)] == before, "what was sent once must not change: it is cached"
        assert later.json["tools"] == earlier.json["tools"]


async def test_parallel_calls_are_all_run_and_answered(claude, provider):
    calls = [bash("echo one"), bash("echo two; exit 3", "call_2"), bash("echo three", "call_3")]
    provider.script(completion(tool_calls=calls), completion("All three."))
    session = await claude.run("Do three things")
    session.expect("All three.")
    answered = results(provider.calls[1])
    assert list(answered) == ["call_1", "call_2", "call_3"]
    assert "one" in answered["call_1"]
    assert "two" in answered["call_2"]
    assert "three" in answered["call_3"]


@pytest.mark.parametrize("api", ["chat"])
async def test_interleaved_fragments_of_two_calls_are_kept_apart(claude, provider):
    def fragment(index: int, text: str, **head: Any) -> dict[str, Any]:
        call = {"index": index, **head, "function": {"arguments": text}}
        if head:
            call["function"]["name"] = "Bash"
        return chunk(tool_calls=[call])

    parts = [
        fragment(0, "", id="call_a", type="function"),
        fragment(1, "", id="call_b", type="function"),
        fragment(0, '{"comm'),
        fragment(1, '{"command": "ec'),
        fragment(0, 'and": "echo first"}'),
        fragment(1, 'ho second"}'),
        chunk(finish="tool_calls"),
    ]
    provider.script(stream(*parts), completion("Both."))
    session = await claude.run("Do two things")
    session.expect("Both.")
    answered = results(provider.calls[1])
    assert "first" in answered["call_a"]
    assert "second" in answered["call_b"]


async def test_a_picture_reaches_the_provider_as_a_picture(claude, provider):
    claude.environment()
    (claude.cwd / "red.png").write_bytes(png())
    read = tool_call("Read", {"file_path": str(claude.cwd / "red.png")})
    provider.script(completion(tool_calls=[read]), completion("It is red."))
    session = await claude.run("Look at red.png")
    session.expect("It is red.")
    (url,) = re.findall(r'"(data:image/[^"]+)"', json.dumps(provider.calls[1].json))
    head, _, data = url.partition(",")
    assert head.startswith("data:image/")
    assert base64.b64decode(data)
    everything = "\n".join(map(text_of, conversation(provider.calls[1])))
    assert data not in everything, "the picture must not be sent as text as well"


def png(size: int = 16) -> bytes:
    rows = (b"\0" + b"\xff\0\0" * size) * size

    def part(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    data = part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


async def test_a_tool_that_is_found_by_search_can_be_used(claude, provider):
    """ToolSearch answers with references; the tool's schema is sent with the next turn."""

    def script(call: Call) -> Answer:
        names = tool_names(call)
        done = list(results(call))
        if "call_list" in done:
            return completion("Listed.")
        if "CronList" in names:
            return completion(tool_calls=[tool_call("CronList", {}, call_id="call_list")])
        assert "call_search" not in done, "the search did not bring the tool"
        search = {"query": "select:CronList"}
        return completion(tool_calls=[tool_call("ToolSearch", search, call_id="call_search")])

    provider.script(script)
    session = await claude.run("Which cron jobs are there?")
    session.expect("Listed.")
    assert [call["name"] for call in session.tool_calls] == ["ToolSearch", "CronList"]
    assert results(provider.calls[-1])["call_list"].strip()


async def test_a_subagent_has_its_own_conversation(claude, provider):
    task = {
        "description": "Count",
        "prompt": "Count the files, agent.",
        "subagent_type": "general-purpose",
    }

    def script(call: Call) -> Answer:
        request = "\n".join(map(text_of, messages(call, "user")))
        answered = results(call)
        if "Count the files, agent." in request:
            return completion("I counted 7 files.")
        if any("7 files" in text for text in answered.values()):
            return completion("There are seven.")
        (name,) = {*tool_names(call)} & {"Agent", "Task"}
        return completion(tool_calls=[tool_call(name, {**task, "run_in_background": False})])

    provider.script(script)
    session = await claude.run("How many files? Let an agent count.")
    session.expect("There are seven.")


# Reasoning and numbers.


async def test_reasoning_is_thinking_and_never_text(claude, provider):
    provider.script(
        completion("", reasoning="SECRET plan", tool_calls=[bash("echo thought")]),
        completion("Done thinking.", reasoning="SECRET again"),
    )
    session = await claude.run("Think hard")
    session.expect("Done thinking.")
    contents = [event["message"]["content"] for event in session.events if "message" in event]
    blocks = [block for content in contents if isinstance(content, list) for block in content]
    assert "SECRET plan" in [block["thinking"] for block in blocks if block["type"] == "thinking"]
    assert not any("SECRET" in block["text"] for block in blocks if block["type"] == "text")


async def test_usage_separates_cached_tokens(claude, provider):
    usage = {
        "prompt_tokens": 5000,
        "completion_tokens": 321,
        "total_tokens": 5321,
        "prompt_tokens_details": {"cached_tokens": 4096},
    }
    provider.script(completion("Counted.", usage=usage))
    session = await claude.run("Count")
    session.expect("Counted.")
    counted = session.result["usage"]
    assert (counted["input_tokens"], counted["cache_read_input_tokens"]) == (904, 4096)
    assert counted["output_tokens"] == 321


async def test_an_answer_cut_at_its_limit_is_continued(claude, provider):
    provider.script(completion("First half", finish="length"), completion("second half"))
    session = await claude.run("A long answer")
    session.expect("second half")
    assert "token limit" in text_of(messages(provider.calls[1], "user")[-1]).lower()


# Failures.


async def test_a_conversation_that_is_too_long_is_compacted(claude, provider):
    """Claude Code compacts the conversation and continues only if it recognizes the error."""
    too_long = (
        "This model's maximum context length is 128000 tokens. However, your messages resulted in "
        "150210 tokens. Please reduce the length of the messages."
    )
    compacted: list[Call] = []

    def script(call: Call) -> Answer:
        if "TEXT ONLY" in "\n".join(map(text_of, messages(call, "user")[-2:])):
            compacted.append(call)
            return completion("<analysis>a</analysis><summary>We ran steps.</summary>")
        if compacted:
            return completion("Finished after compaction.")
        if call.number < 3:
            step = f"call_{call.number}"
            return completion(tool_calls=[bash(f"echo {step}; seq 1 1500", step)])
        error = {"message": too_long, "type": "invalid_request_error"}
        return failure(400, {"error": {**error, "code": "context_length_exceeded"}})

    provider.script(script)
    session = await claude.run("Do many steps")
    session.expect("Finished after compaction.")
    assert len(compacted) == 1


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        pytest.param(failure(401, "Incorrect API key provided"), "401", id="the key is wrong"),
        pytest.param(failure(400, "E2E no such thing"), "E2E no such thing", id="bad request"),
    ],
)
async def test_the_user_sees_the_providers_message(claude, provider, trouble, message):
    provider.script(trouble)
    session = await claude.run("Hello", CLAUDE_CODE_MAX_RETRIES="0")
    assert session.result["is_error"] is True
    assert message in session.text


async def test_a_broken_stream_is_retried(claude, provider):
    cut = stream(chunk("This answer is cu"), end="cut")
    provider.script(cut, completion("The complete answer."))
    session = await claude.run("Hello")
    session.expect("The complete answer.")


async def test_the_provider_stops_when_claude_is_killed(claude, provider):
    never = asyncio.Event()
    provider.script(stream(chunk("tick"), never))
    command = [str(claude.binary), *claude.arguments("Tick")]
    async with started(command, claude.cwd, claude.environment()):
        call = await asyncio.wait_for(provider.called(), 60)
    await asyncio.wait_for(call.gone.wait(), 30)


async def test_a_session_can_be_continued(claude, provider):
    provider.script(
        completion(tool_calls=[bash("echo remember-42")]),
        completion("Noted."),
        completion("It was 42."),
    )
    (await claude.run("Remember this")).expect("Noted.")
    (await claude.run("What was it?", "--continue")).expect("It was 42.")
    assert "remember-42" in results(provider.calls[2])["call_1"]
    assert "Noted." in "\n".join(map(text_of, messages(provider.calls[2], "assistant")))
