"""Recorded exchanges: their content, and the differences that a replay reports."""

from __future__ import annotations

import json
import os
import re
import time

import msgspec
import pytest

from ccproxy.ipc.control_messages import Refusal
from ccproxy.store.recordings import find_recording, prune_recordings, recordings
from ccproxy.worker.admin.exchange_recorder import RECORDING_SECONDS
from ccproxy.worker.admin.replay import MAX_LINES, _bounded, _difference, replay
from ccproxy.worker.control_socket import ControlSocket
from tests.fleet import eventually
from tests.messages import prompt
from tests.provider import chunk, completion, failure, raw, stream, tool_call
from tests.worker.proxy import KEY
from tests.worker.test_lifecycle import say

READ = {"name": "Read", "input_schema": {"type": "object", "properties": {"path": {}}}}
ANSWERS = {
    "whole": completion("Hi", reasoning="Hm", tool_calls=[tool_call("Read", {"path": "/a"})]),
    "chunks": stream(
        chunk(reasoning_content="Hm "), chunk("He"), chunk("llo ☃"),
        chunk(finish="stop"),
    ),
}  # fmt: skip


async def recorded(proxy, tmp_path, count=1):
    state = tmp_path / "state"
    return await eventually(
        lambda: len(listed := list(recordings(state, "Test"))) >= count and listed
    )


@pytest.fixture
def recording(start):
    async def begin(**settings):
        proxy = await start(**settings)
        assert await proxy.worker.session.switches.switch_recording(on=True) == ""
        return proxy

    return begin


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("kind", ANSWERS)
async def test_a_replay_produces_the_same_bytes(recording, provider, tmp_path, api, streamed, kind):
    if api == "responses" and kind == "chunks":
        pytest.skip("chunks are of Chat Completions")
    provider.script(ANSWERS[kind])
    proxy = await recording(PROVIDER_API=api)
    await proxy.ask(prompt(tools=[READ], stream=streamed))
    (made,) = await recorded(proxy, tmp_path)
    # Quirks that the worker learns later have no effect.
    proxy.worker.rules.calibration.learn(made.calls[0].model, estimated=1000, reported=2000)
    reply = replay(made, proxy.worker)
    assert (reply.request, reply.answer, reply.note) == ((), (), "")
    assert reply.bytes > 100


async def test_a_key_that_is_streamed_in_pieces_is_not_recorded(recording, provider, tmp_path):
    pieces = ("The key: ", KEY[:7], KEY[7:12], KEY[12:])
    provider.script(stream(*map(chunk, pieces), chunk(finish="stop")))
    proxy = await recording()
    answer = await proxy.ask(prompt(stream=True))
    assert answer.text == f"The key: {KEY}", "the client gets it unchanged"
    (made,) = await recorded(proxy, tmp_path)
    for data in (made.answer, made.calls[0].data):
        text = "".join(re.findall(r'"(?:text|content)": ?"([^"]*)"', data.decode()))
        assert text == f"The key: {'*' * len(KEY)}"
    reply = replay(made, proxy.worker)
    assert (reply.request, reply.answer) == ((), ())


WHOLE = {
    "id": "msg_1",
    "type": "message",
    "model": "own",
    "stop_sequence": None,
    "role": "assistant",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 9, "output_tokens": 1},
}
DIRECT = {
    "whole": (completion("Hi"), False),
    "streamed": (completion("Hello ☃"), True),
    "a whole answer to a stream": (raw(json.dumps(WHOLE)), True),
}


@pytest.mark.parametrize(("answer", "streamed"), DIRECT.values(), ids=DIRECT)
async def test_direct_mode_is_recorded_and_replayed(
    recording, provider, tmp_path, answer, streamed
):
    provider.script(answer)
    proxy = await recording(PROVIDER_API="messages", BIG_MODEL="own")
    await proxy.ask(prompt(stream=streamed))
    (made,) = await recorded(proxy, tmp_path)
    (call,) = made.calls
    assert (call.passed, call.api, json.loads(call.body)["model"]) == (True, "messages", "own")
    reply = replay(made, proxy.worker)
    assert (reply.request, reply.answer, reply.note) == ((), (), "")
    assert reply.bytes > 100


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("api", ["chat", "responses", "messages", "completions"])
async def test_requests_of_openai_clients_are_recorded_and_replayed(
    recording, provider, tmp_path, api, streamed
):
    """The exchanges are converted to either API and back, or passed on."""
    provider.script(ANSWERS["whole"])
    proxy = await recording(PROVIDER_API="chat" if api == "completions" else api)
    path, body = "/v1/responses", {"input": "Hello"}
    if api == "completions":
        path, body = "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}
    async with proxy.post(path, {"model": "claude-opus-4-1", "stream": streamed, **body}) as sent:
        assert sent.status == 200, await sent.text()
        await sent.read()
    (made,) = await recorded(proxy, tmp_path)
    reply = replay(made, proxy.worker)
    assert (reply.request, reply.answer, reply.note) == ((), (), "")
    assert reply.bytes > 100


async def test_a_recording_is_private_and_has_no_keys(recording, provider, tmp_path):
    secret = "sk-" + "a" * 30
    provider.script(
        stream(chunk(content=secret[:9]), chunk(content=f"{secret}"), chunk(finish="stop"))
    )
    proxy = await recording()
    await proxy.ask(prompt(f"my key {secret}", stream=True))
    (made,) = await recorded(proxy, tmp_path)
    (path,) = (tmp_path / "state" / "recordings" / "test").glob("*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    assert secret.encode() not in msgspec.json.encode(
        msgspec.to_builtins(made, builtin_types=(bytes,))
    )
    assert [made.status, made.stream, made.requested] == [200, True, "claude-opus-4-1"]


