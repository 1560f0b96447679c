"""The routing rules: the properties of a request, and the model that it selects."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ccproxy.errors import Problem
from ccproxy.protocol.messages import read_request
from ccproxy.routing.rules import (
    NO_ROUTING,
    UNDECIDED,
    Decision,
    LongContext,
    RequestFacts,
    Routing,
    RoutingTables,
    decide,
    is_provider_failure,
    request_facts,
)

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aa"}}
PDF = {
    "type": "document",
    "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
}
TEXT_FILE = {
    "type": "document",
    "source": {"type": "text", "media_type": "text/plain", "data": "x"},
}
READ = {"name": "Read", "input_schema": {"type": "object"}}
TITLE = {"format": {"type": "json_schema", "schema": {}}}
COMPACT = "CRITICAL: Respond with TEXT ONLY. Do NOT call any tools."


def facts(headers: dict[str, str] | None = None, **fields: Any) -> RequestFacts:
    body = {
        "model": "claude-opus-5-5",
        "max_tokens": 10,
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [READ],
        **fields,
    }
    return request_facts(read_request(json.dumps(body).encode()), headers or {})


def user(*content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(content)}]


def result(*content: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "t1", "content": list(content)}


# The class and properties of a request...


@pytest.mark.parametrize(
    ("headers", "fields", "kind"),
    [
        pytest.param({}, {}, "main", id="main is the default"),
        pytest.param({"x-claude-code-agent-id": "a1"}, {}, "subagent", id="an agent's id"),
        pytest.param({}, {"messages": user({"type": "text", "text": COMPACT})}, "compaction"),
        pytest.param(
            {}, {"tools": [], "output_config": TITLE}, "auxiliary", id="a session's title"
        ),
        pytest.param({}, {"output_config": TITLE}, "main", id="with tools it is no title"),
        pytest.param(
            {},
            {"tools": [], "system": "Write a session title for this."},
            "auxiliary",
            id="a prompt that asks for a title",
        ),
        pytest.param({}, {"tools": []}, "main", id="a plain question without tools"),
        pytest.param({"x-claude-code-request-class": "workflow"}, {}, "subagent", id="workflows"),
        pytest.param({"x-claude-code-request-class": "side_reply"}, {}, "auxiliary", id="/btw"),
        pytest.param(
            {"x-claude-code-request-class": "main", "x-claude-code-agent-id": "a1"},
            {"output_config": TITLE, "tools": []},
            "main",
            id="the hint wins over every sign",
        ),
        pytest.param(
            {"x-claude-code-request-class": "news", "x-claude-code-agent-id": "a1"},
            {},
            "subagent",
            id="an unknown hint is none",
        ),
        pytest.param(
            {},
            {
                "messages": [
                    {"role": "user", "content": COMPACT},
                    {"role": "assistant", "content": "ok"},
                    {"role": "user", "content": "go on"},
                ]
            },
            "main",
            id="a compaction that is over",
        ),
    ],
)
def test_classes(headers, fields, kind):
    assert facts(headers, **fields).kind == kind


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, set(), id="nothing special"),
        pytest.param({"messages": user(IMAGE)}, {"image"}, id="an image"),
        pytest.param({"messages": user(result(IMAGE))}, {"image"}, id="an image that a tool read"),
        pytest.param(
            {"messages": user({"type": "text", "text": json.dumps(IMAGE)})},
            set(),
            id="an image that is only talked about",
        ),
        pytest.param(
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "tool_use", "id": "t", "name": "X", "input": {"a": [IMAGE]}}
                        ],
                    },
                    *user(result({"type": "text", "text": "x"})),
                ]
            },
            set(),
            id="the arguments of a call show nothing",
        ),
        pytest.param({"messages": user(PDF)}, {"pdf"}, id="a PDF"),
        pytest.param({"messages": user(result(PDF))}, {"pdf"}, id="a PDF that a tool read"),
        pytest.param({"messages": user(TEXT_FILE)}, set(), id="a document of text"),
        pytest.param(
            {"messages": user({"type": "document", "source": {"type": "url", "url": "https://e"}})},
            {"pdf"},
            id="a PDF somewhere else",
        ),
        pytest.param(
            {"messages": user({"type": "document"})},
            set(),
            id="a document without a source",
        ),
        pytest.param(
            {"messages": user({"type": "document", "source": ["application/pdf"]})},
            set(),
            id="an invalid source: the conversion refuses it",
        ),
        pytest.param(
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            {"web_search"},
            id="the server's web search",
        ),
        pytest.param(
            {"tools": [{"name": "web_search", "input_schema": {}}]}, set(), id="a tool of that name"
        ),
        pytest.param({"thinking": {"type": "adaptive"}}, {"thinking"}, id="adaptive thinking"),
        pytest.param(
            {"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"thinking"}, id="thinking"
        ),
        pytest.param({"thinking": {"type": "disabled"}}, set(), id="no thinking"),
        pytest.param({"model": "claude-haiku-5-5"}, {"background"}, id="haiku"),
    ],
)
def test_properties_of_requests(fields, expected):
    observed = facts(**fields)
    names = ("image", "pdf", "web_search", "thinking", "background")
    assert {name for name in names if getattr(observed, name)} == expected


def test_the_type_of_the_agent_is_in_a_header():
    assert facts({"x-claude-code-agent-type": "Explore"}).agent == "explore"


@pytest.mark.parametrize("field", ["system", "tools"])
def test_system_and_tools_are_counted(field):
    long = "word " * 4000
    fields: dict[str, Any] = {"system": long, "tools": [{**READ, "description": long}]}
    assert facts(**{field: fields[field]}).tokens > facts().tokens + 3000


# ...and the rule that applies.

ALL = Routing(
    rules={
        name: name.upper()
        for name in (
            *("pdf", "image", "web_search", "compaction", "auxiliary", "subagent"),
            *("thinking", "background", "main"),
        )
    },
    agents={"explore": "EXPLORER"},
    long_context=LongContext(over=1000, model="LONG"),
)


def no_window(_model: str | None) -> None:
    return None


@pytest.mark.parametrize(
    ("expected", "model"),
    [
        pytest.param(RequestFacts(kind="main"), "MAIN", id="main"),
        pytest.param(
            RequestFacts(kind="main", background=True), "BACKGROUND", id="background > main"
        ),
        pytest.param(
            RequestFacts(kind="main", background=True, thinking=True),
            "THINKING",
            id="think > background",
        ),
        pytest.param(
            RequestFacts(kind="subagent", thinking=True), "SUBAGENT", id="subagent > thinking"
        ),
        pytest.param(RequestFacts(kind="compaction", thinking=True), "COMPACTION", id="compaction"),
        pytest.param(RequestFacts(kind="auxiliary", background=True), "AUXILIARY", id="auxiliary"),
        pytest.param(
            RequestFacts(kind="subagent", agent="explore"), "EXPLORER", id="agent > subagent"
        ),
        pytest.param(RequestFacts(kind="subagent", agent="plan"), "SUBAGENT", id="another agent"),
        pytest.param(
            RequestFacts(kind="subagent", agent="explore", image=True), "IMAGE", id="image"
        ),
        pytest.param(RequestFacts(kind="main", image=True, pdf=True), "PDF", id="pdf > image"),
        pytest.param(RequestFacts(kind="main", web_search=True), "WEB_SEARCH", id="web search"),
        pytest.param(
            RequestFacts(kind="main", thinking=True, tokens=1001), "LONG", id="long > all"
        ),
        pytest.param(
            RequestFacts(kind="main", tokens=1000), "MAIN", id="the threshold is not over it"
        ),
    ],
)
def test_order(expected, model):
    assert decide(ALL, expected, window=no_window).model == model


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        (RequestFacts(kind="main", web_search=True), "web search"),
        (RequestFacts(kind="subagent", agent="explore"), "agent explore"),
        (RequestFacts(kind="main", tokens=72000), "long context: 72000 tokens > 1000"),
    ],
)
def test_reasons(expected, reason):
    assert decide(ALL, expected, window=no_window).reason == reason


@pytest.mark.parametrize(
    ("tokens", "decision"),
    [
        pytest.param(200, Decision("SMALL", "background"), id="it fits"),
        pytest.param(
            201, Decision("LONG", "long context: 201 tokens > window 200"), id="it does not"
        ),
    ],
)
def test_the_window_of_the_selected_model_applies(tokens, decision):
    routing = Routing(rules={"background": "SMALL"}, long_context=LongContext(model="LONG"))
    windows = {"SMALL": 200, None: 100000}
    observed = RequestFacts(kind="main", background=True, tokens=tokens)
    assert decide(routing, observed, window=windows.get) == decision


@pytest.mark.parametrize(
    "expected", [RequestFacts(kind="main"), RequestFacts(kind="subagent", thinking=True)]
)
def test_without_rules_there_is_no_decision(expected):
    assert decide(NO_ROUTING, expected, window=no_window) == UNDECIDED
    assert NO_ROUTING.is_empty


@pytest.mark.parametrize(
    ("long", "tokens", "after"),
    [
        pytest.param(LongContext(model="L"), 500, LongContext(model="L", over=500), id="set"),
        pytest.param(
            LongContext(model="L", over=9), 500, LongContext(model="L", over=9), id="own wins"
        ),
        pytest.param(LongContext(model="L"), None, LongContext(model="L"), id="none is given"),
        pytest.param(None, 500, None, id="no entry gets long requests"),
    ],
)
def test_the_threshold_of_the_env_file_applies_without_one_in_the_table(long, tokens, after):
    routing = Routing(rules={"main": "M"}, long_context=long)
    assert routing.with_threshold(tokens) == Routing(rules={"main": "M"}, long_context=after)


def test_a_rule_that_does_not_match_is_skipped():
    routing = Routing(rules={"image": "SEES"})
    assert decide(routing, RequestFacts(kind="main"), window=no_window) == UNDECIDED


# Whether another entry may answer.


@pytest.mark.parametrize(
    ("problem", "out"),
    [
        (Problem("rate_limit_error", ""), True),
        (Problem("overloaded_error", ""), True),
        (Problem("api_error", "", status=502), True),
        (Problem("timeout_error", ""), True),
        (Problem("authentication_error", ""), True),
        (Problem("billing_error", ""), True),
        (Problem("invalid_request_error", ""), False),
        (Problem("not_found_error", ""), False),
        (Problem("request_too_large", ""), False),
        (Problem("api_error", "", status=508), False),
    ],
)
def test_failures_of_the_provider(problem, out):
    assert is_provider_failure(problem) is out


def test_tables_are_looked_up_by_labels_without_case():
    routing = Routing(rules={"main": "big"})
    tables = RoutingTables(routes={"kimi": routing}, fallbacks={"kimi": ("GLM",)})
    assert (tables.routing("Kimi"), tables.routing("GLM").is_empty) == (routing, True)
    assert (tables.fallback("KIMI"), tables.fallback("GLM")) == (("GLM",), ())
