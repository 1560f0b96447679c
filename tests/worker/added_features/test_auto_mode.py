"""Auto mode over HTTP: the judge is called before the end of the answer."""

from __future__ import annotations

import asyncio

import pytest

from tests.messages import prompt
from tests.provider import completion, failure, hang_up, tool_call
from tests.worker.family import Family

TOOLS = [{"name": "Bash", "input_schema": {"type": "object"}}]
SAFEGUARDS = [{"type": "dangerous_tool_use", "classifier_context": {"hard_deny": ["prod"]}}]
RUN = tool_call("Bash", {"command": "ls"})
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def ask(proxy, **fields):
    return proxy.ask(prompt("list files", tools=TOOLS, safeguards=SAFEGUARDS, **fields))


def judged(provider, verdict):
    """Script the model to call Bash, and the judge to answer *verdict*."""

    def answer(call):
        return verdict if call.json["model"] == "judge-model" else completion(tool_calls=[RUN])

    provider.script(answer)


def results(answer):
    (result,) = answer.message["safeguard_results"]
    assert (result["type"], result["status"]["type"]) == ("dangerous_tool_use", "available")
    return result["status"]["tool_uses"]


@pytest.fixture
async def proxy(start):
    return await start(AUTO_MODE_MODEL="judge-model", PASS_MODELS="judge-*")


@STREAMS
@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (completion("1 allow"), {"type": "evaluated", "outcome": "not_flagged"}),
        (completion("1 block why"),
         {"type": "evaluated", "outcome": "flagged", "explanation": "why"}),
        (completion("I cannot say."), {"type": "unavailable", "reason": "error"}),
        (failure(400, "no"), {"type": "unavailable", "reason": "error"}),
        (failure(400, "prompt is too long: 9 tokens > 5 maximum"),
         {"type": "unavailable", "reason": "input_too_long"}),
        (hang_up(), {"type": "unavailable", "reason": "error"}),
    ],
    ids=["allowed", "blocked", "nonsense", "refused", "too long", "broken"],
)  # fmt: skip
async def test_the_verdict_is_in_the_last_event(proxy, provider, stream, verdict, expected):
    judged(provider, verdict)
    answer = await ask(proxy, stream=stream)
    (call,) = answer.blocks("tool_use")
    assert results(answer) == {call["id"]: expected}
    assert answer.message["stop_reason"] == "tool_use"
    request = provider.calls[1].json
    assert "hard_deny" in str(request["messages"])
    assert "safeguards" not in provider.calls[0].json


@STREAMS
async def test_an_answer_without_calls_has_an_empty_result(proxy, provider, stream):
    assert results(await ask(proxy, stream=stream)) == {}
    assert len(provider.calls) == 1


async def test_a_judge_that_takes_too_long(proxy, provider, monkeypatch):
    monkeypatch.setattr("ccproxy.worker.added_features.auto_mode.JUDGE_SECONDS", 0.05)
    judged(provider, completion("1 allow", gate=asyncio.Event()))
    answer = await ask(proxy)
    assert [*results(answer).values()] == [{"type": "unavailable", "reason": "timeout"}]
    await asyncio.wait_for(provider.calls[1].gone.wait(), 30)


async def test_a_call_that_is_too_long_is_not_judged(proxy, provider):
    provider.script(completion(tool_calls=[tool_call("Bash", {"command": "x" * 20_000})]))
    answer = await ask(proxy)
    assert [*results(answer).values()] == [{"type": "unavailable", "reason": "input_too_long"}]
    assert len(provider.calls) == 1


async def test_a_client_that_disconnects_cancels_the_judge(proxy, provider):
    judged(provider, completion("1 allow", gate=asyncio.Event()))
    request = asyncio.create_task(ask(proxy, stream=True))
    call = await provider.called(2)
    request.cancel()
    await call.gone.wait()


async def test_the_judges_tokens_are_recorded(proxy, provider):
    judged(provider, completion("1 allow"))
    await ask(proxy)
    await proxy.logged("auto_mode.judged")
    models = [line["model"] for line in proxy.lines("request.finished")]
    assert sorted(models) == ["gpt-4o", "judge-model"]


async def test_searches_and_calls_are_answered_together(start, provider, engine):
    proxy = await start(
        AUTO_MODE_MODEL="judge-model", PASS_MODELS="judge-*", WEB_SEARCH=f"searxng:{engine.url}"
    )
    search = tool_call("web_search", {"query": "x"}, call_id="call_s")

    def scripted(call):
        if call.json["model"] == "judge-model":
            return completion("1 allow")
        return completion(tool_calls=[search] if len(provider.calls) == 1 else [RUN])

    provider.script(scripted)
    tool = {"type": "web_search_20250305", "name": "web_search"}
    answer = await proxy.ask(prompt(tools=[*TOOLS, tool], safeguards=SAFEGUARDS, stream=True))
    (call,) = answer.blocks("tool_use")
    assert results(answer) == {call["id"]: {"type": "evaluated", "outcome": "not_flagged"}}
    assert answer.blocks("web_search_tool_result")


async def test_without_a_judge_the_field_is_dropped(start, provider):
    proxy = await start()
    provider.script(completion(tool_calls=[RUN]))
    answer = await ask(proxy)
    assert "safeguard_results" not in answer.message
    assert len(provider.calls) == 1


async def test_direct_mode_passes_the_field(start, provider):
    proxy = await start(PROVIDER_API="messages", AUTO_MODE_MODEL="judge-model")
    await ask(proxy)
    assert provider.calls[0].json["safeguards"] == SAFEGUARDS


async def test_the_judge_may_be_another_entry(tmp_path):
    async with Family(tmp_path) as family:
        await family.start(Main={"AUTO_MODE_MODEL": "Judge:small"}, Judge={})
        family.providers["Main"].script(completion(tool_calls=[RUN]))
        family.providers["Judge"].script(completion("1 allow"))
        answer = await ask(family.proxies["Main"])
        (request,) = family.providers["Judge"].calls
    assert request.json["model"] == "judge-small"
    assert [*results(answer).values()] == [{"type": "evaluated", "outcome": "not_flagged"}]


async def test_a_judge_that_does_not_run_gives_no_verdict(tmp_path):
    async with Family(tmp_path) as family:
        await family.start(Main={"AUTO_MODE_MODEL": "Judge:small"}, Judge={})
        family.providers["Main"].script(completion(tool_calls=[RUN]))
        family.move("Judge", 9)
        answer = await ask(family.proxies["Main"])
    assert [*results(answer).values()] == [{"type": "unavailable", "reason": "error"}]
