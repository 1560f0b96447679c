"""Web searches over HTTP: every upstream dialect, every backend, and failures."""

from __future__ import annotations

import asyncio
import json

import pytest

from ccproxy.worker.added_features.search_client import SearchClient
from ccproxy.worker.added_features.web_search import search_client
from tests.fleet import eventually
from tests.messages import prompt
from tests.provider import completion, failure, raw, tool_call
from tests.search_engine import HITS, OWN_SEARCHES, RESPONSES, own_key

SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
READ = {"name": "Read", "description": "reads", "input_schema": {"type": "object"}}
DIALECTS = pytest.mark.parametrize("api", ["chat", "responses", "messages"])
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def side(query="aiohttp release", **fields):
    """Return the side request of Claude Code's WebSearch."""
    text = f"Perform a web search for the query: {query}"
    return prompt(text, tools=[SEARCH | fields.pop("tool", {})], **fields)


def links(answer):
    (block,) = answer.blocks("web_search_tool_result")
    content = block["content"]
    return [each["url"] for each in content] if isinstance(content, list) else content["error_code"]


# Claude Code's WebSearch with a configured engine.


@DIALECTS
@STREAMS
async def test_a_configured_engine_answers_without_the_model(start, provider, engine, api, stream):
    proxy = await start(PROVIDER_API=api, WEB_SEARCH=f"searxng:{engine.url}")
    answer = await proxy.ask(side(stream=stream))
    (use,) = answer.blocks("server_tool_use")
    assert (use["name"], use["id"][:9]) == ("web_search", "srvtoolu_")
    assert links(answer) == [hit["url"] for hit in HITS]
    assert "The answer is 42." in answer.text
    assert answer.message["stop_reason"] == "end_turn"
    assert answer.message["usage"]["server_tool_use"] == {"web_search_requests": 1}
    assert engine.calls[0].query == {"q": "aiohttp release", "format": "json"}
    assert provider.calls == []
    assert "aiohttp release" not in json.dumps(proxy.lines("search.finished"))


@DIALECTS
async def test_a_filtered_search_is_not_sent(start, provider, engine, api):
    url = f"searxng:{engine.url}"
    proxy = await start(PROVIDER_API=api, WEB_SEARCH=url, TOOL_FILTER="web_search")
    answer = await proxy.ask(side())
    assert answer.blocks("server_tool_use") == []
    assert len(provider.calls) == 1
    assert engine.calls == []


@pytest.mark.parametrize("api", ["chat", "messages"])
async def test_dropped_parts_of_a_responses_request_are_logged(start, engine, api):
    proxy = await start(PROVIDER_API=api, WEB_SEARCH=f"searxng:{engine.url}")
    tools = [{"type": "web_search"}, {"type": "file_search", "vector_store_ids": ["vs_1"]}]
    body = {"model": "claude-opus-4-1", "input": "Hi", "store": False, "tools": tools}
    async with proxy.post("/v1/responses", body) as response:
        assert response.status == 200
    assert "tools.file_search" in (await proxy.logged("request.converted"))["dropped"]


async def test_a_repeated_search_is_not_sent_again(start, engine):
    proxy = await start(WEB_SEARCH=f"searxng:{engine.url}")
    first, second = await proxy.ask(side()), await proxy.ask(side())
    assert links(first) == links(second)
    assert len(engine.calls) == 1


async def test_a_search_without_results_is_sent_again(start, engine):
    engine.answer = {"results": []}
    proxy = await start(WEB_SEARCH=f"searxng:{engine.url}")
    assert links(await proxy.ask(side())) == []
    engine.answer = {"results": HITS}
    assert len(links(await proxy.ask(side()))) == len(HITS)


async def test_the_cache_is_bounded(start, engine, monkeypatch):
    monkeypatch.setattr("ccproxy.worker.added_features.search_client.CACHED_SEARCHES", 1)
    proxy = await start(WEB_SEARCH=f"searxng:{engine.url}")
    for query in ("one", "two", "one"):
        await proxy.ask(side(query))
    assert len(engine.calls) == 3


async def test_a_search_costs_its_price_once_and_no_estimate_of_a_model(start, engine):
    """The price counts in budgets; a repeated search is not charged again."""
    prices = {"WEB_SEARCH_PRICE": "0.25", "PRICES": "*=1/1"}
    proxy = await start(WEB_SEARCH=f"searxng:{engine.url}", BUDGET="0.5 USD/day", **prices)
    for query in ("one", "one", "two"):
        await proxy.ask(side(query))
    await eventually(lambda: not proxy.worker.requests.tasks)
    (row,) = proxy.worker.payers.rows()
    assert row.spent == pytest.approx(0.5)
    assert proxy.worker.session.usage.totals.cost == pytest.approx(0.5)
    refused = await proxy.ask(side("three"))
    assert (refused.status, refused.error["type"]) == (429, "billing_error")


