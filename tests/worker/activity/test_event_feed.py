"""Watchers get every event, and a watcher that does not read does not delay others."""

from __future__ import annotations

import asyncio
import json
import socket
from functools import partial

import pytest

from ccproxy.ipc.activity import ActivityEvent
from ccproxy.worker.activity.event_feed import MAX_QUEUE, EventFeed
from tests.fleet import eventually


def event(number, reason=""):
    return ActivityEvent(event="entry.state", at=number, label="Kimi", reason=reason)


@pytest.fixture
async def feed():
    return EventFeed("Kimi", collect_seconds=0)


async def test_an_event_that_cannot_be_encoded_is_not_sent_again(feed):
    def fail():
        raise UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")

    with pytest.raises(UnicodeEncodeError):
        feed.publish(fail)
    feed.publish(partial(event, 1))


class Watching:
    """A connection to a feed."""

    def __init__(self, feed, running=()):
        self.ours, theirs = socket.socketpair()
        self.ours.setblocking(False)
        theirs.setblocking(False)
        self.theirs = theirs
        self.serving = asyncio.ensure_future(feed.serve(theirs, first=running))
        self._buffer = b""

    async def line(self):
        """Return the next line, or None at the end."""
        loop = asyncio.get_running_loop()
        while b"\n" not in self._buffer:
            data = await loop.sock_recv(self.ours, 65536)
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    async def close(self):
        self.ours.close()
        await asyncio.wait({self.serving})
        self.theirs.close()


async def test_every_watcher_gets_every_event(feed):
    watching = [Watching(feed) for _ in range(5)]
    await eventually(lambda: len(feed._watchers) == 5)
    for number in (1, 2):
        feed.publish(partial(event, number))
    for one in watching:
        assert [(await one.line())["at"], (await one.line())["at"]] == [1, 2]
        await one.close()
    assert not feed.is_watched


async def test_the_running_requests_come_first(feed):
    one = Watching(feed, running=[event(7)])
    assert (await one.line())["at"] == 7
    await one.close()


async def test_the_last_events_are_sent_when_the_worker_exits():
    feed = EventFeed("Kimi", collect_seconds=60)
    one = Watching(feed)
    await eventually(lambda: feed.is_watched)
    feed.publish(lambda: event(3))
    assert (await one.line())["at"] == 3, "the first one is sent at once"
    feed.publish(lambda: event(4))
    one.serving.cancel()
    assert (await one.line())["at"] == 4
    await one.close()


async def test_a_slow_watcher_is_dropped_with_a_marker(feed):
    slow, quick = Watching(feed), Watching(feed)
    await eventually(lambda: len(feed._watchers) == 2)
    text = "x" * 100_000
    for number in range(100):  # more than the capacity of the queue and the socket's buffer
        feed.publish(partial(event, number, text))
        assert (await quick.line())["at"] == number
    numbers = []
    while (line := await slow.line()) is not None and line["event"] != "events.lost":
        numbers.append(line["at"])
    assert line is not None
    assert numbers == [*range(len(numbers))], "what a watcher gets has no gaps"
    assert line["lost"] == 100 - len(numbers)
    assert len(numbers) * 100_000 < MAX_QUEUE + 2**20
    assert slow.serving.done() or await eventually(slow.serving.done)
    await slow.close()
    await quick.close()
