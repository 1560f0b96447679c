"""POST /v1/messages through a real worker to a provider of the Responses API."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

from tests import responses_answers as responses
from tests.messages import prompt
from tests.provider import completion, failure, hang_up, raw, stream, tool_call
from tests.responses_answers import event, events_of, sse
from tests.responses_rules import violations
from tests.worker.proxy import KEY

MODEL = "gpt-5.6-sol"
OPENAI = {"PROVIDER": "openai", "BIG_MODEL": MODEL}
SECOND_KEY = "sk-second-9876543210"
WAYS = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])


@pytest.fixture
async def proxy(start):
    """A worker that requests OpenAI's model in the dialect of its card."""
    return await start(**OPENAI)


def events(*items: dict[str, Any], **more: Any) -> list[bytes]:
    """Return the events of a stream, one for each write of the provider."""
    return [sse([each]) for each in events_of(responses.response(*items, **more))]


def error_event(code: str, text: str) -> bytes:
    return sse([event("error", error={"type": "x", "code": code, "message": text, "param": None})])


STALE = "The encrypted content for item rs_1 could not be verified."


def refusal(text: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    error = {"message": text, "type": "invalid_request_error", "param": param, "code": code}
    return {"error": error}


@WAYS
async def test_an_answer_and_its_request(proxy, provider, streams):
    provider.script(completion("Hello there"))
    answer = await proxy.ask(prompt(stream=streams))
    assert (answer.status, answer.text) == (200, "Hello there")
    assert answer.message["model"] == "claude-opus-4-1"
    assert answer.message["usage"]["input_tokens"] == 10
    (call,) = provider.calls
    assert (call.path, call.key) == ("/v1/responses", KEY)
    assert (call.json["model"], call.json["store"]) == (MODEL, False)
    assert call.streams is streams
    assert violations(call.json) == []


@WAYS
async def test_the_anthropic_sdk_goes_through_a_tool_loop(proxy, provider, streams):
    provider.script(
        completion("I look.", reasoning="A plan.", tool_calls=[tool_call("Read", {"path": "ä"})]),
        completion("Done."),
    )
    tools = [{"name": "Read", "input_schema": {"type": "object"}}]
    messages: list[Any] = [{"role": "user", "content": "Read it"}]
    fields: dict[str, Any] = {"model": "claude-opus-5-5", "max_tokens": 4000, "tools": tools}
    fields["thinking"] = {"type": "adaptive"}
    http_client = DefaultAsyncHttpxClient(verify=False)  # avoids reading every root certificate
    async with AsyncAnthropic(
        base_url=proxy.url, api_key="any", max_retries=0, http_client=http_client
    ) as client:

        async def ask():
            if not streams:
                return await client.messages.create(messages=messages, **fields)
            async with client.messages.stream(messages=messages, **fields) as stream:
                return await stream.get_final_message()

        first = await ask()
        assert [block.type for block in first.content] == ["thinking", "text", "tool_use"]
        use = first.content[-1]
        assert (use.input, first.stop_reason) == ({"path": "ä"}, "tool_use")
        messages.append({"role": "assistant", "content": first.content})
        result = {"type": "tool_result", "tool_use_id": use.id, "content": "text"}
        messages.append({"role": "user", "content": [result]})
        assert (await ask()).content[0].text == "Done."
    before, after = (call.json for call in provider.calls)
    assert violations(after) == []
    assert after["input"][: len(before["input"])] == before["input"]
    kinds = [item["type"] for item in after["input"]]
    assert kinds == ["message", "reasoning", "message", "function_call", "function_call_output"]
    assert after["input"][1]["encrypted_content"] == "gAAAAscripted"


# Errors, keys and retries.


async def test_an_error_in_the_first_events_keeps_its_status(proxy, provider):
    error = error_event("rate_limit_exceeded", "Please try again in 11.054s.")
    provider.script(stream(*events()[:2], error, end="eof"))
    answer = await proxy.ask(prompt(stream=True))
    assert (answer.status, answer.headers["retry-after"]) == (429, "12")
    assert answer.error["type"] == "rate_limit_error"


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(failure(429, "slow down"), id="with a status"),
        pytest.param(
            stream(*events()[:2], error_event("rate_limit_exceeded", "x"), end="eof"),
            id="inside a stream",
        ),
        pytest.param(
            raw(json.dumps(responses.failed("rate_limit_exceeded", "x"))), id="inside a body"
        ),
    ],
)
async def test_after_a_rate_limit_another_key_is_used(start, provider, refused):
    proxy = await start(**OPENAI, PROVIDER_API_KEY=f"{KEY},{SECOND_KEY}", MAX_RETRIES="2")
    provider.script(refused, completion("from the second"))
    assert (await proxy.ask(prompt(stream=True))).text == "from the second"
    assert {call.key for call in provider.calls} == {KEY, SECOND_KEY}


