"""Rates and latencies of the last minutes."""

from __future__ import annotations

from ccproxy.worker.activity.traffic import BUCKETS, TrafficMeter
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


def test_nothing_has_happened():
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
