"""Requests to search backends, and the results in their answers."""

from __future__ import annotations

import json

import pytest

from ccproxy.convert.added_features.search_results import (
    MAX_RESULTS,
    MAX_TOTAL,
    read_results,
    refused,
    search_request,
)
from ccproxy.convert.added_features.search_tool import SearchTool
from ccproxy.providers.search_backends import SearchBackend, search_backends

ANY = SearchTool()
A = SearchTool(allowed_domains=["a.example", "b.example"])
NOT_A = SearchTool(blocked_domains=["a.example"])


def backend(**fields):
    return SearchBackend(**{"title": "Test", "request": {}, "results": ("list",), **fields})


def found(answer, tool=ANY, **fields):
    return read_results(backend(text=("text",), **fields), json.dumps(answer).encode(), tool)


@pytest.mark.parametrize(
    ("name", "tool", "expected"),
    [
        ("searxng", A, {"q": "x (site:a.example OR site:b.example)", "format": "json"}),
        ("searxng", NOT_A, {"q": "x -site:a.example", "format": "json"}),
        ("tavily", A, {"query": "x", "max_results": 8,
                       "include_domains": ["a.example", "b.example"]}),
        ("tavily", NOT_A, {"query": "x", "max_results": 8, "exclude_domains": ["a.example"]}),
        ("perplexity", NOT_A, {"query": "x -site:a.example", "max_results": 8}),
        ("kimi", ANY, {"name": "web_search", "arguments": '{"query": "x"}'}),
        ("xai", A, {"model": "m", "input": "x", "store": False, "tools": [{"type": "web_search",
                    "filters": {"allowed_domains": ["a.example", "b.example"]}}]}),
    ],
)  # fmt: skip
def test_the_request(name, tool, expected):
    assert search_request(search_backends()[name], "x", tool, model="m") == expected


def test_a_long_query_is_cut_before_its_operators():
    request = search_request(search_backends()["deepseek"], "q" * 300, A, model="m")
    assert len(request["query"]) == 128
    assert request["query"].endswith("(site:a.example OR site:b.example)")


@pytest.mark.parametrize("count", [3, 10])
@pytest.mark.parametrize("field", ["allowed_domains", "blocked_domains"])
def test_operators_leave_half_of_the_query(field, count):
    tool = SearchTool(**{field: [f"site-{number}.example" for number in range(count)]})
    query = search_request(search_backends()["zai"], "q" * 300, tool, model="m")["search_query"]
    assert len(query) == 70
    assert query.count("q") >= 35
    assert "site:site-0.example" in query


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        pytest.param({"url": "https://a.example/", "title": "A", "text": "<b>x</b> &amp; y\x07"},
                     ("https://a.example/", "A", "x & y"), id="HTML is removed"),
        pytest.param({"url": "https://a.example/"},
                     ("https://a.example/", "https://a.example/", ""), id="nothing but a link"),
        pytest.param({"url": "https://a.example/", "text": "x" * 900},
                     ("https://a.example/", "https://a.example/", "x" * 799 + "…"), id="cut"),
        pytest.param({"url": "https://a.example/", "text": ["", "second"]},
                     ("https://a.example/", "https://a.example/", "second"), id="a list of texts"),
        pytest.param({"url": "javascript:alert(1)"}, None, id="another scheme"),
        pytest.param({"url": "https://user:pass@a.example/"}, None, id="a login"),
        pytest.param({"url": "https://a.example/ x"}, None, id="a space"),
        pytest.param({"url": "https://[a.example/"}, None, id="not an address"),
        pytest.param({"url": "https://a.example/" + "x" * 2000}, None, id="too long"),
        pytest.param({"title": "A"}, None, id="no link"),
        pytest.param("https://a.example/", None, id="not an object"),
    ],
)  # fmt: skip
def test_results(entry, expected):
    results = found({"list": [entry]}).results
    assert [(each.url, each.title, each.text) for each in results] == (
        [expected] if expected else []
    )


def test_results_are_distinct_and_bounded():
    entries = [{"url": f"https://a.example/{n // 2}", "text": "x" * 790} for n in range(60)]
    results = found({"list": entries}).results
    assert [each.url for each in results] == [f"https://a.example/{n}" for n in range(MAX_RESULTS)]
    many = found({"list": entries, "more": entries[40:]}, results=("more", "list")).results
    assert sum(len(each.text) for each in many) <= MAX_TOTAL


def test_links_in_a_text_are_results():
    answer = {"out": "See https://a.example/x. And (https://b.example/y), \x01", "n": 5}
    fields = {"results": (), "text_with_links": ("n", "none", "out")}
    outcome = found(answer, **fields)
    assert [each.url for each in outcome.results] == ["https://a.example/x", "https://b.example/y"]
    assert outcome.summary.startswith("See https://a.example/x.")
    assert found({"out": "no link"}, **fields).summary == ""