@pytest.mark.parametrize(
    ("tool", "urls", "terms"),
    [
        ({"allowed_domains": ["b.example"]}, [HITS[1]["url"]], " (site:b.example)"),
        ({"blocked_domains": ["b.example"]}, [HITS[0]["url"]], " -site:b.example"),
    ],
    ids=["allowed", "blocked"],
)
async def test_domains_are_sent_and_enforced(start, engine, tool, urls, terms):
    proxy = await start(WEB_SEARCH=f"searxng:{engine.url}")
    assert links(await proxy.ask(side(tool=tool))) == urls
    assert engine.calls[0].query["q"] == f"aiohttp release{terms}"


@pytest.mark.parametrize(
    ("change", "query", "tool", "code"),
    [
        ({"status": 429}, "q", {}, "too_many_requests"),
        ({"status": 302, "headers": {"Location": "/elsewhere"}}, "q", {}, "unavailable"),
        ({"answer": b" " * 600_000}, "q", {}, "unavailable"),
        ({"headers": {"Content-Encoding": "gzip"}}, "q", {}, "unavailable"),
        ({}, "q" * 2001, {}, "query_too_long"),
        ({}, "q", {"allowed_domains": ["a"], "blocked_domains": ["b"]}, "invalid_tool_input"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_failure_is_an_error_block(start, provider, engine, change, query, tool, code):
    for name, value in change.items():
        setattr(engine, name, value)
    proxy = await start(WEB_SEARCH=f"searxng:{engine.url}")
    answer = await proxy.ask(side(query, tool=tool))
    assert links(answer) == code
    assert answer.text
    assert answer.message["usage"]["server_tool_use"] == {"web_search_requests": 0}
    assert len(engine.calls) <= 1  # neither redirects nor other engines
    assert provider.calls == []


async def test_a_dead_engine_is_an_error_block(start, engine):
    proxy = await start(WEB_SEARCH="searxng:http://127.0.0.1:9")
    answer = await proxy.ask(side())
    assert links(answer) == "unavailable"
    assert "cannot be reached" in answer.text


@DIALECTS
async def test_a_client_that_disconnects_cancels_the_search(start, engine, api):
    engine.gate = asyncio.Event()
    proxy = await start(PROVIDER_API=api, WEB_SEARCH=f"searxng:{engine.url}")
    request = asyncio.create_task(proxy.ask(side(stream=True)))
    await engine.arrived.wait()
    request.cancel()
    await engine.gone.wait()


async def test_a_slow_engine_times_out(start, engine, monkeypatch):
    engine.gate = asyncio.Event()
    proxy = await start(WEB_SEARCH=f"searxng:{engine.url}")
    named = search_client(proxy.worker).target("m", "")
    brief = type(named)(
        backend=type(named.backend)(title="Slow", request={}, results=(), seconds=0.01),
        url=named.url, key="", model="m", is_own=False,
    )  # fmt: skip
    monkeypatch.setattr(SearchClient, "target", lambda *_: brief)
    answer = await proxy.ask(side())
    assert links(answer) == "unavailable"
    assert "Slow did not answer within 0.01 s" in answer.text


# Without an engine.


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("setting", [{}, {"WEB_SEARCH": "off"}, {"WEB_SEARCH": "provider"}])
async def test_without_an_engine_the_model_gets_no_request(start, provider, api, setting):
    proxy = await start(PROVIDER_API=api, **setting)
    answer = await proxy.ask(side(stream=True))
    assert links(answer) == "unavailable"
    assert "Set WEB_SEARCH" in answer.text
    assert provider.calls == []


async def test_without_an_engine_direct_mode_passes_the_tool(start, provider):
    proxy = await start(PROVIDER_API="messages")
    await proxy.ask(side())
    assert provider.calls[0].json["tools"] == [SEARCH]


async def test_without_an_engine_other_tools_work(start, provider):
    proxy = await start()
    await proxy.ask(prompt(tools=[SEARCH, READ]))
    assert [tool["function"]["name"] for tool in provider.calls[0].json["tools"]] == ["Read"]


# Searches by providers: all providers of the table, each in its own form.


@pytest.mark.parametrize("preset", OWN_SEARCHES)
@STREAMS
async def test_a_provider_uses_its_own_search(start, provider, preset, stream):
    path, result = OWN_SEARCHES[preset]
    provider.script(raw(json.dumps(result)))
    model = "own-gpt-oss" if preset == "groq" else "own-model"
    key = own_key(preset)
    proxy = await start(PROVIDER=preset, PROVIDER_API="auto", BIG_MODEL=model, PROVIDER_API_KEY=key)
    answer = await proxy.ask(side(stream=stream))
    (call,) = provider.calls
    assert call.path == path
    assert key in (call.key, call.headers.get("x-goog-api-key"))
    assert "aiohttp release" in call.body.decode()
    assert links(answer) == ["https://a.example/1"]
    assert "It is 42." in answer.text
    assert answer.message["usage"]["server_tool_use"] == {"web_search_requests": 1}


async def test_a_providers_search_costs_its_price_and_the_model_s_tokens(start, provider):
    usage = {"input_tokens": 1000, "output_tokens": 500}
    provider.script(raw(json.dumps({**RESPONSES, "usage": usage})))
    proxy = await start(PROVIDER="openai", PRICES="own-model=10/20", BIG_MODEL="own-model")
    await proxy.ask(side())
    await eventually(lambda: not proxy.worker.requests.tasks)
    assert proxy.worker.session.usage.totals.cost == pytest.approx(0.01 + 0.01 + 0.01)


@pytest.mark.parametrize("preset", ["openai", "openrouter", "gemini", "mistral"])
async def test_a_model_that_did_not_search_is_not_quoted(start, provider, preset):
    words = "I remember"
    empty = {
        "output": [{"content": [{"text": words}]}],
        "outputs": [{"content": words}],
        "choices": [{"message": {"content": words}}],
        "candidates": [{"content": {"parts": [{"text": words}]}}],
    }
    provider.script(raw(json.dumps(empty)))
    proxy = await start(PROVIDER=preset)
    answer = await proxy.ask(side())
    assert links(answer) == []
    assert answer.text == "The search found nothing."


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"PROVIDER": "minimax", "PROVIDER_API_KEY": "sk-cp-0123456789abc"},
         "/v1/coding_plan/search"),
        ({"PROVIDER": "minimax"}, None),
        ({"PROVIDER": "groq", "BIG_MODEL": "llama-4"}, None),
        ({"PROVIDER": "zai", "WEB_SEARCH": "off"}, None),
        ({"PROVIDER": "zai", "PROVIDER_API": "messages", "WEB_SEARCH": "provider"},
         "/api/paas/v4/web_search"),
    ],
    ids=["a plan that searches", "a key without a plan", "a model that cannot", "turned off",
         "direct mode on request"],
)  # fmt: skip
async def test_whether_the_provider_searches(start, provider, settings, path):
    provider.script(raw(json.dumps({"base_resp": {"status_code": 0}})))
    proxy = await start(**settings)
    answer = await proxy.ask(side())
    assert [call.path for call in provider.calls] == ([path] if path else [])
    assert links(answer) == ([] if path else "unavailable")