async def test_a_connection_that_is_closed_is_retried(start, provider):
    proxy = await start(**OPENAI, MAX_RETRIES="1")
    provider.script(hang_up(), completion("ok"))
    assert (await proxy.ask(prompt(stream=True))).text == "ok"


async def test_an_overflow_has_the_text_that_makes_claude_code_compact(proxy, provider):
    text = "Your input exceeds the context window of this model."
    provider.script(failure(400, refusal(text, "context_length_exceeded", "input")))
    answer = await proxy.ask()
    assert answer.status == 400
    assert "prompt is too long" in answer.error["message"]


@pytest.mark.parametrize("end", ["eof", "cut"])
@pytest.mark.parametrize("count", [4, 6])
async def test_a_cut_stream_ends_with_an_error(proxy, provider, end, count):
    parts = events(responses.message("A long answer"))
    provider.script(stream(*parts[:count], end=end))
    answer = await proxy.ask(prompt(stream=True))
    assert answer.error["type"] == "api_error"
    assert b"message_stop" not in answer.body


async def test_an_error_after_the_beginning_is_an_event(proxy, provider):
    parts = events(responses.message("A long answer"))
    provider.script(stream(*parts[:6], error_event("server_is_overloaded", "busy"), end="eof"))
    answer = await proxy.ask(prompt(stream=True))
    assert (answer.status, answer.error["type"]) == (200, "overloaded_error")


async def test_a_stop_sequence_ends_the_answer(proxy, provider):
    provider.script(completion("yes</block> because"))
    answer = await proxy.ask(prompt(stream=True, stop_sequences=["</block>"]))
    assert (answer.text, answer.message["stop_reason"]) == ("yes", "stop_sequence")


async def test_a_slow_start_gets_pings(start, provider):
    proxy = await start(**OPENAI, EARLY_COMMIT="0.05")
    gate = asyncio.Event()
    first, *rest = events(responses.message("Late"))
    provider.script(stream(first, gate, *rest, end="eof"))
    async with proxy.post("/v1/messages", prompt(stream=True)) as answer:
        assert b"ping" in await answer.content.readline()
        gate.set()
        assert b"Late" in await answer.read()


# Lessons from refusals.


async def with_reasoning(proxy, provider) -> list[dict[str, Any]]:
    """Return a conversation whose answer has encrypted reasoning."""
    provider.script(completion(reasoning="Plan", tool_calls=[tool_call("Read", {})]))
    first = await proxy.ask()
    result = {"type": "tool_result", "tool_use_id": first.message["content"][1]["id"]}
    return [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": first.message["content"]},
        {"role": "user", "content": [{**result, "content": "x"}]},
    ]


def reasoning_of(call) -> list[dict[str, Any]]:
    return [item for item in call.json["input"] if item["type"] == "reasoning"]


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(failure(400, refusal(STALE, "invalid_encrypted_content")), id="with a status"),
        pytest.param(
            stream(*events()[:2], error_event("invalid_encrypted_content", STALE), end="eof"),
            id="inside a stream",
        ),
    ],
)
@pytest.mark.parametrize("api", ["auto", "responses"])
async def test_stale_reasoning_costs_one_call_and_not_the_session(start, provider, refused, api):
    proxy = await start(**OPENAI, PROVIDER_API=api)
    messages = await with_reasoning(proxy, provider)
    provider.script(refused, completion("Recovered."))
    streams = refused.parts is not None
    answer = await proxy.ask(prompt(stream=streams, messages=messages))
    assert answer.text == "Recovered."
    assert [len(reasoning_of(call)) for call in provider.calls] == [0, 1, 0]
    assert (await proxy.ask(prompt(messages=messages))).status == 200
    assert reasoning_of(provider.calls[3]) == [], "the worker remembers it"
    assert (await proxy.logged("request.revised"))["api"] == "responses"


async def test_a_refused_parameter_is_left_out_of_later_requests(proxy, provider):
    text = "Your organization must be verified to generate reasoning summaries."
    refused = refusal(text, "unsupported_value", "reasoning.summary")
    provider.script(failure(400, refused), completion("ok"))
    body = prompt(thinking={"type": "adaptive"})
    for _ in range(2):
        assert (await proxy.ask(body)).text == "ok"
    outgoing = ["summary" in call.json["reasoning"] for call in provider.calls]
    assert outgoing == [True, False, False]


async def test_a_model_that_needs_the_responses_api_gets_it(start, provider):
    proxy = await start(BIG_MODEL="gpt-9-new")

    def answer(call):
        if call.path.endswith("/chat/completions"):
            text = "Function tools with reasoning_effort are not supported. Use /v1/responses."
            return failure(400, refusal(text))
        return completion("ok")

    provider.script(answer)
    for _ in range(2):
        assert (await proxy.ask()).text == "ok"
    paths = [call.path for call in provider.calls]
    assert paths == ["/v1/chat/completions", "/v1/responses", "/v1/responses"]


