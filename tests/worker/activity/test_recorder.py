"""The running and finished requests of a worker: listing and watching them."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections import Counter
from contextlib import contextmanager

import pytest

from ccproxy.ipc.activity import encode_line
from ccproxy.ipc.control_messages import RequestsRequest
from ccproxy.worker.activity.recorder import MAX_FINISHED
from tests.fleet import eventually
from tests.messages import prompt
from tests.provider import chunk, completion, failure, stream
from tests.worker.family import Family

TWO_KEYS = {"PROVIDER_API_KEY": "sk-first-key-0001,sk-second-key-0002"}
SESSION = {"x-claude-code-session-id": "s-1", "x-claude-code-agent-id": "a-1"}


def last(proxy, **how):
    return proxy.worker.activity.requests(RequestsRequest(**how)).finished[-1]


def running(proxy):
    return proxy.worker.activity.requests(RequestsRequest()).running


async def finished(proxy, count=1):
    """Wait until *count* requests have finished, and return them."""
    activity = proxy.worker.activity
    return await eventually(
        lambda: (
            len(activity.requests(RequestsRequest()).finished) >= count
            and activity.requests(RequestsRequest()).finished
        )
    )


@pytest.mark.parametrize("api", ["chat", "messages", "responses"])
@pytest.mark.parametrize("streams", [True, False], ids=["stream", "whole"])
async def test_a_timeline_has_every_step(start, provider, api, streams):
    proxy = await start(**TWO_KEYS, PROVIDER_API=api, BIG_MODEL="kimi-k3", PRICES="kimi-k3=1/2/0.5")
    provider.script(failure(429, "slow down", retry_after=30), completion("hello"))
    body = prompt(stream=streams, model="claude-opus-4-1", container="c1")
    await proxy.ask(body, headers=SESSION)
    (one,) = await finished(proxy)
    assert (one.state, one.status, one.label) == ("done", 200, "Test")
    assert (one.session, one.agent) == ("s-1", "a-1")
    assert (one.requested, one.model, one.stream) == ("claude-opus-4-1", "kimi-k3", streams)
    assert (one.attempts, one.key, len(one.failures)) == (2, "…0002", 1)
    (refused,) = one.failures
    assert (refused.key, refused.status, refused.cause) == ("…0001", 429, "rate_limit")
    assert (refused.effect, refused.next) == ("cooldown", "other_key")
    assert 0 <= one.converted_s <= refused.at <= one.total_s
    assert one.converted_s <= one.sent_s <= one.total_s
    if streams:
        assert one.sent_s <= one.first_byte_s <= one.total_s
        assert one.chunks >= 1
    assert one.size > 50
    assert one.input > 0
    assert one.output > 0
    assert one.cost > 0
    if api != "messages":
        assert one.dropped == ("container",)


async def test_a_running_request_is_shown_until_it_ends(proxy, provider):
    gate = asyncio.Event()
    provider.script(stream(chunk("one"), gate, chunk("two", finish="stop")))
    asking = asyncio.ensure_future(proxy.ask(prompt(stream=True)))
    (one,) = await eventually(lambda: [each for each in running(proxy) if each.chunks])
    assert (one.state, one.status, one.cost) == ("running", 0, None)
    assert one.first_byte_s <= one.total_s
    gate.set()
    await asking
    await finished(proxy)
    assert running(proxy) == ()


async def test_watchers_cost_nothing_per_chunk(proxy, provider):
    feed = proxy.worker.activity.feed
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    serving = asyncio.ensure_future(feed.serve(theirs, first=()))
    await eventually(lambda: feed.is_watched)
    counted = []
    for count in (1, 300):
        pieces = [chunk(f"word {n} ") for n in range(count)]
        provider.script(stream(*pieces, chunk("end", finish="stop")))
        with calls_into("/worker/activity/") as calls:
            await proxy.ask(prompt(stream=True))
            await finished(proxy, len(counted) + 1)
        assert last(proxy).chunks >= 1
        counted.append(calls["publish"])
    assert counted == [2, 2], "one event at the start and one at the end"
    ours.close()
    await asyncio.wait({serving})
    theirs.close()


@contextmanager
def calls_into(folder):
    """Count the calls of each function in the modules of *folder* during the block."""
    calls = Counter()

    def note(frame, event, _arg):
        if event == "call" and folder in frame.f_code.co_filename:
            calls[frame.f_code.co_name] += 1

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        pytest.param({}, [200, 400], id="all"),
        pytest.param({"failed": True}, [400], id="failed"),
        pytest.param({"slow": True}, [], id="slow"),
        pytest.param({"limit": 1}, [400], id="the last"),
        pytest.param({"limit": 0}, [], id="none"),
    ],
)
async def test_requests_are_selected(proxy, provider, how, expected):
    provider.script(completion("ok"), failure(400, "no"))
    await proxy.ask()
    await proxy.ask()
    requests = await finished(proxy, 2)
    answer = proxy.worker.activity.requests(RequestsRequest(**how))
    assert [one.status for one in answer.finished] == expected
    by_id = proxy.worker.activity.requests(RequestsRequest(id=requests[0].id))
    assert [one.status for one in by_id.finished] == [200]
    assert requests[1].reason == "The provider refused the request (400): no"
    assert requests[1].error == "invalid_request_error"


async def test_requests_without_a_model_are_not_recorded(proxy):
    async with proxy.get("/health"):
        pass
    async with proxy.post("/v1/messages", {}):
        pass
    assert proxy.worker.activity.requests(RequestsRequest()).finished == ()
    assert proxy.worker.activity._running == {}


async def test_the_ring_is_bounded(proxy):
    activity = proxy.worker.activity
    await proxy.ask()
    await finished(proxy)
    activity._finished.extend([activity._finished[-1]] * (MAX_FINISHED + 10))
    assert len(activity._finished) == MAX_FINISHED


async def test_dropped_parts_are_bounded(proxy):
    """Clients choose their number and their names."""
    parts = [{"type": f"type{number}{'x' * 1000}"} for number in range(200)]
    body = {"model": "gpt-4o", "store": False, "input": "Hi", "tools": parts}
    async with proxy.post("/v1/responses", body) as response:
        assert response.status == 200
    message = {"role": "user", "content": [{"type": "text", "text": "hello"}, *parts]}
    await proxy.ask(prompt() | {"messages": [message]})
    for one in await finished(proxy, 2):
        assert len(one.dropped) == 100
        assert max(map(len, one.dropped)) == 256


async def test_an_answer_of_another_entry_is_counted_there(tmp_path):
    async with Family(tmp_path) as family:
        await family.start('[fallback]\nKimi = ["GLM"]', Kimi={}, GLM={})
        family.providers["Kimi"].script(failure(503, "overloaded"))
        kimi, glm = family.proxies["Kimi"], family.proxies["GLM"]
        await kimi.ask(prompt(stream=True), headers=SESSION)
        (here,), (there,) = await finished(kimi), await finished(glm)
        assert (here.answered_by, here.route) == ("GLM", "GLM:big (fallback: overloaded_error)")
        assert (there.answered_by, there.session) == ("", "s-1")
        assert kimi.worker.activity.traffic.report().requests == 0
        assert glm.worker.activity.traffic.report().requests == 1


async def test_a_move_of_a_session_is_an_event(start, provider):
    proxy = await start(**TWO_KEYS)
    feed = proxy.worker.activity.feed
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours)
    serving = asyncio.ensure_future(feed.serve(theirs, first=()))
    await eventually(lambda: feed.is_watched)
    provider.script(completion("one"), failure(429, retry_after=60), completion("two"))
    for _ in range(2):
        await proxy.ask(prompt("A long question. " * 1000), headers=SESSION)
    while (event := json.loads(await reader.readline()))["event"] != "session.moved":
        pass
    move = event["move"]
    assert (move["session"], move["cause"]) == ("s-1", "rate_limit")
    assert (move["source"], move["target"]) == ("k1 …0001", "k2 …0002")
    assert move["reason"] == "the key is rate-limited"
    assert move["cached_tokens_lost"] > 4000
    writer.close()
    await asyncio.wait({serving})
    theirs.close()


async def test_an_id_that_is_not_utf8_disturbs_neither_requests_nor_watchers(proxy):
    feed = proxy.worker.activity.feed
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours)
    serving = asyncio.ensure_future(feed.serve(theirs, first=()))
    await eventually(lambda: feed.is_watched)
    body = json.dumps(prompt()).encode()
    fields = [
        b"POST /v1/messages HTTP/1.1",
        b"Host: localhost",
        b"x-claude-code-session-id: \xff1",
        b"x-claude-code-agent-id: \xff2",
        b"Content-Length: %d" % len(body),
        b"Connection: close",
    ]
    received = await proxy.exchange(b"\r\n".join([*fields, b"", body]))
    assert received.startswith(b"HTTP/1.1 200 ")
    one = json.loads(await reader.readline())["request"]
    assert (one["session"], one["agent"]) == ("?1", "?2")
    assert encode_line(proxy.worker.activity.requests(RequestsRequest()))
    writer.close()
    await asyncio.wait({serving})
    theirs.close()
