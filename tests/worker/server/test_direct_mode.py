"""Direct mode: Messages in, Messages out, through a real worker."""

from __future__ import annotations

import asyncio
import json

import pytest

from ccproxy.worker.server import event_stream
from tests.fleet import eventually
from tests.messages import prompt
from tests.provider import completion, failure, raw, stream
from tests.worker.proxy import KEY

START = (
    'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message",'
    '"role":"assistant","model":"up-big", "content":[],"stop_reason":null,"stop_sequence":null,'
    '"usage":{"input_tokens":9,"output_tokens":1}}}\n\n'
)
BLOCK = (
    "event: content_block_start\ndata: "
    '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
)
DELTA = (
    "event: content_block_delta\ndata: "
    '{"type":"content_block_delta","index":0,  "delta":{"type":"text_delta","text":"héllo"}}\n\n'
)
END = (
    'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn",'
    '"stop_sequence":null},"usage":{"output_tokens":5}}\n\n'
    'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


QUESTION = b'{"model":"claude-opus-4-1","max_tokens":5,"messages":[{"role":"user","content":"Hi"}]}'
REST = b"Host: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (
    len(QUESTION),
    QUESTION,
)


def refusal(message):
    error = {"type": "invalid_request_error", "message": message}
    return failure(400, {"type": "error", "error": error})


@pytest.fixture
async def direct(start):
    return await start(PROVIDER_API="messages", BIG_MODEL="up-big", SMALL_MODEL="up-small")


async def test_the_request_is_unchanged_except_for_the_model(direct, provider):
    body = (
        b'{ "max_tokens":100,"system":[{"type":"text","text":"a \\"model\\": x","cache_control":'
        b'{"type":"ephemeral"}}],\n "messages":[{"role":"user","content":"caf\\u00e9"}],'
        b'"metadata":{"model":"claude-opus-4-1"},"model" : "claude-opus-4-1","safeguards":[1.50]}'
    )
    headers = {
        "anthropic-beta": "a-2025,b-2026",
        "anthropic-version": "2023-06-01",
        "x-claude-code-session-id": "s1",
        "x-api-key": "client",
        "cookie": "c",
    }
    await direct.ask(body, path="/v1/messages?beta=true", headers=headers)
    (call,) = provider.calls
    old, new = b'"model" : "claude-opus-4-1"', b'"model" : "up-big"'
    assert call.body == body.replace(old, new)
    assert (call.path, call.query) == ("/v1/messages", "beta=true")
    assert call.headers["anthropic-beta"] == "a-2025,b-2026"
    assert call.headers["x-claude-code-session-id"] == "s1"
    assert call.key == KEY
    assert "cookie" not in call.headers


@pytest.mark.parametrize("query", ["beta=true", "a=1%2F2&b=%41+c%20d", "a=%26&a&=", "a=b?c"])
async def test_the_query_is_unchanged(query, direct, provider):
    await direct.exchange(b"POST /v1/messages?%b HTTP/1.1\r\n" % query.encode() + REST)
    (call,) = provider.calls
    assert (call.path, call.query) == ("/v1/messages", query)


async def test_a_stream_is_unchanged_except_for_the_model(direct, provider):
    provider.script(stream(START, BLOCK, ": c\n\n", DELTA[:50], DELTA[50:], END, end="eof"))
    async with direct.post("/v1/messages", prompt(stream=True)) as response:
        answer = await response.text()
    expected = (START + BLOCK + ": c\n\n" + DELTA + END).replace("up-big", "claude-opus-4-1")
    assert answer == expected
    line = await direct.logged("request.finished")
    assert (line["stop_reason"], line["model"]) == ("end_turn", "up-big")
    assert (line["tokens"]["input"], line["tokens"]["output"]) == (9, 5)


async def test_a_whole_answer_is_unchanged_except_for_the_model(direct, provider):
    body = (
        '{"id":"msg_1","type":"message","role":"assistant", "content":[{"type":"text","text":"x"}],'
        '"model":"up-big","stop_reason":"end_turn","stop_sequence":null,'
        '"usage":{"input_tokens":3,"output_tokens":2},"new":1.0}'
    )
    headers = {"Content-Type": "application/json", "anthropic-ratelimit-requests-remaining": "7"}
    provider.script(raw(body, headers=headers))
    answer = await direct.ask()
    assert answer.body.decode() == body.replace("up-big", "claude-opus-4-1")
    assert answer.headers["anthropic-ratelimit-requests-remaining"] == "7"
    assert (await direct.logged("request.finished"))["tokens"]["input"] == 3


@pytest.mark.parametrize("streams", [False, True])
async def test_an_answer_has_one_id_and_it_is_ours(direct, provider, streams):
    theirs = {"request-id": "req_theirs"}
    if streams:
        provider.script(stream(START, DELTA, END, headers=theirs))
    else:
        provider.script(raw('{"type":"message"}', headers=theirs))
    async with direct.post("/v1/messages", prompt(stream=streams)) as response:
        await response.read()
        (own,) = response.headers.getall("request-id")
    assert own == (await direct.logged("request.finished"))["request"]


