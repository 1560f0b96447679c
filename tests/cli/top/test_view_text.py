"""The cells and messages of the live view."""

from __future__ import annotations

import click
import pytest

from ccproxy.cli.top.fleet_view import Snapshot
from ccproxy.cli.top.plain_view import screen, sentences, speak
from ccproxy.cli.top.view_text import (
    entry_cells,
    entry_sentence,
    key_sentence,
    request_cells_of_view,
    requests_of,
    sparkline,
    summary,
)
from ccproxy.ipc.activity import RequestTimeline
from ccproxy.ipc.control_messages import KeyCooldown, KeyRow, Traffic
from ccproxy.store.usage_totals import Totals
from ccproxy.supervisor.control.status import Row

TRAFFIC = Traffic(
    requests_per_minute=12,
    output_tokens_per_s=84.2,
    requests=60,
    errors=2,
    answers=58,
    ttft_median_s=1.1,
    ttft_p95_s=3.4,
    history=(0, 1, 0, 4, 8, 2),
)
OUT = KeyRow(
    id="k2",
    tail="…0002",
    state="cooldown",
    cooldowns=(KeyCooldown(cause="rate_limit", status=429, seconds=40.2),),
    used_today=7,
)
READY = KeyRow(id="k1", tail="…0001", state="ready", used_today=12, in_flight=1)
KIMI = Row(
    label="Kimi",
    port=8081,
    host="127.0.0.1",
    state="degraded",
    reason="1 of 2 keys out",
    keys={"ready": 1, "total": 2},
    in_flight=1,
    models={"big": "kimi-k3"},
    traffic=TRAFFIC,
    key_rows=(READY, OUT),
)
GLM = Row(label="GLM", port=8082, host="127.0.0.1", state="stopped")


def request(number, **fields):
    return RequestTimeline(
        **{
            "id": f"req_{number:08x}",
            "label": "Kimi",
            "state": "done",
            "started": 1_760_000_000.0 + number,
            "status": 200,
            "model": "kimi-k3",
            **fields,
        }
    )


FAILED = request(2, state="failed", status=502, error="api_error", reason="\x1b[2Jno answer")
SNAPSHOT = Snapshot(
    at=1_760_000_100.0,
    rows=(KIMI, GLM),
    today={"Kimi": Totals(requests=3, cost=1.07)},
    running=(request(3, state="running", status=0, chunks=5),),
    recent=(FAILED, request(1)),
)


def test_an_entry():
    assert entry_cells(KIMI, SNAPSHOT) == (
        *("Kimi", "◐ degraded", "12", "84", "1.10 s", "3.40 s", "2", "1", "1/2", "$1.07"),
        " ▁ ▄█▂",
    )
    assert entry_cells(GLM, SNAPSHOT) == (
        *("GLM", "○ stopped", "0", "0", "–", "–", "0", "0", "–", "–", ""),
    )


def test_an_entry_as_a_sentence():
    assert entry_sentence(KIMI, SNAPSHOT) == (
        "Kimi: degraded, 12 requests per minute, 84 tokens per second, first token after 1.1 "
        "seconds, 2 errors in five minutes, 1 running, 1 of 2 keys ready, $1.07 today. "
        "1 of 2 keys out"
    )


def test_keys():
    assert key_sentence(READY) == "k1 …0001 ready, 12 today, 1 running"
    assert key_sentence(OUT) == "k2 …0002 cooldown (429 rate limit), next attempt in 41s, 7 today"


def test_the_summary():
    assert summary(SNAPSHOT) == (
        "0 of 2 ready  ·  12 req/min  ·  84 tok/s  ·  1 running  ·  $1.07 today"
    )
    assert summary(Snapshot()) == "0 of 0 ready  ·  0 req/min  ·  0 tok/s  ·  0 running  ·  – today"


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ((), ""),
        ((0, 0, 0), ""),
        ((1, 0, 100), "▁ █"),
        (tuple(range(24)), "▁▂▃▄▅▆▇█"),
    ],
)
def test_sparklines(history, expected):
    assert sparkline(history) == expected


def test_a_running_request_shows_how_long_it_runs():
    _, entry, model, status, _, total, *_, text = request_cells_of_view(
        SNAPSHOT.running[0], SNAPSHOT
    )
    assert click.unstyle(f"{entry} {model} {status} {total} {text}") == (
        "Kimi kimi-k3 running 97.0 s 5 chunks"
    )


def test_requests_are_selected():
    assert [one.state for one in requests_of(SNAPSHOT, failed=False)] == [
        "running",
        "failed",
        "done",
    ]
    assert requests_of(SNAPSHOT, failed=True) == [FAILED]


@pytest.mark.parametrize("width", ["60", "80", "200"])
def test_the_screen_fits(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    lines = click.unstyle(screen(SNAPSHOT)).splitlines()
    assert "\x1b" not in "\n".join(lines)
    assert "Kimi: 1 of 2 keys out" in lines
    texts = ("·", "too narrow", "keys out")
    tables = [line for line in lines if not any(text in line for text in texts)]
    assert max(map(len, tables)) <= int(width)


def test_only_changes_are_spoken(capsys):
    snapshots = [SNAPSHOT, SNAPSHOT, Snapshot(rows=(GLM,))]

    class Source:
        def snapshot(self):
            if not snapshots:
                raise KeyboardInterrupt
            return snapshots.pop(0)

    with pytest.raises(KeyboardInterrupt):
        speak(Source(), interval=5.0, wait=lambda _: None)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["Kimi:", "GLM:", "failed:"]
    assert len([*sentences(SNAPSHOT)]) == 3
