"""Searches as content blocks, and the reverse conversion."""

from __future__ import annotations

import json

import pytest

from ccproxy.convert.added_features import search_answer as blocks
from ccproxy.convert.added_features.search_results import SearchOutcome, SearchResult, failed

FIRST = SearchResult(url="https://a.example/", title="A", text="It is 42.", date="2026-10-02")
BARE = SearchResult(url="https://b.example/", title="B")
FOUND = SearchOutcome(results=(FIRST, BARE))


def test_the_links_contain_their_text_for_later_turns():
    content = blocks.result_block("srvtoolu_1", FOUND)["content"]
    assert [each["page_age"] for each in content] == ["2026-10-02", None]
    assert "42" not in json.dumps(content)
    expected = "A (https://a.example/)\nIt is 42.\nB (https://b.example/)"
    assert blocks.found_text(content) == expected


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([], blocks.NO_RESULTS),
        ([{"url": "u", "title": "t", "encrypted_content": "Eo8DC…"}], "t (u)"),
        ([{"url": "u", "title": "t", "encrypted_content": "ccproxy.é"}], "t (u)"),
        ([{"url": "u", "title": "t", "encrypted_content": "ccproxy._w=="}], "t (u)"),
        ({"error_code": "unavailable"}, "The web search failed: unavailable"),
        ("text", "The web search failed: unavailable"),
    ],
    ids=["nothing", "of another provider", "not base64", "not UTF-8", "an error", "invalid"],
)
def test_results_of_earlier_turns(content, text):
    assert blocks.found_text(content) == text


@pytest.mark.parametrize("messages", [5, "text", {"role": "user"}, [5, {"content": 5}]], ids=str)
def test_unusual_messages_with_own_searches_are_not_changed(messages):
    body = {"messages": messages, "x": blocks.USE_PREFIX}
    assert json.loads(blocks.without_own_searches(json.dumps(body).encode())) == body


def test_texts_have_citations():
    first, second = blocks.text_blocks(FOUND)
    assert first["text"] == "1. A (https://a.example/, 2026-10-02)\nIt is 42.\n\n"
    assert first["citations"][0]["cited_text"] == "It is 42."
    assert second == {"type": "text", "text": "2. B (https://b.example/)\n"}


def test_a_summary_precedes_the_links():
    outcome = SearchOutcome(results=(BARE,), summary="Short.")
    assert blocks.outcome_text(outcome) == "Short.\n\n1. B (https://b.example/)"


def test_a_search_without_results_says_so():
    assert blocks.outcome_text(SearchOutcome()) == blocks.NO_RESULTS


@pytest.mark.parametrize(("outcome", "searches"), [(FOUND, 1), (failed("no"), 0)])
def test_the_message(outcome, searches):
    message = json.loads(
        blocks.side_message(
            outcome, message_id="msg_1", model="m", use_id="srvtoolu_1", name="w", query="q"
        )
    )
    kinds = [block["type"] for block in message["content"]]
    assert kinds[:3] == ["server_tool_use", "web_search_tool_result", "text"]
    assert message["usage"]["server_tool_use"] == {"web_search_requests": searches}


OWN = "srvtoolu_ccp_1"
RESULT = {"type": "web_search_tool_result", "content": [{"url": "u", "title": "t"}]}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            [{"type": "server_tool_use", "id": OWN}, {**RESULT, "tool_use_id": OWN},
             {"type": "text", "text": "a", "citations": [{}]}, "x"],
            [{"type": "text", "text": "Results of a web search:\nt (u)"},
             {"type": "text", "text": "a"}, "x"],
        ),
        (
            [{"type": "server_tool_use", "id": "srvtoolu_1"},
             {**RESULT, "tool_use_id": "srvtoolu_1"}, {"type": "text", "text": OWN}],
            [{"type": "server_tool_use", "id": "srvtoolu_1"},
             {**RESULT, "tool_use_id": "srvtoolu_1"}, {"type": "text", "text": OWN}],
        ),
        (OWN, OWN),
    ],
    ids=["own searches", "the provider's", "a text"],
)  # fmt: skip
def test_own_searches_become_text(content, expected):
    body = json.dumps({"messages": [{"role": "assistant", "content": content}, 5]}).encode()
    changed = json.loads(blocks.without_own_searches(body))
    assert changed["messages"] == [{"role": "assistant", "content": expected}, 5]


@pytest.mark.parametrize("body", [b'{"messages":[]}', b"srvtoolu_ccp", b'{"a":"srvtoolu_ccp"}'])
def test_bodies_without_own_searches_are_unchanged(body):
    assert blocks.without_own_searches(body) == body