async def test_errors_are_relayed_unchanged(direct, provider):
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "odd", "x": 1}}
    provider.script(failure(422, error), failure(429, error, retry_after=9))
    first, second = await direct.ask(), await direct.ask(prompt(stream=True))
    assert first.status == 422
    assert json.loads(first.body) == error
    assert (second.status, second.headers["retry-after"]) == (429, "9")
    assert json.loads(second.body) == error


async def test_limits_in_an_error_are_relayed(direct, provider):
    limits = {
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-tokens-reset": "2030-01-01T00:00:00Z",
        "x-internal": "stays here",
    }
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
    provider.script(failure(429, error, retry_after=3, headers=limits))
    answer = await direct.ask()
    assert (answer.status, answer.headers["retry-after"]) == (429, "3")
    assert answer.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert answer.headers["anthropic-ratelimit-tokens-reset"] == "2030-01-01T00:00:00Z"
    assert "x-internal" not in answer.headers


async def test_a_relayed_error_contains_no_key(direct, provider):
    provider.script(failure(400, {"error": {"type": "api_error", "message": f"{KEY}?"}}))
    async with direct.post("/v1/messages", prompt()) as response:
        assert KEY[:12] not in await response.text()


async def test_an_error_that_is_not_json_gets_our_envelope(direct, provider):
    provider.script(raw("<html>Bad Gateway</html>", status=502))
    answer = await direct.ask()
    assert (answer.status, answer.error["type"]) == (502, "api_error")


@pytest.mark.parametrize("end", ["eof", "cut"])
async def test_a_stream_that_breaks_off_ends_with_an_error_event(direct, provider, end):
    provider.script(stream(START, BLOCK, DELTA, DELTA[:40], end=end))
    answer = await direct.ask(prompt(stream=True))
    assert answer.error["type"] == "api_error"
    assert answer.text == "héllo"


@pytest.mark.parametrize("body", ["{{{{", "null", "it works!"])
async def test_an_invalid_200_becomes_our_error(direct, provider, body):
    provider.script(raw(body))
    answer = await direct.ask()
    assert (answer.status, answer.error["type"]) == (502, "api_error")
    assert "Check PROVIDER_BASE_URL" in answer.error["message"]


async def test_an_error_event_of_the_providers_is_the_end(direct, provider):
    error = 'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"no"}}\n\n'
    provider.script(stream(START, BLOCK, DELTA, error, end="eof"))
    answer = await direct.ask(prompt(stream=True))
    assert answer.error["message"] == "no"
    assert answer.body.count(b"event: error") == 1


async def test_silence_is_filled_with_pings_between_events(direct, provider, monkeypatch):
    monkeypatch.setattr(event_stream, "PING_SECONDS", 0.05)
    gate = asyncio.Event()
    provider.script(stream(START, BLOCK, DELTA, DELTA[:40], gate, DELTA[40:], END, end="eof"))
    async with direct.post("/v1/messages", prompt(stream=True)) as response:
        head = await response.content.readuntil(b"event: ping\n")
        gate.set()
        rest = await response.read()
    body = (head + rest).replace(b'event: ping\ndata: {"type": "ping"}\n\n', b"")
    assert body.decode().replace("claude-opus-4-1", "up-big") == START + BLOCK + DELTA * 2 + END


# Counting.


async def test_the_provider_counts_tokens_if_it_can(direct, provider):
    async with direct.post("/v1/messages/count_tokens", prompt()) as response:
        assert await response.json() == {"input_tokens": 10}
    (call,) = provider.calls
    assert call.path == "/v1/messages/count_tokens"
    assert call.json["model"] == "up-big"


async def test_counting_needs_no_budget(start, provider):
    proxy = await start(PROVIDER_API="messages", BUDGET="5000 tokens/day")
    gate = asyncio.Event()
    provider.script(completion("x", gate=gate), *[completion("x", gate=gate)] * 9, completion())

    async def count() -> int:
        async with proxy.post("/v1/messages/count_tokens", prompt("a word " * 500)) as response:
            return response.status

    counts = [asyncio.ensure_future(count()) for _ in range(10)]
    await eventually(lambda: len(provider.calls) == 10)
    assert (await proxy.ask()).status == 200
    gate.set()
    assert {await each for each in counts} == {200}


async def test_ccproxy_counts_tokens_if_the_provider_cannot(direct, provider):
    provider.script(failure(404, "no such route"))
    for _ in range(2):
        async with direct.post("/v1/messages/count_tokens", prompt()) as response:
            assert (await response.json())["input_tokens"] >= 1
    assert len(provider.calls) == 1


# Learning.


