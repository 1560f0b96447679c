"""POST /v1/messages through a real worker to a scripted provider."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import aiohttp
import pytest

from ccproxy.config.worker_config import PLACEHOLDER
from ccproxy.worker.server import event_stream
from tests.fleet import eventually
from tests.messages import prompt, read_answer
from tests.ports import free_port
from tests.provider import chunk, completion, failure, hang_up, raw, stream, tool_call
from tests.worker.proxy import KEY

USAGE = {"prompt_tokens": 12, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}}


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
async def test_an_answer_has_the_clients_model_and_the_providers_usage(proxy, provider, streams):
    provider.script(completion("Hello there", usage=USAGE))
    answer = await proxy.ask(prompt(stream=streams))
    assert answer.status == 200
    assert answer.text == "Hello there"
    assert answer.message["model"] == "claude-opus-4-1"
    assert answer.message["id"].startswith("msg_")
    assert answer.message["stop_reason"] == "end_turn"
    usage = answer.message["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (7, 5)
    assert usage["output_tokens"] == 4
    (call,) = provider.calls
    assert call.path == "/v1/chat/completions"
    assert call.key == KEY
    assert call.json["model"] == "gpt-4o"


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
async def test_a_tool_call_reaches_the_client(proxy, provider, streams):
    provider.script(completion(tool_calls=[tool_call("Bash", {"command": "ls"})]))
    answer = await proxy.ask(prompt(stream=streams))
    (block,) = answer.message["content"]
    assert (block["type"], block["name"], block["input"]) == ("tool_use", "Bash", {"command": "ls"})
    assert answer.message["stop_reason"] == "tool_use"


async def test_half_an_emoji_before_the_name_of_the_model(proxy, provider):
    message = {"role": "user", "content": "half \ud83d"}
    await proxy.ask({"messages": [message], "model": "claude-haiku-4-5", "max_tokens": 9})
    assert provider.calls[0].json["model"] == "gpt-4o-mini"


async def test_a_stream_has_a_ping(proxy):
    answer = await proxy.ask(prompt(stream=True))
    assert b'event: ping\ndata: {"type": "ping"}\n\n' in answer.body


@pytest.mark.parametrize("path", ["/v1/messages?beta=true", "/v1/v1/messages", "/v1/messages/"])
async def test_all_forms_of_the_address(proxy, path):
    assert (await proxy.ask(path=path)).text == "ok"


async def test_every_answer_has_a_unique_id(proxy, provider):
    provider.script(completion("ok"), failure(500))
    good, bad = await proxy.ask(), await proxy.ask()
    ids = {good.headers["request-id"], bad.headers["request-id"]}
    assert len(ids) == 2
    assert all(one.startswith("req_") for one in ids)
    assert json.loads(bad.body)["request_id"] == bad.headers["request-id"]
    assert "server" not in good.headers


# Errors.


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("answer", "status", "kind"),
    [
        pytest.param(failure(400, "bad field"), 400, "invalid_request_error", id="400"),
        pytest.param(failure(401, "bad key"), 401, "authentication_error", id="401"),
        pytest.param(failure(404, "no model"), 404, "not_found_error", id="404"),
        pytest.param(failure(429, "slow down"), 429, "rate_limit_error", id="429"),
        pytest.param(failure(500, "oops"), 500, "api_error", id="500"),
        pytest.param(failure(503, "overloaded"), 529, "overloaded_error", id="503 is overload"),
        pytest.param(raw("<html>"), 502, "api_error", id="HTML in a 200"),
        pytest.param(hang_up(), 502, "api_error", id="no answer"),
        pytest.param(raw(""), 502, "api_error", id="an empty answer"),
    ],
)
async def test_failures_before_the_first_byte_have_a_status(
    proxy, provider, streams, answer, status, kind
):
    provider.script(answer)
    got = await proxy.ask(prompt(stream=streams))
    assert (got.error["type"], got.status) == (kind, status)
    assert got.headers["content-type"] == "application/json"


async def test_retry_after_and_should_retry_are_passed_on(proxy, provider):
    provider.script(failure(429, "slow down", retry_after=7), failure(401, "bad key"))
    limited, refused = await proxy.ask(), await proxy.ask()
    assert limited.headers["retry-after"] == "7"
    assert refused.headers["x-should-retry"] == "false"


async def test_a_refused_connection_is_a_502(start):
    proxy = await start(f"http://127.0.0.1:{free_port()}/v1")
    answer = await proxy.ask(prompt(stream=True))
    assert answer.status == 502
    assert "127.0.0.1" in answer.error["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"{", "not valid JSON", id="no JSON"),
        pytest.param(b'"x"', "", id="no object"),
        pytest.param(b'{"model":"m","max_tokens":1}', "messages", id="no messages"),
        pytest.param(
            json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode(),
            "max_tokens",
            id="no max_tokens",
        ),
        pytest.param(b"[" * 100_000, "", id="nested beyond reason"),
    ],
)
async def test_bad_bodies_are_refused_without_a_request(proxy, provider, body, words):
    answer = await proxy.ask(body)
    assert answer.status == 400
    assert words in answer.error["message"]
    assert provider.calls == []


@pytest.mark.parametrize("end", ["eof", "cut", "reset"])
async def test_a_stream_that_breaks_off_ends_with_one_error_event(proxy, provider, end):
    provider.script(stream(chunk("Hel"), chunk("lo"), end=end))
    answer = await proxy.ask(prompt(stream=True))
    assert answer.status == 200
    assert answer.error["type"] == "api_error"
    assert answer.body.count(b"event: error") == 1
    assert b"message_stop" not in answer.body
    assert len(provider.calls) == 1


async def test_an_error_inside_a_stream_is_an_error_event(proxy, provider):
    broken = {"error": {"message": "the engine is overloaded", "code": 503}}
    provider.script(stream(chunk("Hel"), chunk("lo"), broken))
    answer = await proxy.ask(prompt(stream=True))
    assert answer.body.count(b"event: error") == 1
    assert "overloaded" in answer.error["message"]


async def test_no_key_of_the_provider_appears_in_an_error(proxy, provider):
    provider.script(failure(400, f"your key {KEY} is odd"))
    answer = await proxy.ask()
    assert KEY[:12].encode() not in answer.body
    assert "is odd" in answer.error["message"]
    assert all(KEY[:12] not in str(line) for line in proxy.log)


# Waiting.


async def test_a_stream_that_waits_long_begins_with_a_ping(start, provider):
    proxy = await start(EARLY_COMMIT="0.05")
    gate = asyncio.Event()
    provider.script(completion("late", gate=gate))
    async with proxy.post("/v1/messages", prompt(stream=True)) as response:
        first = await response.content.readuntil(b"\n\n")
        assert first == b'event: ping\ndata: {"type": "ping"}\n\n'
        gate.set()
        rest = await response.read()
    assert read_answer(200, response.headers, first + rest).text == "late"


async def test_a_failure_after_the_early_commit_is_one_event(start, provider):
    proxy = await start(EARLY_COMMIT="0.05")
    gate = asyncio.Event()
    provider.script(failure(401, "bad key", gate=gate))
    async with proxy.post("/v1/messages", prompt(stream=True)) as response:
        assert response.status == 200
        await response.content.readuntil(b"\n\n")
        gate.set()
        rest = await response.read()
    assert rest.startswith(b"event: error\n")
    assert b"authentication_error" in rest


async def test_silence_inside_a_stream_is_filled_with_pings(proxy, provider, monkeypatch):
    monkeypatch.setattr(event_stream, "PING_SECONDS", 0.05)
    gate = asyncio.Event()
    provider.script(stream(chunk("a"), gate, chunk("b", finish="stop")))
    async with proxy.post("/v1/messages", prompt(stream=True)) as response:
        for _ in range(4):  # one ping is part of every stream, the others are the proxy's
            await response.content.readuntil(b"event: ping\n")
        gate.set()
        rest = await response.read()
    assert rest.endswith(b'"message_stop"}\n\n')


async def test_whole_answers_wait_without_a_ping(start, provider):
    proxy = await start(EARLY_COMMIT="0.01")
    gate = asyncio.Event()
    provider.script(failure(429, "slow", gate=gate))
    asking = asyncio.ensure_future(proxy.ask())
    await provider.called()
    gate.set()
    assert (await asking).status == 429


async def test_other_requests_are_answered_meanwhile(proxy, provider):
    gate = asyncio.Event()
    provider.script(completion("late", gate=gate))
    asking = asyncio.ensure_future(proxy.ask())
    await provider.called()
    async with asyncio.timeout(30), proxy.get("/health") as response:
        assert response.status == 200
    gate.set()
    assert (await asking).text == "late"


# Unexpected exceptions.


class Broken:
    """Fails at the end of thinking, to simulate a bug."""

    def mint(self, _origin):
        raise ZeroDivisionError("sk-not-for-the-client")


async def test_an_unexpected_failure_in_mid_stream_is_an_error_event(proxy, provider, caplog):
    proxy.worker.rules = replace(proxy.worker.rules, signer=Broken())
    gate = asyncio.Event()
    thought = {"choices": [{"delta": {"reasoning_content": "hm"}}]}
    provider.script(stream(thought, gate, chunk("a", finish="stop")), completion("next"))
    async with proxy.post("/v1/messages", prompt(stream=True)) as response:
        first = await response.content.readuntil(b"thinking_delta")
        gate.set()
        answer = read_answer(200, response.headers, first + await response.read())
    assert answer.error["type"] == "api_error"
    assert "log file" in answer.error["message"]
    assert answer.body.count(b"event: error") == 1
    assert b"sk-not" not in answer.body
    assert "ZeroDivisionError" in caplog.text
    assert "Traceback" in caplog.text
    line = await proxy.logged("request.finished")
    assert (line["status"], line["error"]) == (200, "api_error")
    assert (await proxy.ask(prompt(stream=True))).text == "next"


async def test_an_unexpected_failure_before_the_first_byte_has_a_status(proxy, provider, caplog):
    proxy.worker.rules = replace(proxy.worker.rules, signer=Broken())
    both = {"choices": [{"delta": {"reasoning_content": "hm", "content": "a"}}]}
    provider.script(stream(both, chunk(finish="stop")))
    answer = await proxy.ask(prompt(stream=True))
    assert (answer.status, answer.error["type"]) == (500, "api_error")
    assert "ZeroDivisionError" in caplog.text


# Clients that disconnect.


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
async def test_a_client_that_disconnects_while_waiting_stops_the_provider(proxy, provider, streams):
    provider.script(completion("late", gate=asyncio.Event()))
    asking = asyncio.ensure_future(proxy.ask(prompt(stream=streams)))
    call = await provider.called()
    asking.cancel()
    async with asyncio.timeout(30):
        await call.gone.wait()
    line = await proxy.logged("request.finished")
    assert (line["status"], line["error"]) == (499, "client_left")
    await eventually(lambda: not proxy.worker.requests.tasks)


async def test_a_client_that_disconnects_in_mid_stream_stops_the_provider(proxy, provider):
    provider.script(stream(chunk("a"), asyncio.Event()))
    async with proxy.post("/v1/messages", prompt(stream=True)) as response:
        await response.content.readuntil(b"text_delta")
        call = await provider.called()
        response.close()
    async with asyncio.timeout(30):
        await call.gone.wait()
    assert (await proxy.logged("request.finished"))["status"] == 499


async def test_a_client_that_disconnects_during_its_upload_leaves_no_state(proxy, provider):
    _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
    await eventually(lambda: proxy.worker.requests.tasks)
    writer.close()
    await eventually(lambda: not proxy.worker.requests.tasks)
    assert provider.calls == []


async def test_our_stop_sequence_closes_the_providers_connection(proxy, provider):
    provider.script(stream(chunk("yes</block>"), chunk(" and so on"), asyncio.Event()))
    answer = await proxy.ask(prompt(stream=True, stop_sequences=["</block>"]))
    assert answer.text == "yes"
    assert answer.message["stop_reason"] == "stop_sequence"
    call = await provider.called()
    async with asyncio.timeout(30):
        await call.gone.wait()


async def test_the_connection_to_the_provider_is_reused(proxy, provider):
    for streams in (True, True, False, True):
        await proxy.ask(prompt(stream=streams))
    assert {call.connection for call in provider.calls} == {0}


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "text/plain"])
async def test_an_answer_without_a_stream_serves_a_client_that_wants_one(proxy, provider, kind):
    body = {"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]}
    provider.script(raw(json.dumps(body), headers={"Content-Type": kind}))
    answer = await proxy.ask(prompt(stream=True))
    assert answer.text == "whole"
    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_a_stream_serves_a_client_that_wants_a_whole_answer(proxy, provider):
    provider.script(stream(chunk("str"), chunk("eam", finish="stop")))
    assert (await proxy.ask()).text == "stream"


# Keys and the log.


async def test_the_next_key_answers_when_one_is_rejected(start, provider):
    proxy = await start(PROVIDER_API_KEY="sk-one-aaaaaaaa,sk-two-bbbbbbbb")
    provider.script(failure(401, "bad key"), completion("second"))
    answer = await proxy.ask()
    assert answer.text == "second"
    assert [call.key for call in provider.calls] == ["sk-one-aaaaaaaa", "sk-two-bbbbbbbb"]
    line = await proxy.logged("request.finished")
    assert (line["key"], line["attempts"]) == ("…bbbb", 2)


async def test_one_line_describes_a_request(proxy, provider):
    provider.script(completion("hello", usage=USAGE))
    answer = await proxy.ask(prompt(stream=True))
    line = await proxy.logged("request.finished")
    assert line["request"] == answer.headers["request-id"]
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/messages", 200)
    assert (line["requested"], line["model"]) == ("claude-opus-4-1", "gpt-4o")
    assert (line["stream"], line["stop_reason"], line["key"]) == (True, "end_turn", "…6789")
    assert line["tokens"] == {"input": 7, "output": 4, "cache_read": 5, "cache_write": 0}
    assert 0 <= line["ttfb_ms"] <= line["ms"]
    assert len(proxy.lines("request.finished")) == 1


async def test_at_debug_the_conversion_is_shown(proxy):
    await proxy.ask(prompt(container="c", next_years_field=1))
    line = await proxy.logged("request.converted")
    assert {"container", "next_years_field"} <= set(line["dropped"])
    assert (line["requested"], line["model"]) == ("claude-opus-4-1", "gpt-4o")


async def test_at_info_dropped_fields_are_not_collected(start):
    proxy = await start(LOG_LEVEL="INFO")
    await proxy.ask(prompt(container="c"))
    await proxy.logged("request.finished")
    assert proxy.lines("request.converted") == []


# The client's own key.


async def test_the_clients_key_is_passed_on_if_configured(start, provider):
    proxy = await start(PROVIDER_API_KEY="", PASS_CLIENT_KEY="on")
    await proxy.ask(headers={"x-api-key": "sk-mine-0123456789"})
    assert provider.calls[0].key == "sk-mine-0123456789"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"x-api-key": "sk-ant-secret-0123456789"}, id="Anthropic's"),
        pytest.param({"Authorization": f"Bearer {PLACEHOLDER}"}, id="a placeholder"),
    ],
)
async def test_without_a_key_to_pass_on_there_is_a_401(start, provider, headers):
    proxy = await start(PROVIDER_API_KEY="", PASS_CLIENT_KEY="on")
    answer = await proxy.ask(headers=headers)
    assert answer.status == 401
    assert provider.calls == []


async def test_otherwise_the_clients_credentials_are_not_passed_on(proxy, provider):
    await proxy.ask(headers={"x-api-key": "sk-mine-0123456789", "cookie": "a=b"})
    (call,) = provider.calls
    assert "sk-mine" not in str(dict(call.headers))
    assert "cookie" not in call.headers


async def test_a_stalled_reader_slows_the_provider_down(proxy, provider):
    big = chunk("x" * 100_000)
    provider.script(stream(*[big] * 300, chunk("", finish="stop")))
    async with (
        aiohttp.ClientSession(read_bufsize=1024) as session,
        session.post(proxy.url + "/v1/messages", json=prompt(stream=True)) as response,
    ):
        await response.content.readuntil(b"text_delta")
        call = await provider.called()
        assert not call.done.is_set()
        body = await response.read()
    assert body.count(b"x" * 1000) >= 300