async def test_a_configured_engine_takes_precedence_over_the_providers(start, provider, engine):
    proxy = await start(
        PROVIDER="openai", PROVIDER_API="responses", WEB_SEARCH=f"searxng:{engine.url}"
    )
    assert links(await proxy.ask(side()))
    provider.script(completion("ok"))
    await proxy.ask(prompt(tools=[SEARCH, READ]))
    kinds = [tool["type"] for tool in provider.calls[0].json["tools"]]
    assert kinds == ["function", "function"]


async def test_a_model_that_searches_itself_keeps_its_tool(start, provider):
    proxy = await start(PROVIDER="openai", PROVIDER_API="responses")
    await proxy.ask(prompt(tools=[SEARCH, READ]))
    kinds = [tool["type"] for tool in provider.calls[0].json["tools"]]
    assert kinds == ["function", "web_search"]


# Clients that combine the search with their own tools.


@DIALECTS
@STREAMS
async def test_the_model_searches_in_rounds(start, provider, engine, api, stream):
    call = tool_call("web_search", {"query": "aiohttp"})
    provider.script(completion("Let me look.", tool_calls=[call]), completion("It is 42."))
    proxy = await start(PROVIDER_API=api, WEB_SEARCH=f"searxng:{engine.url}")
    answer = await proxy.ask(prompt(tools=[SEARCH, READ], stream=stream))
    kinds = [block["type"] for block in answer.message["content"]]
    assert kinds == ["text", "server_tool_use", "web_search_tool_result", "text"]
    assert answer.message["stop_reason"] == "end_turn"
    assert links(answer) == [hit["url"] for hit in HITS]
    assert answer.text == "Let me look.It is 42."
    usage = answer.message["usage"]
    assert usage["server_tool_use"] == {"web_search_requests": 1}
    assert usage["output_tokens"] == 6
    first, second = provider.calls
    assert "web_search_2" not in first.body.decode()
    assert "The answer is 42." in second.body.decode()


