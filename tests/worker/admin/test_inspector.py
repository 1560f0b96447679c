"""Tests of the ring buffer for /debug_logs: bounded, and without bodies unless INSPECT is on."""

from __future__ import annotations

from array import array

import pytest

from ccproxy.redaction import Redactor
from ccproxy.worker.admin.inspector import (
    INSPECTION_SECONDS,
    MAX_BODY_BYTES,
    MAX_HELD,
    MAX_HELD_BODY,
    MAX_NOTES,
    Inspector,
)
from ccproxy.worker.server import access_record
from ccproxy.worker.server.access_record import AccessRecord, Bodies

KEY = "sk-provider-0123456789"


class Clock:
    now = 1e9

    def __call__(self):
        return self.now


def log(clock=None, **how):
    return Inspector(redact=Redactor([KEY]), wall=clock or Clock(), **how)


def record(**more):
    fields = {"requested": "claude", "model": "k2", "status": 200, **more}
    return AccessRecord(request_id="req_1", method="POST", path="/v1/messages", **fields)


def types(log, **how):
    return [entry["type"] for entry in log.entries(**how)]


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (record(stop_reason="end_turn"), ["request", "model_mapping", "response"]),
        (record(error="api_error", reason="no"), ["request", "model_mapping", "error"]),
    ],
)
def test_a_request_is_three_entries(ended, expected):
    ring = log()
    ring.note_request(ended)
    assert types(ring) == expected
    assert all(entry["data"]["request"] == "req_1" for entry in ring.entries())


def test_the_ring_is_bounded():
    ring = log()
    for number in range(MAX_NOTES + 50):
        ring.note("config", number=number)
    result = ring.entries(limit=10**6)
    assert len(result) == MAX_NOTES
    assert result[-1]["data"]["number"] == MAX_NOTES + 49


def test_kinds_and_limits():
    ring = log()
    ring.note("model_switch", to="GLM-4.6:big")
    ring.note_request(record())
    assert types(ring, kind="model_switch") == ["model_switch"]
    assert types(ring, limit=1) == ["response"]
    assert types(ring, limit=0) == []
    assert ring.clear() == 4
    assert types(ring) == []


def test_only_the_bodies_that_are_shown_are_redacted():
    redacted = []

    class Recording(Redactor):
        def __call__(self, text):
            redacted.append(text)
            return super().__call__(text)

    ring = Inspector(redact=Recording([KEY]), inspects_since=1e9, wall=Clock())
    for number in range(50):
        ring.note_request(record(bodies=Bodies(request=b"%d" % number)))
    assert ring.count() == 150
    assert [entry["type"] for entry in ring.entries(limit=4)] == [
        "response",
        "request",
        "model_mapping",
        "response",
    ]
    assert redacted == ["49"]


def test_deleted_entries_have_no_bodies():
    """Other lists keep the record of a request for longer."""
    ring, ended = log(inspects_since=1e9), record(bodies=Bodies(request=b"secret"))
    ring.note_request(ended)
    assert ended.held
    ring.clear()
    assert not ended.held


def test_entries_that_others_replace_have_no_bodies():
    ring, ended = log(inspects_since=1e9), record(bodies=Bodies(request=b"secret"))
    ring.note_request(ended)
    for number in range(MAX_NOTES):
        ring.note("config", number=number)
    assert not ended.held


def test_without_inspection_bodies_are_not_kept_in_memory():
    ring, ended = log(), record(bodies=Bodies(request=b"secret", response=b"secret"))
    ring.note_request(ended)
    assert (ended.request_body, ended.response_body) == (b"", b"")
    assert "body" not in ring.entries()[0]["data"]


def test_the_bodies_of_requests_that_are_too_old_are_deleted():
    ring, first = log(inspects_since=Clock.now), record(bodies=Bodies(request=b"hello"))
    ring.note_request(first)
    for _ in range(MAX_NOTES - 1):
        ring.note_request(record())
    assert first.request_body == b"hello"
    ring.note_request(record())
    assert first.request_body == b""


def test_inspection_shows_the_beginning_without_keys():
    ring = log(inspects_since=Clock.now)
    body = f"my key {KEY} ".encode() + b"x" * MAX_BODY_BYTES * 2
    ring.note_request(record(bodies=Bodies(request=body)))
    body = ring.entries(kind="request")[0]["data"]["body"]
    assert body.startswith("my key …6789 x")
    assert len(body) <= MAX_BODY_BYTES


