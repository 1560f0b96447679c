"""Usage: the worker's session at /v1/stats, and the fleet's statistics on disk."""

from __future__ import annotations

import asyncio
import time

import pytest

from ccproxy.store.usage_totals import summed
from tests.fleet import eventually
from tests.messages import prompt
from tests.provider import chunk, completion, failure, stream, tool_call
from tests.worker.admin_client import admin

USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "prompt_tokens_details": {"cached_tokens": 30},
    "completion_tokens_details": {"reasoning_tokens": 7},
}
PRICES = "gpt-4o-mini=1/10,gpt-4o=10/100/1"


async def stats(proxy):
    output = await admin(proxy, "GET /v1/stats")
    assert output.status == 200
    return output.json


async def test_a_new_session_has_used_nothing(proxy):
    result = await stats(proxy)
    assert result.pop("session_duration_seconds") >= 0
    assert result.pop("session_start_time").startswith("20")
    assert result == {
        "total_requests": 0,
        "total_input_tokens": 0,
        "total_output_tokens": 0,
        "total_tokens": 0,
        "total_cache_creation_tokens": 0,
        "total_cache_read_tokens": 0,
        "total_reasoning_tokens": 0,
        "model_usage_count": {},
        "total_errors": 0,
        "total_cost_usd": 0.0,
        "unpriced_requests": 0,
    }


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_streams_and_whole_answers_count_equally(start, provider, tmp_path, streams):
    proxy = await start(PRICES=PRICES)
    provider.script(completion("Hello", reasoning="hm", usage=USAGE))
    await proxy.ask(prompt(stream=streams))
    await proxy.ask(prompt(stream=streams, model="claude-haiku-4-5"))
    result = await stats(proxy)
    del result["session_duration_seconds"], result["session_start_time"]
    assert result == {
        "total_requests": 2,
        "total_input_tokens": 140,
        "total_output_tokens": 40,
        "total_tokens": 180,
        "total_cache_creation_tokens": 0,
        "total_cache_read_tokens": 60,
        "total_reasoning_tokens": 14,
        "model_usage_count": {"gpt-4o": 1, "gpt-4o-mini": 1},
        "total_errors": 0,
        # 70 at 10, 20 at 100, 30 at 1; the small model's cache price is unknown
        "total_cost_usd": pytest.approx(0.00273),
        "unpriced_requests": 1,
    }
    await proxy.worker.session.close()
    lines = {line.group: line.totals for line in summed(tmp_path / "state", by=["model", "key"])}
    big = lines["gpt-4o", "…6789"]
    assert (big.requests, big.errors, big.input, big.output) == (1, 0, 70, 20)
    assert (big.cached, big.reasoning, big.answers, big.unpriced) == (30, 7, 1, 0)
    assert big.cost == pytest.approx(0.00273)
    assert 0 < big.ttfb < 10
    assert lines["gpt-4o-mini", "…6789"].known_cost is None


async def test_a_request_above_a_price_threshold_is_marked(start, provider, tmp_path):
    """Above 272,000 tokens, gpt-6.1-sol costs 4 / 15 dollars instead of 2 / 10."""
    models = dict.fromkeys(("BIG_MODEL", "MIDDLE_MODEL", "SMALL_MODEL"), "gpt-6.1-sol")
    proxy = await start(PROVIDER="openai", PROVIDER_API="chat", **models)
    for prompt_tokens in (272_000, 300_000):
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": 1000}
        provider.script(completion("Hello", usage=usage))
        await proxy.ask(headers={"x-claude-code-session-id": "session-1"})
    line = await proxy.logged("request.above_price_threshold")
    assert (line["prompt"], line["extra_cost"]) == (300_000, pytest.approx(0.605))
    assert len(proxy.lines("request.above_price_threshold")) == 1
    await proxy.worker.session.close()
    (row,) = summed(tmp_path / "state", by=["session"])
    assert row.group == ("session-1",)
    assert (row.totals.above, row.totals.extra) == (1, pytest.approx(0.605))
    assert row.totals.cost == pytest.approx(0.554 + 1.215)