@DIALECTS
async def test_a_whole_answer_has_a_limit(start, provider, engine, monkeypatch, api):
    monkeypatch.setattr("ccproxy.worker.added_features.assisted_answer.MAX_WHOLE", 1 << 20)
    provider.script(completion("word " * (1 << 18)))
    proxy = await start(PROVIDER_API=api, WEB_SEARCH=f"searxng:{engine.url}")
    answer = await proxy.ask(prompt(tools=[SEARCH, READ]))
    assert answer.status == 502
    assert answer.error["message"] == "The provider's answer is larger than 1 MiB"


@STREAMS
async def test_calls_of_the_clients_tools_end_the_answer(start, provider, engine, stream):
    calls = [
        tool_call("web_search", {"query": "aiohttp"}, call_id="call_s"),
        tool_call("Read", {"path": "x"}, call_id="call_r"),
    ]
    provider.script(completion(tool_calls=calls))
    proxy = await start(WEB_SEARCH=f"searxng:{engine.url}")
    answer = await proxy.ask(prompt(tools=[SEARCH, READ], stream=stream))
    assert answer.message["stop_reason"] == "tool_use"
    assert [block["name"] for block in answer.blocks("tool_use")] == ["Read"]
    assert links(answer) == [hit["url"] for hit in HITS]
    # The next turn returns everything; for the model, its search is a call with a result.
    provider.script(completion("Done."))
    (read,) = answer.blocks("tool_use")
    result = {"type": "tool_result", "tool_use_id": read["id"], "content": "text of x"}
    history = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": answer.message["content"]},
        {"role": "user", "content": [result]},
    ]
    await proxy.ask(prompt(tools=[SEARCH, READ], stream=stream) | {"messages": history})
    outgoing = provider.calls[-1].json["messages"]
    assert [message["role"] for message in outgoing] == ["user", "assistant", "tool", "tool"]
    assert "The answer is" in outgoing[2]["content"] or "The answer is" in outgoing[3]["content"]


@STREAMS
async def test_a_failure_of_the_first_round_has_a_status(start, provider, engine, stream):
    provider.script(failure(400, "no"))
    proxy = await start(WEB_SEARCH=f"searxng:{engine.url}")
    answer = await proxy.ask(prompt(tools=[SEARCH, READ], stream=stream))
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")


async def test_a_tool_of_the_client_with_the_name_of_the_search(start, provider, engine):
    """The API rejects two tools with one name, so only the client's own is sent."""
    own = {**READ, "name": "web_search"}
    proxy = await start(WEB_SEARCH=f"searxng:{engine.url}")
    provider.script(completion(tool_calls=[tool_call("web_search", {"query": "x"})]))
    answer = await proxy.ask(prompt(tools=[SEARCH, own]))
    assert [use["name"] for use in answer.blocks("tool_use")] == ["web_search"]
    assert [tool["function"]["name"] for tool in provider.calls[0].json["tools"]] == ["web_search"]
    assert not engine.calls


async def test_a_failure_of_a_later_round_is_an_event(start, provider, engine):
    call = tool_call("web_search", {"query": "aiohttp"})
    provider.script(completion(tool_calls=[call]), failure(400, "no"))
    proxy = await start(WEB_SEARCH=f"searxng:{engine.url}")
    answer = await proxy.ask(prompt(tools=[SEARCH, READ], stream=True))
    assert (answer.status, answer.error["type"]) == (200, "invalid_request_error")
    await eventually(lambda: not proxy.worker.requests.tasks)
    assert proxy.worker.session.usage.totals.output == 3, "the rounds before are charged"


async def test_own_results_are_sent_as_text_to_a_provider_that_refuses_them(start, provider):
    refusal = "messages.1.content.1: Invalid `encrypted_content` in `search_result` block"

    def scripted(call):
        return failure(400, refusal) if "srvtoolu_ccp" in call.body.decode() else completion("ok")

    provider.script(scripted)
    proxy = await start(PROVIDER_API="messages")
    use = {"type": "server_tool_use", "id": "srvtoolu_ccp_1", "name": "web_search", "input": {}}
    pages = [{"type": "web_search_result", "url": "https://a.example/", "title": "First"}]
    result = {"type": "web_search_tool_result", "tool_use_id": use["id"], "content": pages}
    history = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": [use, result]},
        {"role": "user", "content": "go on"},
    ]
    assert (await proxy.ask(prompt() | {"messages": history})).text == "ok"
    assert "First (https://a.example/)" in provider.calls[1].body.decode()
