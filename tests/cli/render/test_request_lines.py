"""Requests as text: cells, notes and timelines."""

from __future__ import annotations

import json
import time

import click
import pytest

from ccproxy.cli.render.request_lines import (
    aligned_head,
    aligned_line,
    note,
    one_row_per_request,
    seconds,
    short_count,
    timeline_lines,
)
from ccproxy.ipc.activity import CacheLoss, FailedAttempt, RequestTimeline

REFUSED = FailedAttempt(
    at=0.4,
    key="…0001",
    status=429,
    cause="rate_limit",
    effect="cooldown",
    next="other_key",
    reason="slow down",
)
LOSS = CacheLoss(
    cause="tool_added",
    block="tools[3] Read",
    before=16000,
    after=0,
    lost=16000,
    cost=4.0,
)


def request(**fields):
    return RequestTimeline(
        **{
            "id": "req_5d1c9c3a7d3e6b3f0000001f",
            "label": "GLM-5",
            "state": "done",
            "started": 1_760_000_000.0,
            "status": 200,
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, "", id="nothing unusual"),
        pytest.param({"state": "running", "status": 0}, "waiting", id="waiting"),
        pytest.param({"state": "running", "chunks": 3}, "3 chunks", id="running"),
        pytest.param(
            {"state": "client_left", "error": "client_left"},
            "the client disconnected",
            id="client left",
        ),
        pytest.param({"error": "api_error", "reason": "no"}, "no", id="failed"),
        pytest.param({"user": "anna", "error": "x", "reason": "no"}, "anna; no", id="of a user"),
        pytest.param({"failures": (REFUSED, REFUSED)}, "2 refused: 429", id="refused before"),
        pytest.param(
            {"cache_loss": LOSS}, "cache: a tool was added (tools[3] Read)", id="cache loss"
        ),
    ],
)
def test_a_note_names_unusual_facts(fields, expected):
    assert note(request(**fields)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (310, "310"), (999, "999"), (1100, "1.1k"), (18_240, "18k"), (2_400_000, "2.4M")],
)
def test_counts_are_short(value, expected):
    assert short_count(value) == expected


def test_a_refusal_follows_the_attempt_that_it_ended():
    one = request(state="failed", status=429, sent_s=0.3, total_s=0.5, failures=(REFUSED,))
    times = [line.split()[0] for line in timeline_lines(one, url="http://x") if " s  " in line]
    assert times == sorted(times)


def test_times():
    assert [seconds(value) for value in (None, 0.4, 24.84, 310.2)] == [
        "–",
        "0.40 s",
        "24.8 s",
        "310 s",
    ]


def test_a_request_of_two_workers_is_one_row():
    question, answered = request(answered_by="Kimi"), request(label="Kimi")
    other = request(id="req_2", answered_by="gone")
    assert one_row_per_request([question, answered, other]) == [answered, other]


def test_a_timeline():
    lines = timeline_lines(
        request(
            path="/v1/messages",
            requested="claude-opus-4-1",
            model="glm-5.3",
            route="GLM-5:big (fallback: api_error)",
            session="s-1",
            agent="a-1",
            stream=True,
            size=148_000,
            dropped=("container",),
            converted_s=0.002,
            sent_s=0.41,
            first_byte_s=1.1,
            total_s=24.8,
            key="…0002",
            attempts=2,
            failures=(REFUSED,),
            chunks=412,
            pings=3,
            stop_reason="end_turn",
            input=2200,
            cached=16000,
            output=1100,
            reasoning=300,
            cost=0.021,
            cache_loss=LOSS,
        ),
        url="http://127.0.0.1:8082",
    )
    assert click.unstyle("\n".join(lines)) == (
        """\
req_5d1c9c3a7d3e6b3f0000001f  done 200
  entry    GLM-5
  route    GLM-5:big (fallback: api_error)
  model    claude-opus-4-1 → glm-5.3
  session  s-1, sub-agent a-1

   0.000 s  accepted: /v1/messages, 148 kB, stream
   0.002 s  converted; not sent: container
   0.400 s  key …0001 refused: 429 rate_limit, it cools down; next: another key (slow down)
   0.410 s  sent with key …0002, attempt 2
   1.100 s  first byte to the client
  24.800 s  end: end_turn, 412 chunks, 3 pings

  tokens   2,200 new, 16,000 cached; 1,100 output (300 reasoning)
  cost     $0.0210
  cache    a tool was added (tools[3] Read); 0 of 16,000 tokens read, 16,000 paid again, $4.00 more

A short request to the same model (conversations are not kept):
  curl -sN http://127.0.0.1:8082/v1/messages -H 'content-type: application/json' \\
    -H "x-api-key: $ANTHROPIC_AUTH_TOKEN" \\
    -d '{"model": "claude-opus-4-1", "max_tokens": 64, "stream": true, "messages": """
        """[{"role": "user", "content": "Reply with one word."}]}'"""
    )


@pytest.mark.parametrize(
    ("path", "endpoint", "field"),
    [
        pytest.param("/v1/messages", "/v1/messages", "messages", id="Messages"),
        pytest.param("/messages", "/v1/messages", "messages", id="Messages, a short path"),
        pytest.param("/v1/responses", "/v1/responses", "input", id="Responses"),
        pytest.param("/v1/chat/completions", "/v1/chat/completions", "messages", id="Chat"),
    ],
)
def test_a_request_is_replayed_in_its_own_api(path, endpoint, field):
    one = request(path=path, requested="m", state="failed", status=502, stream=True)
    *_, address, _, data = map(click.unstyle, timeline_lines(one, url="http://127.0.0.1:1"))
    assert f" http://127.0.0.1:1{endpoint} " in address
    body = json.loads(data.strip().removeprefix("-d '").removesuffix("'"))
    assert (body["model"], body["stream"], field in body) == ("m", True, True)


def test_foreign_text_cannot_control_the_terminal():
    lines = timeline_lines(
        request(
            state="failed", error="api_error", reason="\x1b[2J", requested="\x1bm", model="'x'"
        ),
        url="http://127.0.0.1:1",
    )
    assert "\x1b[2J" not in "\n".join(lines)
    assert "\x1bm" not in "\n".join(lines)


@pytest.mark.parametrize("width", [None, 120, 80, 60])
def test_lines_fit_and_are_aligned(width):
    one = request(model="glm-5.3", total_s=2.0, started=time.time())
    line = click.unstyle(aligned_line(one, width))
    head = aligned_head(width)
    assert line.index("glm-5.3") == head.index("MODEL")
    assert line.index("200") == head.index("STATUS")
    if width is not None:
        assert len(head) <= width
