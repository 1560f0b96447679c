"""The messages about requests, and their complete description in `docs/events.md`."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from ccproxy.ipc.activity import (
    EVENTS,
    ActivityEvent,
    CacheCause,
    CacheLoss,
    FailedAttempt,
    KeyEvent,
    RequestsReply,
    RequestTimeline,
    decode_event,
    decode_requests,
    encode_line,
)
from ccproxy.ipc.control_messages import SessionMove, Traffic

DOCUMENT = (Path(__file__).parents[2] / "docs/events.md").read_text()


def documented(head):
    """Return the names in the first column of the table with this head."""
    (table,) = re.findall(rf"^\| {re.escape(head)} \|.*?\n((?:\|.*\n)+)", DOCUMENT, re.MULTILINE)
    cells = [row.split("|")[1] for row in table.splitlines()[1:]]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.parametrize(
    ("head", "names"),
    [
        ("field of an event", {one.name for one in msgspec.structs.fields(ActivityEvent)}),
        ("field of a request", {one.name for one in msgspec.structs.fields(RequestTimeline)}),
        ("field of a failed attempt", {one.name for one in msgspec.structs.fields(FailedAttempt)}),
        ("field of a key", {one.name for one in msgspec.structs.fields(KeyEvent)}),
        ("field of a move", {one.name for one in fields(SessionMove)}),
        ("field of a cache loss", {one.name for one in msgspec.structs.fields(CacheLoss)}),
        ("field of `traffic`", {one.name for one in fields(Traffic)}),
        ("event", set(EVENTS)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_field_is_documented(head, names):
    assert documented(head) == names


def test_every_cause_is_documented():
    assert all(f"`{cause}`" in DOCUMENT for cause in get_args(CacheCause))


def test_an_event_survives_a_round_trip():
    request = RequestTimeline(id="req_1", label="Kimi", state="done", started=1.0)
    event = ActivityEvent(event="request.finished", at=2.0, label="Kimi", request=request)
    assert decode_event(encode_line(event)) == event
    reply = RequestsReply(finished=(request,))
    assert decode_requests(encode_line(reply)) == reply


def test_default_values_are_omitted():
    request = RequestTimeline(id="req_1", label="Kimi", state="done", started=1.0)
    assert set(json.loads(encode_line(RequestsReply(running=(request,))))["running"][0]) == {
        "id",
        "label",
        "state",
        "started",
    }


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"no json", id="not JSON"),
        pytest.param(b"\xff", id="not UTF-8"),
        pytest.param(b'{"event": "of.the.future", "at": 1, "label": "x"}', id="an unknown event"),
        pytest.param(b'{"ok": false, "error": "no"}', id="a refusal"),
    ],
)
def test_an_event_of_another_version_is_skipped(line):
    assert decode_event(line) is None


def test_an_old_worker_has_no_requests():
    assert decode_requests(b'{"ok": false, "error": "op: must be one of"}') == RequestsReply(
        ok=False
    )
    assert decode_requests(b"[]") is None
