"""The search tool: its recognition, the query and the domains."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from ccproxy.convert.added_features.search_tool import (
    SearchTool,
    search_tool,
    side_query,
    without_search,
)
from ccproxy.protocol.messages import read_request

SEARCH = {"type": "web_search_20250305", "name": "web_search"}
READ = {"name": "Read", "input_schema": {}}


def raw(value):
    return Raw(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        pytest.param([SEARCH], ("web_search", True), id="the only tool"),
        pytest.param([READ, SEARCH], ("web_search", False), id="among others"),
        pytest.param([{**SEARCH, "type": "web_search_20260318"}], ("web_search", True), id="newer"),
        pytest.param([READ], None, id="none"),
        pytest.param([{"name": "web_search_mine", "input_schema": {}}], None, id="a function"),
        pytest.param([{**SEARCH, "max_uses": "8"}], None, id="an invalid definition"),
        pytest.param("web_search_", None, id="not a list"),
        pytest.param([SEARCH, SEARCH], ("web_search", False), id="twice"),
        pytest.param([SEARCH, {**READ, "name": "web_search"}], None, id="a tool of that name"),
        pytest.param([SEARCH, {**READ, "type": None}], ("web_search", False), id="null as type"),
    ],
)
def test_recognition(tools, expected):
    result = search_tool(raw(tools))
    assert (result and (result[0].name, result[1])) == expected


@pytest.mark.parametrize(("uses", "expected"), [(None, 8), (3, 3), (-1, 0)])
def test_uses(uses, expected):
    assert SearchTool(max_uses=uses).uses == expected


def test_the_search_is_replaced_or_removed():
    tools = raw([READ, SEARCH, SEARCH])
    assert without_search(tools, raw({"name": "f"})) == [raw(READ), raw({"name": "f"})]
    assert without_search(tools, None) == [raw(READ)]


@pytest.mark.parametrize(
    ("message", "query"),
    [
        ({"role": "user", "content": "Perform a web search for the query: x y"}, "x y"),
        ({"role": "user", "content": [{"type": "text", "text": "hello"}]}, None),
        ({"role": "user", "content": []}, None),
        ({"role": "user", "content": 5}, None),
        ({"role": "assistant", "content": "Perform a web search for the query: x"}, None),
    ],
    ids=["WebSearch", "another text", "no text", "invalid", "not the user's"],
)
def test_the_query(message, query):
    body = json.dumps({"model": "m", "max_tokens": 1, "messages": [message]}).encode()
    assert side_query(read_request(body)) == query


@pytest.mark.parametrize(
    ("allowed", "blocked", "url", "admitted"),
    [
        (None, None, "https://a.example/", True),
        (["a.example"], None, "https://a.example/x", True),
        (["a.example"], None, "https://docs.a.example/x", True),
        (["a.example"], None, "https://nota.example/x", False),
        (["a.example/docs"], None, "https://a.example/docs/1", True),
        (["a.example/docs/*"], None, "https://a.example/docs/1", True),
        (["a.example/docs"], None, "https://a.example/blog", False),
        (["https://www.A.example"], None, "https://a.example/", True),
        (["*.a.example"], None, "https://b.a.example/", True),
        ([""], None, "https://a.example/", False),
        (None, ["a.example"], "https://b.a.example/", False),
        (None, ["a.example"], "https://A.example./", False),
        (None, ["a.example/x", "a.example/y"], "https://a.example/y/1", False),
        (None, ["a.example"], "https://c.example/", True),
        (["a.example"], None, "http://[::1", False),
    ],
)
def test_domains(allowed, blocked, url, admitted):
    tool = SearchTool(allowed_domains=allowed, blocked_domains=blocked)
    assert tool.url_filter()(url) is admitted


def test_both_kinds_of_domains_contradict():
    assert SearchTool(allowed_domains=["a"], blocked_domains=["b"]).is_contradictory
    assert not SearchTool(allowed_domains=["a"]).is_contradictory