async def test_direct_mode_counts_too(start, provider, tmp_path):
    proxy = await start(PROVIDER_API="messages")
    provider.script(completion("Hello"))
    await proxy.ask(prompt(stream=True))
    await proxy.ask()
    assert (await stats(proxy))["total_input_tokens"] == 20


@pytest.mark.parametrize("streams", [False, True])
async def test_a_refused_request_is_an_error_and_uses_nothing(start, provider, streams):
    proxy = await start(PRICES=PRICES)
    provider.script(failure(400))
    assert (await proxy.ask(prompt(stream=streams))).status == 400
    result = await stats(proxy)
    assert (result["total_requests"], result["total_errors"]) == (1, 1)
    assert (result["total_tokens"], result["total_cost_usd"]) == (0, 0.0)


async def test_a_stream_that_breaks_off_is_an_error(proxy, provider):
    provider.script(stream(chunk("Hel"), end="cut"))
    assert (await proxy.ask(prompt(stream=True))).error
    assert (await stats(proxy))["total_errors"] == 1


async def test_models_that_clients_invent_are_bounded(proxy, monkeypatch):
    monkeypatch.setattr("ccproxy.worker.accounting.usage_counter.MAX_MODELS", 3)
    for number in (*range(5), 0):
        await proxy.ask(prompt(model=f"gpt-{number}"))
    assert (await stats(proxy))["model_usage_count"] == {
        "gpt-0": 2,
        "gpt-1": 1,
        "gpt-2": 1,
        "other": 2,
    }


async def test_only_requests_to_models_count(proxy, provider):
    await proxy.ask(b"nonsense")
    for path in ("/health", "/", "/v1/models", "/nowhere"):
        async with proxy.get(path):
            pass
    async with proxy.post("/v1/messages/count_tokens", prompt()):
        pass
    assert (await stats(proxy))["total_requests"] == 0


@pytest.mark.parametrize("streams", [False, True])
async def test_openai_clients_count(proxy, provider, streams):
    provider.script(completion("Hello", usage=USAGE))
    body = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": streams,
        "stream_options": {"include_usage": True},
    }
    async with proxy.post("/v1/chat/completions", body) as got:
        assert got.status == 200
        await got.read()
    result = await stats(proxy)
    assert result["model_usage_count"] == {"gpt-4o": 1}
    assert (result["total_input_tokens"], result["total_cache_read_tokens"]) == (70, 30)
    assert (result["total_output_tokens"], result["total_reasoning_tokens"]) == (20, 7)


@pytest.mark.timed
async def test_a_busy_or_broken_file_delays_no_request(start, provider, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/usage.sqlite3").mkdir()
    proxy = await start()
    begun = time.perf_counter()
    for _ in range(5):
        assert (await proxy.ask()).text == "ok"
    assert time.perf_counter() - begun < 3
    assert (await stats(proxy))["total_requests"] == 5
    line = await proxy.logged("store.failed")
    assert "usage.sqlite3 cannot be written" in line["reason"]
    assert len(proxy.lines("store.failed")) == 1


async def test_a_filtered_tool_reaches_no_model(start, provider):
    proxy = await start(TOOL_FILTER="web*")
    tools = [{"name": name, "input_schema": {"type": "object"}} for name in ("Bash", "WebFetch")]
    provider.script(completion(tool_calls=[tool_call("Bash", {})]))
    answer = await proxy.ask(prompt(tools=tools))
    assert answer.blocks("tool_use")[0]["name"] == "Bash"
    (call,) = provider.calls
    assert [tool["function"]["name"] for tool in call.json["tools"]] == ["Bash"]
    assert (await proxy.logged("request.converted"))["dropped"] == ("tools.WebFetch",)


async def test_a_client_that_disconnects_is_not_an_error(start, provider):
    proxy = await start()
    gate = asyncio.Event()
    provider.script(stream(chunk("Hel"), gate, chunk("lo", finish="stop")))
    async with proxy.post("/v1/messages", prompt(stream=True)) as got:
        await got.content.readany()
    await eventually(lambda: proxy.worker.session.usage.totals.requests)
    gate.set()
    assert (await stats(proxy))["total_errors"] == 0
