"""
Property tests: every valid Messages request is converted to a valid request for the provider.

`ask` checks every converted request against `tests/chat_rules.py`.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccproxy.convert.chat.request import to_chat
from ccproxy.convert.common.thinking import Origin
from ccproxy.errors import Problem
from ccproxy.protocol.messages import read_request
from tests.asking import (
    SIGNER,
    ask,
    encode,
    image,
    pdf,
    request,
    result,
    target,
    text,
    thinking,
    tool,
    use,
)

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

WORDS = st.text(st.sampled_from('aZ09 _-"\\\n\t/{}[]:,<>éß→数😀\u2028\x00\x1b\x7f'), max_size=12)
IDS = st.sampled_from(["t1", "t2", "call_0", "toolu_01ABC", "functions.Read:0", "x" * 60, ""])
NAMES = st.sampled_from(["Read", "Bash", "mcp__" + "x" * 80, "mcp__" + "x" * 81, "a.b", "工具"])
OURS = SIGNER.mint(Origin(provider="p", model="m", carried={"thought_signatures": {"t1": "U0="}}))
SIGNATURES = st.sampled_from(["", "EpForeign", OURS, OURS[:-3] + "abc"])

TEXTS = st.builds(text, WORDS)
MARKED = st.builds(lambda words: text(words, cache_control={"type": "ephemeral"}), WORDS)
IMAGES = st.just(image()) | st.just(
    {"type": "image", "source": {"type": "url", "url": "https://e.x/a.png"}}
)
DOCUMENTS = st.sampled_from(
    [
        pdf(),
        pdf(title="T", context="C"),
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
        {"type": "document", "source": {"type": "content", "content": [text("a"), image()]}},
        {"type": "document", "source": {"type": "url", "url": "https://e.x/a.pdf"}},
        {"type": "document", "source": {"type": "file", "file_id": "f"}},
    ]
)
REFERENCES = st.builds(lambda name: {"type": "tool_reference", "tool_name": name}, NAMES)
SEARCHES = st.just(
    {"type": "search_result", "source": "s", "title": "t", "content": [text("found")]}
)
UNKNOWN = st.builds(
    lambda kind, value: {"type": kind, "x": value},
    st.sampled_from(["container_upload", "tool_addition", "fallback", "of_2030"]),
    st.none() | st.integers() | st.lists(st.integers(), max_size=2),
)
SERVER = st.sampled_from(
    [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"title": "T"}]},
        {"type": "mcp_tool_result", "tool_use_id": "s", "content": [text("said")]},
        {"type": "compaction", "content": "before"},
    ]
)
INNER = st.one_of(TEXTS, IMAGES, DOCUMENTS, REFERENCES, SEARCHES, UNKNOWN)
RESULTS = st.builds(
    lambda call_id, content, error: result(call_id, content, is_error=error),
    IDS,
    st.none() | WORDS | st.lists(INNER, max_size=3),
    st.none() | st.booleans(),
)
USES = st.builds(
    lambda call_id, name, arguments: {**use(call_id, name), "input": arguments},
    IDS,
    NAMES,
    st.dictionaries(WORDS, st.none() | st.integers() | WORDS | st.lists(WORDS), max_size=2),
)
THOUGHTS = st.builds(thinking, WORDS, SIGNATURES)
REDACTED = st.just({"type": "redacted_thinking", "data": "sealed"})

USER = st.one_of(TEXTS, MARKED, IMAGES, DOCUMENTS, SEARCHES, RESULTS, RESULTS, UNKNOWN)
SPOKEN = st.one_of(TEXTS, USES, USES, THOUGHTS, REDACTED, SERVER, UNKNOWN)
SYSTEM = st.one_of(TEXTS, MARKED, UNKNOWN)


def message(role, blocks):
    content = st.one_of(WORDS, st.lists(blocks, max_size=4))
    return content.map(lambda said: {"role": role, "content": said})


MESSAGES = st.lists(
    st.one_of(message("user", USER), message("assistant", SPOKEN), message("system", SYSTEM)),
    min_size=1,
    max_size=9,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "system": st.one_of(WORDS, st.lists(TEXTS | MARKED, max_size=3)),
        "tools": st.lists(
            st.builds(tool, NAMES)
            | st.just({"type": "web_search_20250305", "name": "web_search"})
            | st.just({"type": "bash_20250124", "name": "bash"}),
            max_size=4,
        ),
        "tool_choice": st.builds(
            lambda kind, name, one: {"type": kind, "name": name, "disable_parallel_tool_use": one},
            st.sampled_from(["auto", "any", "tool", "none"]),
            NAMES,
            st.none() | st.booleans(),
        ),
        "thinking": st.sampled_from(
            [
                {"type": "adaptive"},
                {"type": "enabled", "budget_tokens": 2048},
                {"type": "disabled"},
                {"type": "between_tools"},
            ]
        ),
        "output_config": st.fixed_dictionaries(
            {},
            optional={
                "effort": st.sampled_from(["low", "medium", "high", "xhigh", "max"]),
                "format": st.just({"type": "json_schema", "schema": {"type": "object"}}),
            },
        ),
        "stop_sequences": st.lists(WORDS, max_size=6),
        "temperature": st.floats(0, 1),
        "top_p": st.floats(0, 1),
        "top_k": st.integers(0, 500),
        "stream": st.booleans(),
        "max_tokens": st.integers(0, 200_000),
        "metadata": st.just({"user_id": "u" * 190}),
        "context_management": st.just({"edits": []}),
    },
)
QUIRKS = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens_field": st.sampled_from(["max_tokens", "max_completion_tokens"]),
        "sampling": st.booleans(),
        "temperature_range": st.sampled_from([(0.0, 2.0), (0.01, 1.0), (0.0, 1.0)]),
        "top_k": st.booleans(),
        "stop": st.booleans(),
        "max_stops": st.integers(1, 4),
        "tool_choices": st.sampled_from(
            [("auto", "required", "function", "none"), ("auto",), ("auto", "none"), ()]
        ),
        "parallel_tool_calls": st.booleans(),
        "tool_ids": st.sampled_from(["any", "forty", "nine", "functions"]),
        "tool_name_length": st.sampled_from([64, 40]),
        "schema": st.sampled_from(
            ["plain", "gemini", "kimi", "bare", "no_meta", "inline", "grammar"]
        ),
        "tool_stream": st.booleans(),
        "system_messages": st.sampled_from(["anywhere", "first"]),
        "flat_text": st.booleans(),
        "null_content": st.booleans(),
        "user_after_tool": st.booleans(),
        "merge_user_messages": st.booleans(),
        "forced_choice_with_thinking": st.booleans(),
        "format_with_thinking": st.booleans(),
        "template_kwargs": st.booleans(),
        "history_scope": st.sampled_from(["all", "tool_turns"]),
        "unsigned_thinking": st.booleans(),
        "cache_key": st.booleans(),
        "refused_fields": st.sampled_from([(), ("reasoning_effort", "parallel_tool_calls")]),
        "images": st.booleans(),
        "pdf": st.sampled_from(["file", "document_url", "text"]),
        "prefill": st.sampled_from(["plain", "prefix", "partial"]),
        "cache_control": st.booleans(),
        "reasoning": st.sampled_from(
            [
                *("none", "effort", "thinking_type", "enable_thinking", "openrouter"),
                *("minimax", "template_kwargs", "explicit_effort"),
            ]
        ),
        "efforts": st.sampled_from([(), ("low", "high", "max"), ("none", "low", "medium")]),
        "always_reasons": st.booleans(),
        "thinking_keep": st.sampled_from(["", "clear_thinking", "keep_all"]),
        "thinking_needs_stream": st.booleans(),
        "reasoning_split": st.booleans(),
        "history": st.sampled_from(
            [
                *("drop", "reasoning_content", "reasoning", "reasoning_details", "think_tags"),
                *("thinking_parts", "both_fields"),
            ]
        ),
        "history_required": st.booleans(),
        "thought_signatures": st.booleans(),
        "response_format": st.sampled_from(["json_schema", "json_object", "none"]),
        "response_format_streams": st.booleans(),
        "stream_options": st.booleans(),
        "user_field": st.sampled_from(["none", "user", "safety_identifier"]),
    },
)


@QUICK
@given(messages=MESSAGES, fields=FIELDS, quirks=QUIRKS)
def test_valid_requests_become_valid_chat_requests(messages, fields, quirks):
    outcome = ask(*messages, to=target(**quirks), **fields)
    assert outcome.converted.stream is outcome.body.get("stream", False)
    assert all(outcome.converted.stop_sequences)


@QUICK
@given(messages=MESSAGES, quirks=QUIRKS)
def test_all_user_text_is_sent(messages, quirks):
    """No text of a user message is lost."""
    outcome = ask(*messages, to=target(**quirks))
    outgoing = json.dumps(outcome.messages, ensure_ascii=False)
    for output in messages:
        blocks = (
            output["content"] if isinstance(output["content"], list) else [text(output["content"])]
        )
        for block in blocks:
            if output["role"] == "user" and block["type"] == "text":
                assert json.dumps(block["text"], ensure_ascii=False)[1:-1] in outgoing


@QUICK
@given(messages=MESSAGES, more=MESSAGES, quirks=QUIRKS)
def test_the_beginning_of_any_conversation_is_stable(messages, more, quirks):
    """The stable beginning ends with the last answered turn; later messages may change the rest."""
    whole = [*messages, {"role": "user", "content": "then"}, {"role": "assistant", "content": "ok"}]
    end = {"role": "user", "content": "next"}
    earlier = ask(*whole, end, to=target(**quirks)).messages
    later = ask(*whole, end, *more, to=target(**quirks)).messages
    # A merged user message grows at its end, which also preserves the prompt's beginning.
    answered = len(earlier) - bool(quirks.get("merge_user_messages"))
    assert earlier[:answered] == later[:answered]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
BLOCK_KEYS = (
    *("text", "id", "name", "input", "tool_use_id", "content", "is_error", "source", "title"),
    *("context", "thinking", "signature", "tool_name", "cache_control"),
)
SOURCES = st.fixed_dictionaries(
    {"type": st.sampled_from(["base64", "url", "file", "text", "content", "x"]) | JSON},
    optional=dict.fromkeys(("media_type", "data", "url", "file_id", "content"), JSON),
)
WRONG_BLOCKS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                *("text", "image", "document", "tool_use", "tool_result", "thinking"),
                *("search_result", "tool_reference", "compaction", "server_tool_use"),
                *("mcp_tool_result", "unknown"),
            ]
        )
    },
    optional=dict.fromkeys(BLOCK_KEYS, JSON | SOURCES),
)
WRONG_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "system", "x"]),
            "content": JSON | st.lists(WRONG_BLOCKS, max_size=3),
        },
        optional={"output_config": JSON},
    ),
    min_size=1,
    max_size=4,
)
WRONG_TOOLS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["custom", "bash_20250124", "web_search_20250305", "x"]),
            "name": NAMES | JSON,
            "description": JSON,
            "input_schema": JSON,
            "defer_loading": JSON,
        },
    ),
    max_size=3,
)
TOP_LEVEL = (
    *("system", "tool_choice", "stream", "stop_sequences", "temperature", "top_p", "top_k"),
    *("thinking", "output_config", "output_format", "metadata", "safeguards", "max_tokens"),
)
WRONG_BODIES = st.fixed_dictionaries(
    {"model": st.just("m"), "messages": WRONG_MESSAGES},
    optional={**dict.fromkeys(TOP_LEVEL, JSON), "tools": WRONG_TOOLS | JSON},
).map(lambda body: {"max_tokens": 9, **body})


def convert(raw, quirks):
    """Return the request for the provider, or None if the client's is rejected."""
    try:
        return to_chat(read_request(raw), target(**quirks), signer=SIGNER)
    except Problem as problem:
        refused = problem
    assert (refused.kind, refused.status) == ("invalid_request_error", 400)
    return None


