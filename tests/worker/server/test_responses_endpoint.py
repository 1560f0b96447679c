"""POST /v1/responses: OpenAI clients over a provider of the Responses API."""

from __future__ import annotations

import json

import pytest

from tests import responses_answers as responses
from tests.provider import completion, failure, stream
from tests.responses_answers import events_of, sse
from tests.worker.proxy import KEY

MODEL = "gpt-5.6-sol"
BODY = {"model": MODEL, "input": "Hi"}


@pytest.fixture
async def proxy(start):
    return await start(PROVIDER="openai", BIG_MODEL=MODEL)


async def ask(proxy, body, status=200):
    async with proxy.post("/v1/responses", body) as answer:
        assert answer.status == status
        return await answer.read()


async def test_request_and_answer_keep_every_byte(proxy, provider):
    provider.script(completion("Hello"))
    body = {**BODY, "store": False, "new_field": {"a": 1.50}}
    answer = json.loads(await ask(proxy, body))
    (call,) = provider.calls
    assert (call.path, call.key, call.json) == ("/v1/responses", KEY, body)
    assert answer["output"][0]["content"][0]["text"] == "Hello"


async def test_a_stream_is_passed_on(proxy, provider):
    whole = responses.response(responses.message("Hello"), responses.call("f", {"a": 1}))
    parts = [sse([each]) for each in events_of(whole)]
    provider.script(stream(*parts, end="eof"))
    assert await ask(proxy, {**BODY, "stream": True}) == b"".join(parts)


async def test_claude_names_mean_the_tiers(proxy, provider):
    await ask(proxy, {**BODY, "model": "claude-opus-4-1"})
    assert provider.calls[0].json["model"] == MODEL


async def test_nothing_is_stored(proxy, provider):
    await ask(proxy, BODY)
    assert provider.calls[0].json["store"] is False


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"previous_response_id": "resp_1"}, "Previous response with id 'resp_1' not found."),
        ({"store": True}, "stores no responses"),
        ({"conversation": "conv_1"}, "stores no responses"),
    ],
)
async def test_stored_state_is_refused(proxy, provider, fields, words):
    error = json.loads(await ask(proxy, {**BODY, **fields}, 400))["error"]
    assert words in error["message"]
    assert provider.calls == []


async def test_a_model_of_another_api_is_not_here(proxy, provider):
    error = json.loads(await ask(proxy, {**BODY, "model": "gpt-4.1"}, 404))["error"]
    assert "/v1/messages" in error["message"]
    assert provider.calls == []


@pytest.mark.parametrize("end", ["eof", "cut"])
async def test_a_cut_stream_ends_with_an_error_event(proxy, provider, end):
    parts = [sse([each]) for each in events_of(responses.response(responses.message("Hello")))]
    provider.script(stream(*parts[:6], end=end))
    answer = await ask(proxy, {**BODY, "stream": True})
    assert b"event: error\n" in answer
    assert b"response.completed" not in answer


async def test_a_refusal_is_an_error_in_openais_form(proxy, provider):
    provider.script(failure(429, "slow down", retry_after=3))
    error = json.loads(await ask(proxy, BODY, 429))["error"]
    assert error["type"] == "rate_limit_error"


async def test_the_openai_sdk_is_served(proxy, provider):
    openai = pytest.importorskip("openai", reason="installed with the group `test`")
    provider.script(completion("Hello", reasoning="Hm"))
    url = f"{proxy.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:
        answer = await client.responses.create(model=MODEL, input="Hi")
        assert answer.output_text == "Hello"
        async with client.responses.stream(model=MODEL, input="Hi") as events:
            kinds = [event.type async for event in events]
            assert (await events.get_final_response()).output_text == "Hello"
        assert kinds[-1] == "response.completed"