def test_the_bodies_of_one_request_are_whole_and_redacted():
    ring = log(inspects_since=Clock.now)
    body = b"x" * MAX_BODY_BYTES * 2 + KEY.encode()
    ring.note_request(record(bodies=Bodies(request=body, sent=b"sent", response=b"said")))
    exchange = ring.exchange("req_1")
    assert exchange.request == "x" * MAX_BODY_BYTES * 2 + "…6789"
    assert (exchange.sent, exchange.response, exchange.is_cut) == ("sent", "said", False)
    assert ring.exchange("req_2") is None


def test_a_key_in_pieces_of_a_stream_is_redacted():
    ring = log(inspects_since=Clock.now)
    stream = f'data: {{"text":"{KEY[:9]}"}}\n\ndata: {{"text":"{KEY[9:]}"}}\n\n'
    ring.note_request(record(stream=True, bodies=Bodies(response=stream.encode())))
    response = ring.exchange("req_1").response
    assert response.count("*") == len(KEY)


def test_the_time_of_each_event_is_recorded():
    ring = log(inspects_since=Clock.now)
    bodies = Bodies()
    for piece in (b'data: {"a": 1}\n\ndata: {"b', b'": 2}\n\n: ping\n\n', b"data: 3\n\n"):
        bodies.add(piece)
    bodies.times = array("d", [11.0, 12.5, 14.0])
    bodies.join()
    ended = record(bodies=bodies)
    ended._started = 10.0
    ring.note_request(ended)
    assert ring.exchange("req_1").event_times == (1.0, 2.5, 4.0)


def test_the_times_are_cut_with_the_body():
    bodies = Bodies()
    for _ in range(3):
        bodies.add(b"data: 1\n\n")
    bodies.join()
    bodies.trim(10)
    assert (len(bodies.times), bodies.ends[-1]) == (2, 18)
    bodies.trim(0)
    assert bodies.held == 0


def test_a_response_is_kept_up_to_the_limit(monkeypatch):
    monkeypatch.setattr(access_record, "MAX_CAPTURED", 10)
    bodies = Bodies()
    for piece in (b"12345678", b"9abcdef", b"gh"):
        bodies.add(piece)
    bodies.join()
    assert (bodies.response, list(bodies.ends)) == (b"123456789a", [8, 10])


def test_a_long_body_is_cut():
    ring = log(inspects_since=Clock.now)
    ring.note_request(record(bodies=Bodies(request=b"x" * (MAX_HELD_BODY + 1))))
    exchange = ring.exchange("req_1")
    assert (len(exchange.request), exchange.is_cut) == (MAX_HELD_BODY, True)


def test_the_oldest_bodies_are_deleted_when_all_are_too_large():
    ring = log(inspects_since=Clock.now)
    many = [record(bodies=Bodies(request=b"x" * MAX_HELD_BODY)) for _ in range(40)]
    for one in many:
        ring.note_request(one)
    assert sum(one.held for one in many) == MAX_HELD
    assert [one.held > 0 for one in many] == [False] * 8 + [True] * 32


def test_no_bodies_without_inspection():
    ring = log()
    ring.note_request(record(bodies=Bodies(request=b"secret")))
    assert ring.exchange("req_1") is None


def test_inspection_ends_after_a_day():
    clock = Clock()
    ring = log(clock, inspects_since=clock.now)
    ring.note_request(stored := record(bodies=Bodies(request=b"sooner", response=b"said")))
    clock.now += INSPECTION_SECONDS - 1
    assert (ring.inspects, ring.inspects_for) == (True, 1.0)
    assert ring.entries(kind="request")[0]["data"]["body"] == "sooner"
    clock.now += 1
    assert (ring.inspects, ring.inspects_for) == (False, 0.0)
    ring.note_request(record(bodies=Bodies(request=b"later")))
    assert ["body" in entry["data"] for entry in ring.entries(kind="request")] == [False, False]
    assert (stored.request_body, stored.response_body) == (b"", b""), "what was kept is forgotten"


@pytest.mark.parametrize(
    ("age", "remaining"),
    [
        pytest.param(None, 0, id="never switched on"),
        pytest.param(0, INSPECTION_SECONDS, id="just now"),
        pytest.param(3600, INSPECTION_SECONDS - 3600, id="an hour before the start"),
        pytest.param(INSPECTION_SECONDS, 0, id="a day before: a restart begins no new one"),
        pytest.param(10 * INSPECTION_SECONDS, 0, id="long ago"),
        pytest.param(-3600, INSPECTION_SECONDS, id="a future date is the present"),
    ],
)
def test_the_day_begins_when_it_is_switched_on(age, remaining):
    ring = log(inspects_since=None if age is None else Clock.now - age)
    assert (ring.inspects_for, ring.inspects) == (remaining, remaining > 0)