async def test_a_server_without_the_responses_api_gets_chat_completions(proxy, provider):
    def answer(call):
        missing = call.path.endswith("/responses")
        return failure(404, "Invalid URL (POST /v1/responses)") if missing else completion("ok")

    provider.script(answer)
    for _ in range(2):
        assert (await proxy.ask()).text == "ok"
    paths = [call.path.rpartition("/v1")[2] for call in provider.calls]
    assert paths == ["/responses", "/chat/completions", "/chat/completions"]


async def test_an_unknown_model_does_not_change_the_api(proxy, provider):
    provider.script(failure(404, refusal("The model `x` does not exist", "model_not_found")))
    assert (await proxy.ask()).status == 404
    assert len(provider.calls) == 1


async def test_the_users_choice_of_the_api_is_kept(start, provider):
    proxy = await start(**OPENAI, PROVIDER_API="responses")
    provider.script(failure(404, "Invalid URL (POST /v1/responses)"))
    assert (await proxy.ask()).status == 502
    assert len(provider.calls) == 1
    other = await start(**OPENAI, PROVIDER_API="chat", label="Chat")
    provider.script(completion("ok"))
    assert (await other.ask()).text == "ok"
    assert provider.calls[-1].path == "/v1/chat/completions"


async def test_removed_reasoning_is_logged_and_counted(proxy, provider):
    removed = [{"id": "rs_1", "action": "removed", "reason": "prefix_mismatch"}] * 2
    whole = responses.response(responses.message("ok"), input_transformations=removed)
    for streams in (False, True):
        body = raw(json.dumps(whole))
        parts = stream(*[sse([each]) for each in events_of(whole)], end="eof")
        provider.script(parts if streams else body)
        assert (await proxy.ask(prompt(stream=streams))).text == "ok"
    line = await proxy.logged("reasoning.removed")
    assert (line["count"], line["total"]) == (2, 4)
    assert line["reasons"] == ["prefix_mismatch"]


# The other endpoints.


async def test_the_connection_test_uses_the_dialect(start, provider):
    proxy = await start(**OPENAI, SMALL_MODEL=MODEL)
    async with proxy.get("/test-connection") as answer:
        assert (await answer.json())["status"] == "success"
    assert provider.calls[0].path == "/v1/responses"
    assert violations(provider.calls[0].json) == []


async def test_tokens_are_counted(proxy, provider):
    async with proxy.post("/v1/messages/count_tokens", prompt()) as answer:
        assert (await answer.json())["input_tokens"] > 0
    assert provider.calls == []


# Switching the provider within a session.

DIALECTS = {
    "chat": {"PROVIDER": "kimi", "BIG_MODEL": "kimi-k2.6"},
    "responses": OPENAI,
    "xai": {"PROVIDER": "xai", "BIG_MODEL": "grok-4.6", "PROVIDER_API": "responses"},
    "direct": {"PROVIDER": "kimi", "BIG_MODEL": "kimi-k2.6", "PROVIDER_API": "messages"},
}


@WAYS
@pytest.mark.parametrize("there", sorted(DIALECTS))
async def test_a_session_survives_every_switch(start, provider, there, streams):
    """The session moves to every other dialect and back, with calls and thinking in each."""
    turns = [there, *[name for name in DIALECTS if name != there], there]
    proxies = {
        name: await start(provider.url, label=name, **settings)
        for name, settings in DIALECTS.items()
    }
    messages: list[Any] = [{"role": "user", "content": "Go"}]
    for number, name in enumerate(turns):
        call = tool_call("Read", {"n": number}, call_id=f"call_{number}")
        provider.script(
            completion(f"Turn {number}.", reasoning=f"Thought {number}.", tool_calls=[call])
        )
        body = prompt(stream=streams, messages=messages, thinking={"type": "adaptive"})
        answer = await proxies[name].ask(body)
        assert answer.status == 200, (name, answer.body)
        assert answer.text == f"Turn {number}."
        outgoing = provider.calls[-1]
        if outgoing.path.endswith("/responses"):
            assert violations(outgoing.json) == []
            own = turns[:number].count(name)
            assert len(reasoning_of(outgoing)) == own, "reasoning of the others is not sent"
        content = answer.message["content"]
        use = next(block for block in content if block["type"] == "tool_use")
        result = {"type": "tool_result", "tool_use_id": use["id"], "content": f"Result {number}"}
        messages.append({"role": "assistant", "content": content})
        messages.append({"role": "user", "content": [result]})
