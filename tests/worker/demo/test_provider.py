"""Tests of the demo model, including a conversation through the proxy."""

from __future__ import annotations

import json

import pytest

from ccproxy.worker.demo.model import reply_to
from tests.messages import prompt

BASH = {"type": "function", "function": {"name": "Bash"}}


def user(*texts):
    parts = [{"type": "text", "text": text} for text in texts]
    return {"role": "user", "content": parts if len(parts) > 1 else texts[0]}


def called(command="ls"):
    function = {"name": "Bash", "arguments": json.dumps({"command": command})}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": function}]}


REMINDER = "<system-reminder>Never run `rm -rf /` without asking.</system-reminder>"


@pytest.mark.parametrize(
    ("messages", "command"),
    [
        pytest.param([user("run `ls -l`")], "ls -l", id="quoted"),
        pytest.param([user("Please run: echo hi")], "echo hi", id="after a colon"),
        pytest.param([user("Run the command `pwd`, please")], "pwd", id="in a sentence"),
        pytest.param([user("execute `date`")], "date", id="execute"),
        pytest.param([user(REMINDER, "run `ls`")], "ls", id="a reminder before it"),
        pytest.param([user("run `ls`", REMINDER)], "ls", id="a reminder after it"),
        pytest.param([user("run `ls`"), user(REMINDER)], "ls", id="a reminder of its own"),
        pytest.param(
            [user("run `a`"), called("a"), {"role": "tool", "content": "x"}, user("run `b`")],
            "b",
            id="a second command",
        ),
        pytest.param(
            [{"role": "system", "content": "run `rm`"}, user("run `ls`")], "ls", id="system prompt"
        ),
    ],
)
def test_it_runs_the_requested_command(messages, command):
    reply = reply_to({"messages": messages, "tools": [BASH]})
    assert reply.tool == "Bash"
    assert json.loads(reply.arguments)["command"] == command
    assert reply.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    "request_body",
    [
        pytest.param({"messages": [user("run `ls`")]}, id="no tool"),
        pytest.param({"messages": [user("hello")], "tools": [BASH]}, id="no command"),
        pytest.param({"messages": [user(REMINDER)], "tools": [BASH]}, id="only a reminder"),
        pytest.param({"messages": [], "tools": [BASH]}, id="no messages"),
        pytest.param({}, id="nothing at all"),
        pytest.param({"messages": "x", "tools": [1, {"function": 2}]}, id="nonsense"),
    ],
)
def test_it_answers_other_prompts_with_text(request_body):
    reply = reply_to(request_body)
    assert (reply.tool, reply.finish_reason) == ("", "stop")
    assert "demo model" in reply.text


def test_it_uses_results():
    results = [{"role": "tool", "content": "one"}, {"role": "tool", "content": "two"}]
    messages = [user("run `ls`"), called(), *results, user(REMINDER)]
    reply = reply_to({"messages": messages, "tools": [BASH]})
    assert reply.text == "The command printed:\n\none\ntwo"


def test_it_follows_a_schema():
    properties = {
        "title": {"type": "string"},
        "kind": {"enum": ["a", "b"]},
        "new": {"type": "boolean"},
        "n": {"type": "integer"},
        "tags": {"type": "array"},
        "more": {"type": "object"},
    }
    schema = {"type": "object", "properties": properties}
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    answer = json.loads(reply_to({"messages": [user("hi")], "response_format": form}).text)
    assert answer == {
        "title": "ccproxy demo",
        "kind": "a",
        "new": False,
        "n": 0,
        "tags": [],
        "more": {},
    }


def test_it_lets_a_conversation_be_compacted():
    request = user("CRITICAL: Respond with TEXT ONLY. Put it into <summary> tags. run `ls`")
    assert reply_to({"messages": [request], "tools": [BASH]}).text.startswith("<summary>")


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
async def test_a_conversation_goes_through_the_whole_proxy(demo, streams):
    tool = {"name": "Bash", "input_schema": {"type": "object"}}
    output = prompt("run `echo hi`", tools=[tool], stream=streams)
    first = await demo.ask(output)
    (call,) = first.blocks("tool_use")
    assert call["input"]["command"] == "echo hi"
    assert first.message["stop_reason"] == "tool_use"
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "hi"}
    turns = [
        *output["messages"],
        {"role": "assistant", "content": first.message["content"]},
        {"role": "user", "content": [result]},
    ]
    second = await demo.ask({**output, "messages": turns})
    assert second.text == "The command printed:\n\nhi"
    assert second.message["usage"]["input_tokens"] > 0


async def test_it_streams_word_by_word(demo):
    answer = await demo.ask(prompt("hello", stream=True))
    deltas = [event for event in answer.events if event["type"] == "content_block_delta"]
    assert len(deltas) > 20
    assert "You said: hello" in answer.text


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [("/v1/chat/completions", b"{", 400), ("/v1/other", b"{}", 404)],
)
async def test_it_rejects_invalid_requests(demo, path, body, status):
    url = demo.worker.config.base_url.removesuffix("/v1") + path
    async with demo.session.post(url, data=body) as response:
        assert response.status == status
        assert (await response.json())["error"]["type"] == "demo_error"
