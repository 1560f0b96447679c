"""Tests of the history: each turn is recorded once, and can be shown, deleted and exported."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing

import pytest

from tests.asking import assistant, request, result, use, user
from tests.messages import prompt
from tests.provider import chunk, completion, failure, stream, tool_call
from tests.worker.admin_client import AUTH, CLIENT_KEY, admin
from tests.worker.proxy import KEY


@pytest.fixture
async def proxy(start):
    return await start(ANTHROPIC_API_KEY=CLIENT_KEY, HISTORY="on")


async def say(proxy, text="hello", **fields):
    return await proxy.ask(prompt(text, **fields), headers=AUTH)


async def turns_of(proxy, query=""):
    got = await admin(proxy, f"GET /conversation{query}")
    assert got.status == 200, got.json
    return [(turn["role"], turn["content"]) for turn in got.json["messages"]]


# Recorded turns.


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_both_turns_are_recorded_once(proxy, provider, streams):
    provider.script(completion("Hello, you", reasoning="secret thought"))
    await say(proxy, "Hi ✓", stream=streams)
    got = await admin(proxy, "GET /conversation")
    user_turn, answer = got.json["messages"]
    assert got.json["total_count"] == 2
    assert (user_turn["role"], user_turn["content"]) == ("user", "Hi ✓")
    assert (answer["role"], answer["content"]) == ("assistant", "Hello, you")
    assert answer["model_used"] == user_turn["model_used"] == "gpt-4o"
    assert user_turn["timestamp"] <= answer["timestamp"]


async def test_direct_mode_is_recorded_too(start, provider):
    proxy = await start(ANTHROPIC_API_KEY=CLIENT_KEY, HISTORY="on", PROVIDER_API="messages")
    provider.script(completion("Hello"))
    await say(proxy, "a", stream=True)
    await say(proxy, "b")
    assert await turns_of(proxy) == [
        *(("user", "a"), ("assistant", "Hello")),
        *(("user", "b"), ("assistant", "Hello")),
    ]


async def test_a_session_with_tools_contains_each_turn_once_and_no_tool_content(proxy, provider):
    provider.script(
        completion("I look", tool_calls=[tool_call("Read", {"path": "/secret"})]),
        completion("Done"),
    )
    question = [user("read it")]
    await proxy.ask(request(*question), headers=AUTH)
    question += [assistant("I look", use("call_1", path="/secret")), user(result("call_1", "BODY"))]
    await proxy.ask(request(*question), headers=AUTH)
    matches = await turns_of(proxy)
    assert matches == [("user", "read it"), ("assistant", "I look"), ("assistant", "Done")]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(
            prompt("CRITICAL: Respond with TEXT ONLY. Do NOT call any tools."), {}, id="compaction"
        ),
        pytest.param(prompt("explore"), {"x-claude-code-agent-id": "a1"}, id="an agent"),
        pytest.param(
            prompt("x", system="Generate a concise title for this session"), {}, id="a title"
        ),
    ],
)
async def test_claude_codes_own_requests_are_not_recorded(proxy, body, headers):
    answer = await proxy.ask(body, headers={**AUTH, **headers})
    assert answer.status == 200
    assert await turns_of(proxy) == []


async def test_a_repeated_request_is_recorded_once(proxy, provider):
    provider.script(failure(400), stream(chunk("Hel"), end="cut"), completion("Hello"))
    await say(proxy, "a")
    await say(proxy, "a", stream=True)
    await say(proxy, "a")
    assert await turns_of(proxy) == [("user", "a"), ("assistant", "Hello")]


async def test_keys_are_not_recorded(proxy, provider):
    provider.script(completion(f"your key {KEY}"))
    await say(proxy, "mine is sk-ant-api03-abcdefghijkl")
    text = json.dumps(await turns_of(proxy))
    assert KEY not in text
    assert "abcdefgh" not in text
    assert "…6789" in json.loads(json.dumps(await turns_of(proxy)))[1][1]


async def test_history_is_off_by_default(start, provider, tmp_path):
    proxy = await start(ANTHROPIC_API_KEY=CLIENT_KEY)
    await say(proxy)
    assert await turns_of(proxy) == []
    assert (await admin(proxy, "GET /conversation/status")).json["enabled"] is False


async def test_turns_survive_a_restart(start, provider):
    first = await start(ANTHROPIC_API_KEY=CLIENT_KEY, HISTORY="on")
    await say(first, "a")
    await first.worker.session.close()
    second = await start(ANTHROPIC_API_KEY=CLIENT_KEY, HISTORY="on")
    assert await turns_of(second) == [("user", "a"), ("assistant", "ok")]


async def test_a_start_deletes_old_turns_even_if_history_is_off(start, tmp_path):
    first = await start(ANTHROPIC_API_KEY=CLIENT_KEY, HISTORY="on")
    await say(first, "a")
    await first.worker.session.close()
    with closing(sqlite3.connect(tmp_path / "state/history.sqlite3")) as file, file:
        file.execute("UPDATE turns SET stored = 0")
    second = await start(ANTHROPIC_API_KEY=CLIENT_KEY)
    assert await turns_of(second) == []
    with closing(sqlite3.connect(tmp_path / "state/history.sqlite3")) as file:
        assert file.execute("SELECT COUNT(*) FROM turns").fetchone() == (0,)


# Showing and deleting.


@pytest.mark.parametrize(("limit", "count"), [("0", 0), ("1", 1), ("3", 3), ("999", 4)])
async def test_a_limit_selects_the_last_turns(proxy, limit, count):
    await say(proxy, "a")
    await say(proxy, "b")
    got = await admin(proxy, f"GET /conversation?limit={limit}")
    assert got.json["total_count"] == 4
    assert len(got.json["messages"]) == count
    if count:
        assert got.json["messages"][-1]["role"] == "assistant"


@pytest.mark.parametrize("limit", ["-1", "x", "1e3", "١", ""])
async def test_a_limit_is_a_number(proxy, limit):
    got = await admin(proxy, f"GET /conversation?limit={limit}")
    assert (got.status, got.error["type"]) == (400, "invalid_request_error")


async def test_turns_are_deleted(proxy):
    await say(proxy)
    got = await admin(proxy, "DELETE /conversation")
    assert (got.status, got.json["total_count"]) == (200, 0)
    assert await turns_of(proxy) == []


# Continuing a conversation.


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_a_continued_conversation_is_sent_to_the_model(proxy, provider, streams):
    provider.script(completion("I am K2"))
    await say(proxy, "Who are you?")
    body = {
        "model": "claude-opus-4-1",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "Again?"}],
        "stream": streams,
    }
    answer = await proxy.ask(body, headers=AUTH, path="/conversation/continue")
    assert (answer.status, answer.text) == (200, "I am K2")
    assert bool(answer.events) is streams
    observed = provider.calls[-1].json["messages"]
    assert [(one["role"], one["content"]) for one in observed] == [
        ("user", "Who are you?"),
        ("assistant", "I am K2"),
        ("user", "Again?"),
    ]
    assert (await turns_of(proxy))[2:] == [("user", "Again?"), ("assistant", "I am K2")]


async def test_continuing_with_only_a_text(proxy, provider):
    got = await admin(proxy, "POST /conversation/continue", {"message": "Hi"})
    assert (got.status, got.json["content"][0]["text"]) == (200, "ok")
    assert provider.calls[0].json["model"] == "gpt-4o"


@pytest.mark.parametrize("body", [{}, {"messages": []}, {"messages": "x"}, {"message": 5}, [], "x"])
async def test_continuing_needs_a_text(proxy, provider, body):
    got = await admin(proxy, "POST /conversation/continue", body)
    assert (got.status, got.error["type"]) == (400, "invalid_request_error")
    assert provider.calls == []


# Files.


@pytest.mark.parametrize("how", ["body", "query"])
async def test_turns_are_written_to_an_export_immediately(start, tmp_path, how):
    proxy = await start(ANTHROPIC_API_KEY=CLIENT_KEY)
    if how == "body":
        got = await admin(proxy, "POST /conversation/enable", {"file_path": "talk.jsonl"})
    else:
        got = await admin(proxy, "POST /conversation/enable?file_path=talk.jsonl")
    assert got.json == {"enabled": True, "file_path": "talk.jsonl", "total_count": 0}
    await say(proxy, "a")
    assert (await admin(proxy, "POST /conversation/flush")).json["total_count"] == 2
    file = tmp_path / "exports/talk.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["role"], line["content"]) for line in lines] == [
        ("user", "a"),
        ("assistant", "ok"),
    ]

    assert (await admin(proxy, "POST /conversation/disable")).json["enabled"] is False
    await say(proxy, "b")
    assert len(await turns_of(proxy)) == 2
    assert len(file.read_text().splitlines()) == 2

    await admin(proxy, "DELETE /conversation")
    got = await admin(proxy, "POST /conversation/load", {"file_path": "talk.jsonl"})
    assert got.json["total_count"] == 2
    got = await admin(proxy, "POST /conversation/load", {"file_path": "talk.jsonl"})
    assert got.json["total_count"] == 2, "each turn once"
    assert await turns_of(proxy) == [("user", "a"), ("assistant", "ok")]


async def test_no_file_is_overwritten(proxy):
    assert (await admin(proxy, "POST /conversation/enable", {"file_path": "x"})).status == 200
    got = await admin(proxy, "POST /conversation/enable", {"file_path": "x"})
    assert (got.status, got.error["type"]) == (409, "conflict_error")


async def test_a_missing_file_is_reported(proxy):
    got = await admin(proxy, "POST /conversation/load", {"file_path": "none.jsonl"})
    assert (got.status, got.error["type"]) == (404, "not_found_error")
    assert (await admin(proxy, "POST /conversation/load", {})).status == 400


async def test_a_malformed_file_is_reported_with_its_line(proxy, tmp_path):
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports/x").write_text("nonsense\n")
    got = await admin(proxy, "POST /conversation/load", {"file_path": "x"})
    assert (got.status, "x:1" in got.error["message"]) == (400, True)


async def test_a_damaged_history_is_set_aside(start, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/history.sqlite3").write_bytes(b"nonsense" * 1000)
    proxy = await start(ANTHROPIC_API_KEY=CLIENT_KEY, HISTORY="on")
    await say(proxy, "a")
    assert len(await turns_of(proxy)) == 2
    assert "was damaged" in (await proxy.logged("store.failed"))["reason"]
