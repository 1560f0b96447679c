"""The session of a request, from a header or the beginning of its conversation."""

from __future__ import annotations

import json

import pytest

from ccproxy.keys.session_identity import find_session
from ccproxy.protocol.claude_code import COMPACTION_PROMPT
from ccproxy.protocol.conversation_outline import read_outline, read_responses_outline

SESSION = {"x-claude-code-session-id": "3f2a91bc-0000-4000-8000-000000000001"}
AGENT = {**SESSION, "x-claude-code-agent-id": "agent-1"}
TOOLS = [{"name": "Bash", "description": "Runs a command. " * 300, "input_schema": {}}]


def kind(name):
    return {"x-claude-code-request-class": name}


def body(*messages, system="You are an agent.", tools=TOOLS):
    roles = ("user", "assistant")
    turns = [
        {"role": roles[number % 2], "content": content} for number, content in enumerate(messages)
    ]
    fields = {"messages": turns, "system": system, "tools": tools}
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def find(headers=None, data=None, *, affinity="session", size=20_000, client=""):
    data = body("Hello") if data is None else data
    return find_session(
        headers or {}, lambda: read_outline(data), affinity=affinity, size=size, client=client
    )


def session_of(data, **fields):
    result = find(data=data, **fields)
    assert result is not None
    return result


def outlined(outline):
    result = find_session({}, lambda: outline, affinity="session", size=20_000)
    assert result is not None
    return result


def chat_session(system, *later):
    turns = [{"role": "system", "content": system}, {"role": "user", "content": "Hello"}]
    turns += [{"role": "assistant", "tool_calls": []} for _ in later]
    return outlined(read_outline(json.dumps({"messages": turns}).encode()))


def responses_session(instructions, *later):
    items = [{"role": "user", "content": "Hello"}, {"type": "reasoning"}]
    items += [{"role": "assistant", "content": text} for text in later]
    fields = {"instructions": instructions, "input": items}
    return outlined(read_responses_outline(json.dumps(fields).encode()))


# By header.


def test_the_header_names_the_session():
    result = find(SESSION)
    assert result is not None
    assert (result.name, result.tokens, result.parent) == ("3f2a91bc", 5000, "")
    assert result == find(SESSION, body("Something else", tools=None))
    assert result.id != find({"x-claude-code-session-id": "other"}).id


@pytest.mark.parametrize("headers", [SESSION, {}], ids=["session id", "conversation"])
def test_each_client_has_its_own_sessions(headers):
    first, second = (find(headers, client=client) for client in ("key 0", "key 1"))
    assert first is not None
    assert second is not None
    assert len({first.id, second.id, find(headers).id}) == 3
    assert first == find(headers, client="key 0")


def test_a_name_contains_only_harmless_characters():
    result = find({"x-claude-code-session-id": "\x1b[31m<ä>/red-session"})
    assert result is not None
    assert result.name == "31mred-s"


def test_a_body_is_not_read_if_the_headers_are_enough():
    def unread():
        raise AssertionError

    headers = {**SESSION, **kind("main")}
    assert find_session(headers, unread, affinity="session", size=10) is not None
    assert find_session(kind("auxiliary"), unread, affinity="session", size=10) is None
    assert find_session(SESSION, unread, affinity="off", size=10) is None


def test_an_auxiliary_request_belongs_to_no_session():
    assert find({**SESSION, **kind("auxiliary")}) is None
    assert find({**SESSION, **kind("side_reply")}) == find(SESSION)


@pytest.mark.parametrize(("affinity", "has_parent"), [("session", True), ("conversation", False)])
def test_a_subagent_belongs_to_its_session_or_has_its_own(affinity, has_parent):
    session, agent = find(SESSION), find(AGENT, affinity=affinity)
    assert session is not None
    assert agent is not None
    assert agent.id != session.id
    assert agent.parent == (session.id if has_parent else "")


# By the conversation.


def test_a_conversation_keeps_its_session_as_it_grows():
    marked = [{"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}}]
    plain = [{"type": "text", "text": "Hello"}]
    first, later = session_of(body(marked)), session_of(body(plain, "Hi", "Go on"))
    assert first == later
    assert first.name == f"~{first.id[:8]}"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(body("Goodbye"), id="another first message"),
        pytest.param(body("Hello", system="You are another."), id="another system prompt"),
        pytest.param(body("Hello", tools=[*TOOLS, *TOOLS]), id="other tools"),
    ],
)
def test_a_different_beginning_is_a_different_session(other):
    assert session_of(body("Hello")).id != session_of(other).id


def test_a_line_of_the_system_prompt_that_changes_does_not_count():
    def system(number):
        billing = {"type": "text", "text": f"x-anthropic-billing-header: cch={number};"}
        return [billing, {"type": "text", "text": "You are an agent."}]

    one, two = (session_of(body("Hello", system=system(number))) for number in (1, 2))
    assert one == two


@pytest.mark.parametrize(
    ("data", "size"),
    [
        pytest.param(body("Hello"), 4095, id="too short to be cached"),
        pytest.param(body("Hello", tools=None), 20_000, id="one message, no tools"),
        pytest.param(body("Hello", tools=[]), 20_000, id="one message, an empty list of tools"),
        pytest.param(b"{}", 20_000, id="not a request"),
    ],
)
def test_a_request_that_cannot_use_a_cache_has_no_session(data, size):
    assert find(data=data, size=size) is None


@pytest.mark.parametrize("system", [None, "You are an agent."])
def test_earlier_turns_make_a_conversation(system):
    assert find(data=body("Hello", "Hi", "Go on", tools=None, system=system)) is not None


def test_a_conversation_may_begin_with_an_answer():
    turns = [{"role": "assistant", "content": "Hi"}, {"role": "assistant", "content": "x"}]
    assert find(data=json.dumps({"messages": turns}).encode()) is not None


@pytest.mark.parametrize("read", [chat_session, responses_session])
def test_conversations_of_openai_clients(read):
    one, later, other = read("Rules"), read("Rules", "Hi", "Go on"), read("Other rules")
    assert one == later
    assert one != other


# Compaction.


@pytest.mark.parametrize(
    ("headers", "last", "is_compaction"),
    [
        pytest.param(kind("compaction"), "x", True, id="by header"),
        pytest.param({}, COMPACTION_PROMPT.decode() + ". Do not", True, id="by its text"),
        pytest.param(kind("main"), COMPACTION_PROMPT.decode(), False, id="the header decides"),
        pytest.param({}, "Go on", False, id="an ordinary turn"),
    ],
)
@pytest.mark.parametrize("session", [SESSION, {}], ids=["session", "conversation"])
def test_a_compaction_is_recognized(session, headers, last, is_compaction):
    if headers and not session:
        return  # hints are sent with a session id
    result = find({**session, **headers}, body("Hello", "Hi", last))
    assert result is not None
    assert result.is_compaction is is_compaction


def test_a_text_as_input_has_no_outline():
    assert read_responses_outline(b'{"input": "Hello"}') is None


def test_an_answer_is_not_a_compaction():
    assert find(SESSION, body("Hello", COMPACTION_PROMPT.decode())) == find(SESSION)
    assert find(SESSION, b'{"messages": []}') == find(SESSION)