async def test_differences_are_shown(recording, provider, tmp_path):
    provider.script(completion("Hi"))
    proxy = await recording()
    await proxy.ask(prompt())
    (made,) = await recorded(proxy, tmp_path)
    (call,) = made.calls
    body = json.dumps({**json.loads(call.body), "n": 2}).encode()
    old = msgspec.structs.replace(call, body=body, message_id="msg_old")
    reply = replay(msgspec.structs.replace(made, calls=(old,)), proxy.worker)
    assert any('"n": 2' in line for line in reply.request)
    assert any("msg_old" in line for line in reply.answer)


async def test_every_command_gets_a_reply(proxy, tmp_path):
    """This includes unexpected errors; without a reply the worker would seem to hang."""
    control = ControlSocket(tmp_path / "c", proxy.worker, proxy.lifecycle, nonce="n")
    control.open()
    proxy.worker.session.recorder.state = None
    reply = await say(tmp_path / "c", {"op": "replay", "id": "req_1"})
    control.close()
    assert "see this worker's log" in reply["error"]
    assert (await proxy.logged("control.failed"))["request"] == "ReplayRequest"


LINES = [f"line {number % 97} of a long conversation" for number in range(60_000)]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        pytest.param(LINES, [], id="equal"),
        pytest.param(
            ["first", *LINES[1:-1], "last"],
            [
                *("@@ -1 +1 @@", f"-{LINES[0]}", "+first", f" {LINES[1]}"),
                *("@@ -60000 +60000 @@", f" {LINES[-2]}", f"-{LINES[-1]}", "+last"),
            ],
            id="both ends",
        ),
        pytest.param(
            [*LINES[:500], *LINES[800:]],
            ["@@ -501 +501 @@", f" {LINES[499]}", *(f"-{line}" for line in LINES[500:694])],
            id="a part is missing",
        ),
        pytest.param(LINES[::-1], ["@@ -1 +1 @@"], id="everything"),
    ],
)
def test_long_texts_are_compared_in_linear_time(now, expected):
    """A comparison in quadratic time would block all of a worker's requests."""
    lines = _bounded(_difference(LINES, now))
    assert list(lines[: len(expected)]) == expected
    assert len(lines) <= MAX_LINES + 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"asked": b'{"model": "m"}'}, "the request is refused"),
        ({"pieces": ()}, ""),
    ],
    ids=["a request", "no answer"],
)
async def test_requests_that_cannot_be_converted(recording, provider, tmp_path, change, expected):
    provider.script(completion("Hi"))
    proxy = await recording()
    await proxy.ask(prompt(stream=True))
    (made,) = await recorded(proxy, tmp_path)
    broken = msgspec.structs.replace(made.calls[0], **change)
    reply = replay(msgspec.structs.replace(made, calls=(broken,)), proxy.worker)
    assert expected in "".join(reply.request)
    assert reply.request or reply.answer
    several = msgspec.structs.replace(made, calls=made.calls * 2)
    assert "several answers" in replay(several, proxy.worker).note
    assert isinstance(replay(msgspec.structs.replace(made, calls=()), proxy.worker), Refusal)


async def test_off_records_nothing(start, provider, tmp_path):
    provider.script(completion("Hi"))
    proxy = await start()
    await proxy.ask(prompt())
    assert not (tmp_path / "state" / "recordings").exists()
    await proxy.worker.session.switches.switch_recording(on=True)
    assert 0 < proxy.worker.session.recorder.seconds_left <= RECORDING_SECONDS
    await proxy.worker.session.switches.switch_recording(on=False)
    assert not proxy.worker.session.recorder.is_on


async def test_refused_requests_and_large_ones_are_not_recorded(recording, provider, monkeypatch):
    proxy = await recording()
    provider.script(failure(401))
    await proxy.ask(prompt())
    provider.script(completion("Hi"))
    for module in ("admin.exchange_recorder", "upstream.recorded_answer"):
        monkeypatch.setattr(f"ccproxy.worker.{module}.MAX_RECORDING", 10)
    await proxy.ask(prompt())
    assert (await proxy.logged("recording.too_large"))["bytes"] > 10
    assert proxy.lines("recording.failed") == []


async def test_recordings_are_deleted_after_a_day(recording, provider, tmp_path):
    provider.script(completion("Hi"))
    proxy = await recording()
    await proxy.ask(prompt())
    (made,) = await recorded(proxy, tmp_path)
    (path,) = (tmp_path / "state" / "recordings" / "test").glob("*.json")
    assert find_recording(tmp_path / "state", made.id) == made
    assert find_recording(tmp_path / "state", "../x") is None
    assert prune_recordings(tmp_path / "state") == 0
    old = time.time() - 25 * 3600
    os.utime(path, (old, old))
    assert prune_recordings(tmp_path / "state") == 1


async def test_the_list_of_requests_does_not_keep_recorded_exchanges(recording, tmp_path):
    """Otherwise a thousand finished requests would keep their prompts and answers in memory."""
    proxy = await recording()
    await proxy.ask(prompt(stream=True))
    await recorded(proxy, tmp_path)
    (record,) = proxy.worker.activity._finished
    assert (record.requested, record.recorded_answers) == ("claude-opus-4-1", [])
