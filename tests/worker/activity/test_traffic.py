"""Rates and latencies of the last minutes."""

from __future__ import annotations

import random

from ccproxy.worker.activity.traffic import BUCKET_SECONDS, BUCKETS, MAX_TIMES, TrafficMeter
from ccproxy.worker.server.access_record import AccessRecord


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def record(*, ttft=None, output=0, error=None):
    one = AccessRecord(request_id="req_1", method="POST", path="/v1/messages", error=error)
    one.usage = {"output_tokens": output}
    one._started = 0.0
    one._first_byte = ttft
    return one


def test_without_traffic_there_are_no_figures():
    report = TrafficMeter(clock=Clock()).report()
    assert (report.requests_per_minute, report.requests, report.errors) == (0, 0, 0)
    assert (report.ttft_median_s, report.ttft_p95_s) == (None, None)
    assert report.history == (0,) * BUCKETS


def test_rates_cover_a_minute_and_latencies_five():
    clock = Clock()
    meter = TrafficMeter(clock=clock)
    for ttft in (1.0, 2.0, 3.0):
        meter.note(record(ttft=ttft, output=600))
    meter.note(record(error="api_error"))
    clock.now += 30
    meter.note(record(ttft=9.0, output=600))
    report = meter.report()
    assert (report.requests_per_minute, report.output_tokens_per_s) == (5, 40.0)
    assert (report.requests, report.errors, report.answers) == (5, 1, 4)
    assert (report.ttft_median_s, report.ttft_p95_s) == (3.0, 9.0)
    assert (report.history[-7], report.history[-1], sum(report.history)) == (4, 1, 5)
    clock.now += 60
    assert (meter.report().requests_per_minute, meter.report().requests) == (0, 5)
    clock.now += 250
    assert (meter.report().requests, meter.report().ttft_median_s) == (0, None)


def test_the_latencies_are_those_of_the_last_answers():
    clock, rng, times = Clock(), random.Random(1), []
    meter = TrafficMeter(clock=clock)
    for _ in range(2 * MAX_TIMES):
        clock.now += 0.2
        times.append((clock.now, rng.choice((0.5, rng.random()))))
        meter.note(record(ttft=times[-1][1]))
    for later in (0, 150, 100, 100):
        clock.now += later
        oldest = clock.now - BUCKETS * BUCKET_SECONDS
        recent = sorted(ttft for at, ttft in times[-MAX_TIMES:] if at > oldest)
        report = meter.report()
        assert report.answers == len(recent)
        median = round(recent[len(recent) // 2], 3) if recent else None
        assert report.ttft_median_s == median