async def test_a_refused_field_is_left_out_of_the_retry_and_later_requests(direct, provider):
    provider.script(refusal("context_management: Extra inputs are not permitted"), completion("ok"))
    outgoing = prompt(context_management={"edits": []}, output_config={"effort": "low"})
    assert (await direct.ask(outgoing)).text == "ok"
    assert (await direct.ask(outgoing)).text == "ok"
    observed = [sorted(set(call.json) - set(prompt())) for call in provider.calls]
    stored, all_of_it = ["output_config"], ["context_management", "output_config"]
    assert observed == [all_of_it, stored, stored]
    assert (await direct.logged("request.field_dropped"))["model"] == "up-big"


async def test_a_second_refusal_is_returned_to_the_client(direct, provider):
    provider.script(refusal("thinking: not supported"))
    answer = await direct.ask(prompt(thinking={"type": "adaptive"}))
    assert answer.status == 400
    assert len(provider.calls) == 2


async def test_a_refusal_that_names_nothing_is_returned_to_the_client(direct, provider):
    provider.script(refusal("messages.0: not permitted"))
    assert (await direct.ask(prompt(thinking={"type": "adaptive"}))).status == 400
    assert len(provider.calls) == 1


async def test_a_foreign_signature_costs_one_retry(direct, provider):
    provider.script(refusal("messages.1.content.0: Invalid `signature`"), completion("ok"))
    thought = {"type": "thinking", "thinking": "hm", "signature": "ccproxy1.abc"}
    history = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [thought, {"type": "text", "text": "b"}]},
        {"role": "user", "content": "c"},
    ]
    outgoing = {**prompt(), "messages": history}
    assert (await direct.ask(outgoing)).text == "ok"
    own = {"type": "thinking", "thinking": "hm", "signature": "own"}
    later = [*history, {"role": "assistant", "content": [own]}, {"role": "user", "content": "d"}]
    assert (await direct.ask({**outgoing, "messages": later})).text == "ok"
    assert len(provider.calls) == 3
    last = provider.calls[2].json["messages"]
    assert last[1]["content"] == [{"type": "text", "text": "b"}]
    assert last[3]["content"] == [own]


@pytest.mark.parametrize("count", ['"12"', "9223372036854775808", "true", "[1]"])
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_invalid_usage_is_passed_on_and_not_counted(direct, provider, count, streams):
    usage = f'"usage":{{"input_tokens":{count},"output_tokens":5}}'
    body = f'{{"type":"message","role":"assistant","content":[],"model":"up-big",{usage}}}'
    end = END.replace('"usage":{"output_tokens":5}', usage)
    provider.script(stream(START, BLOCK, DELTA, end, end="eof") if streams else raw(body))
    async with direct.post("/v1/messages", prompt(stream=streams)) as response:
        assert response.status == 200
        assert usage.encode() in await response.read()
    tokens = (await direct.logged("request.finished"))["tokens"]
    assert tokens["output"] == 5
    assert tokens["input"] == (9 if streams else 0)


async def test_an_error_in_another_form_is_converted(direct, provider):
    provider.script(failure(400, "request (5127 tokens) exceeds the available context size (4096)"))
    answer = await direct.ask(prompt())
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    assert answer.error["message"].startswith("prompt is too long")


async def test_late_system_messages_become_reminders_once_refused(direct, provider):
    provider.script(
        failure(500, "Jinja Exception: System message must be at the beginning."), completion("Hi")
    )
    late = {"role": "system", "content": "The date changed."}
    body = {**prompt(), "messages": [{"role": "user", "content": "hello"}, late]}
    assert (await direct.ask(body)).status == 200
    first, second = provider.calls
    assert [message["role"] for message in first.json["messages"]] == ["user", "system"]
    (message,) = second.json["messages"]
    assert "<system-reminder>" in message["content"][1]["text"]


async def test_a_rejected_key_is_named_with_its_proxy(start, provider):
    proxy = await start()
    provider.script(failure(401, "no"))
    message = (await proxy.ask(prompt())).error["message"]
    assert f"…{KEY[-4:]}" in message
    assert f"of {proxy.worker.config.label}" in message


RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "ok"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
USE = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}


@pytest.mark.parametrize(
    ("messages", "initiator", "vision"),
    [
        pytest.param([("user", "Hi")], "user", None, id="the user's text"),
        pytest.param(
            [("user", "Hi"), ("assistant", [USE]), ("user", [RESULT])],
            "agent",
            None,
            id="a tool's result is not billed as a request of the user",
        ),
        pytest.param([("user", [IMAGE])], "user", "true", id="an image"),
    ],
)
async def test_copilots_headers_are_sent_in_direct_mode_too(
    messages, initiator, vision, start, provider
):
    url = provider.url.removesuffix("/v1")
    proxy = await start(PROVIDER="copilot", PROVIDER_API="messages", PROVIDER_BASE_URL=url)
    await proxy.ask(prompt(messages=[{"role": role, "content": text} for role, text in messages]))
    (call,) = provider.calls
    assert call.headers["x-initiator"] == initiator
    assert call.headers.get("copilot-vision-request") == vision