@QUICK
@given(body=WRONG_BODIES, quirks=QUIRKS)
def test_invalid_requests_raise_only_problems(body, quirks):
    if converted := convert(encode(body), quirks):
        assert isinstance(json.loads(converted.body)["messages"], list)


@settings(QUICK, max_examples=100)
@given(body=JSON)
def test_any_json_raises_only_problems(body):
    convert(encode(body), {})


@settings(QUICK, max_examples=100)
@given(raw=st.binary(max_size=60))
def test_any_bytes_raise_only_problems(raw):
    assert convert(raw, {}) is None


@settings(QUICK, max_examples=100)
@given(cut=st.integers(0, 400), junk=st.binary(max_size=3), messages=MESSAGES)
def test_damaged_requests_raise_only_problems(cut, junk, messages):
    raw = encode(request(*messages))
    convert(raw[:cut] + junk + raw[cut:], {})
    convert(raw[:cut], {})


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b'"\\ud83d"', id="a lone surrogate as a body"),
        pytest.param(b"{" * 100_000, id="objects without end"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="lists without sense"),
        pytest.param(b"9" * 100_000, id="a number without end"),
        pytest.param(b'{"model":"m","messages":' + b"[" * 50_000, id="deep messages"),
        pytest.param(b'{"messages":[{"role":"\xff"}]}', id="no UTF-8"),
        pytest.param(b"\xef\xbb\xbf{}", id="a byte order mark"),
        pytest.param(b"NaN", id="not a number"),
    ],
)
def test_known_bombs(raw):
    assert convert(raw, {}) is None
