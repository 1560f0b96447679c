"""The load rig: its figures are correct."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
import time

import pytest

from bench import clocks, payloads, report, upstream
from bench.load import Plan, percentile, play, post
from bench.scenarios import SCENARIOS, streamed
from bench.targets import Target
from tests.fleet import ROOT


@pytest.mark.parametrize(
    ("name", "size"),
    [("small", 150), ("turn", 148_000), ("long", 2_200_000), ("image", 500_000)],
)
@pytest.mark.parametrize("stream", [True, False])
def test_requests_have_the_sizes_of_the_table(name, size, stream):
    body = payloads.request(name, stream=stream)
    assert len(body) == pytest.approx(size, rel=0.05)
    assert json.loads(body)["stream"] is stream


def test_calls_and_results_of_a_conversation_match():
    messages = json.loads(payloads.request("turn", stream=False))["messages"]
    blocks = [block for message in messages for block in message["content"]]
    calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
    results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
    assert calls == results
    assert len(set(calls)) == 30


@pytest.fixture
async def provider_port():
    """The port of the rig's upstream, which runs in this process."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: upstream.Connection(loop), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("kind", ["text", "tool"])
async def test_every_chunk_is_counted_once(provider_port, path, kind, monkeypatch):
    monkeypatch.setattr(upstream.Connection, "mode", upstream.Mode(chunks=500, kind=kind))
    request = post(provider_port, path, payloads.request("small", stream=True))
    outcome = await play(provider_port, request, Plan(connections=4, requests=8, marks=500))
    assert (outcome.answers, outcome.failures, outcome.chunks) == (8, 0, 4000)


async def test_an_answer_with_too_few_chunks_is_a_failure(provider_port, monkeypatch):
    monkeypatch.setattr(upstream.Connection, "mode", upstream.Mode(chunks=49))
    request = post(provider_port, "/v1/messages", payloads.request("small", stream=True))
    outcome = await play(provider_port, request, Plan(requests=1, marks=50))
    assert (outcome.answers, outcome.failures) == (0, 1)


async def test_stamped_chunks_measure_the_delay(provider_port, monkeypatch):
    mode = upstream.Mode(chunks=5, delay_ms=1, stamp=1)
    monkeypatch.setattr(upstream.Connection, "mode", mode)
    request = post(provider_port, "/v1/messages", payloads.request("small", stream=True))
    outcome = await play(provider_port, request, Plan(requests=1, marks=5))
    assert len(outcome.lags) == 5
    assert all(0 <= lag < 5 for lag in outcome.lags)


async def test_a_closed_port_is_a_failure(unused_tcp_port):
    outcome = await play(unused_tcp_port, b"", Plan(requests=1, patience=1))
    assert (outcome.answers, outcome.failures) == (0, 1)


def test_cpu_time_is_measured_for_the_process():
    pids = clocks.tree(os.getpid())
    before, began = clocks.cpu_seconds(pids), time.process_time()
    sum(range(200_000))
    mine = time.process_time() - began
    assert clocks.cpu_seconds(pids) - before == pytest.approx(mine, rel=0.5, abs=0.005)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 3), (0.99, 5), (0.0, 1)], ids=["median", "late", "first"]
)
def test_percentiles(share, expected):
    assert percentile([5, 1, 4, 2, 3], share) == expected
    assert math.isnan(percentile([], share))


def test_the_table_divides_by_the_right_baseline():
    scenario = streamed("text", 500)
    targets = [
        Target(name="bare", port=1, pid=1),
        Target(name="bare-direct", port=1, pid=1, direct=True),
        Target(name="ccproxy", port=1, pid=1),
        Target(name="ccproxy-direct", port=1, pid=1, direct=True),
    ]
    figures = {"bare": 2.0, "bare-direct": 4.0, "ccproxy": 3.0, "ccproxy-direct": 5.0}
    samples = {(scenario.name, name): [{"cpu_us_chunk": value}] for name, value in figures.items()}
    head, _, row = report.table([scenario], targets, samples).splitlines()
    assert [cell.strip() for cell in row.split("|")[2:]] == [
        "2.00",
        "4.00",
        "3.00 (1.50×)",
        "5.00 (1.25×)",
    ]
    assert [cell.strip() for cell in head.split("|")[2:]] == list(figures)


def test_the_median_ignores_missing_values():
    samples = [{"x": 1.0}, {"x": float("nan")}, {}, {"x": 3.0}, {"x": 2.0}]
    assert report.median(samples, "x") == 2.0
    assert math.isnan(report.median([{}], "x"))


def test_a_ratio_compares_samples_of_the_same_round():
    base = [{"x": 1.0}, {"x": 10.0}, {"x": 0.0}, {}]
    assert report.ratio([{"x": 2.0}, {"x": 30.0}, {"x": 1.0}, {"x": 1.0}], base, "x") == 2.5
    assert math.isnan(report.ratio([{}, {"x": math.nan}], base, "x"))
    assert math.isnan(report.ratio([{"x": 1.0}], [], "x"))


def test_scenario_names_are_unique():
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names)


def test_the_command_measures_the_relay_and_writes_json(tmp_path):
    command = [sys.executable, "-m", "bench", "--only", "request-small", "text-50", "--targets"]
    command += ["none", "--rounds", "1", "--seconds", "0.1", "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("*.json")
    samples = json.loads(file.read_text())["samples"]
    assert {sample["target"] for sample in samples} == {"bare", "bare-direct"}
    for sample in samples:
        assert sample["samples"][0]["answers"] > 0
        assert sample["samples"][0]["failures"] == 0