def test_a_summary_needs_results_and_free_domains():
    answer = {"list": [{"url": "https://a.example/"}], "summary": "It is 42."}
    fields = {"summary": ("none", "summary")}
    assert found(answer, **fields).summary == "It is 42."
    assert found(answer, tool=A, **fields).summary == ""
    assert found({"summary": "memory"}, **fields).summary == ""


def test_hidden_hosts_are_checked_by_the_title():
    answer = {"list": [{"url": "https://redirect.example/1", "title": "a.example"}]}
    assert found(answer, tool=A, hidden_hosts=True).results
    assert not found(answer, tool=NOT_A, hidden_hosts=True).results


def test_a_title_that_is_not_a_host_matches_no_domain():
    answer = {"list": [{"url": "https://redirect.example/1", "title": "[News] of a.example"}]}
    assert not found(answer, tool=A, hidden_hosts=True).results
    assert found(answer, tool=NOT_A, hidden_hosts=True).results


@pytest.mark.parametrize(
    ("charge", "fee"), [(0.5, 0.5), (0, 0.0), (-1, 9.0), ("1", 9.0), (1e308, 9.0), (10**400, 9.0)]
)
def test_a_charge_is_an_amount_that_a_search_can_cost(charge, fee):
    assert found({"list": [], "cost": charge}, charge="cost", price=9.0).fee == fee


def test_placeholders_in_a_query_stay():
    request = search_request(backend(request={"q": "{query}"}), "{model} {query}", ANY, model="m")
    assert request == {"q": "{model} {query}"}


@pytest.mark.parametrize(("code", "error"), [(200, ""), (500, "unavailable")])
def test_a_code_in_the_body(code, error):
    outcome = found({"code": code, "list": []}, code="code", ok_codes=(200,))
    assert outcome.error == error


@pytest.mark.parametrize(
    "body", [b"<html>", b"\xff", b"[" * 100_000], ids=["HTML", "bytes", "deep"]
)
def test_an_answer_that_is_not_json(body):
    assert read_results(backend(), body, ANY).error == "unavailable"


@pytest.mark.parametrize(
    ("status", "error", "hint"),
    [
        (429, "too_many_requests", "credit"),
        (401, "unavailable", "WEB_SEARCH_KEY"),
        (402, "unavailable", "credit"),
        (400, "invalid_tool_input", "400"),
        (422, "invalid_tool_input", "422"),
        (403, "unavailable", "WEB_SEARCH_KEY"),
        (302, "unavailable", "redirects"),
        (500, "unavailable", "500"),
    ],
)
def test_statuses(status, error, hint):
    outcome = refused(backend(), status, key="WEB_SEARCH_KEY")
    assert outcome.error == error
    assert hint in outcome.reason


@pytest.mark.parametrize("status", [403, 429])
def test_a_back_end_has_its_own_fixes(status):
    searxng = search_backends()["searxng"]
    assert refused(searxng, status, key="WEB_SEARCH_KEY").reason.endswith(
        searxng.fixes[str(status)]
    )


HIT = {"url": "https://a.example/", "title": "A"}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param({"silent": [["google", "CAPTCHA"], "bing"]},
                     "Test has no results, because sources failed: google: CAPTCHA, bing",
                     id="all failed"),
        pytest.param({"silent": [["google", "CAPTCHA"]], "list": [HIT]}, "", id="others answered"),
        pytest.param({"silent": []}, "", id="nothing was found"),
    ],
)  # fmt: skip
def test_sources_that_do_not_answer(answer, reason):
    assert found(answer, failures="silent").reason == reason


@pytest.mark.parametrize(
    ("answer", "fields", "fee"),
    [
        pytest.param({}, {}, 0.0, id="unknown"),
        pytest.param({}, {"price": 0.005}, 0.005, id="the list price"),
        pytest.param({"usd": 0.007}, {"price": 0.005, "charge": "usd"}, 0.007, id="reported"),
        pytest.param({"usd": "x"}, {"price": 0.005, "charge": "usd"}, 0.005, id="not a number"),
        pytest.param({"usd": -1}, {"price": 0.005, "charge": "usd"}, 0.005, id="below zero"),
    ],
)
def test_the_fee(answer, fields, fee):
    assert found({"list": [HIT], **answer}, **fields).fee == fee


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"in": 7, "out": 2}, {"input_tokens": 7, "output_tokens": 2}),
        ({"in": -7, "out": "2"}, {}),
        ({}, {}),
    ],
)
def test_the_tokens_of_a_model_that_searched(usage, expected):
    outcome = found({"list": [HIT], "usage": usage}, tokens=("usage.in", "usage.out"))
    assert outcome.usage == expected
