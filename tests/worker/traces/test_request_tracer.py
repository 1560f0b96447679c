"""Traces of requests, sent by the real SDK to a scripted collector on loopback."""

from __future__ import annotations

import subprocess
import sys

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ccproxy.config.services.monitoring_addresses import parse_traces_headers, parse_traces_url
from ccproxy.worker.traces.request_tracer import RequestTracer
from tests.fleet import eventually
from tests.messages import prompt
from tests.provider import completion, failure
from tests.worker.proxy import KEY

USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "prompt_tokens_details": {"cached_tokens": 30},
}
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
SERVER, CLIENT = 2, 3
"""The span kinds of OTLP."""


class Collector:
    """Accepts spans over OTLP/HTTP, or sends the configured answers."""

    def __init__(self):
        self.status = 200
        self.headers = []
        self.bodies = []
        self.requests = 0
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(app)

    async def start(self):
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"

    async def close(self):
        await self._runner.cleanup()

    async def _take(self, request):
        self.requests += 1
        body = await request.read()
        if self.status == 200:
            self.bodies.append(body)
            self.headers.append(request.headers)
        return web.Response(status=self.status)

    @property
    def spans(self):
        messages = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [
            span
            for message in messages
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
async def collector():
    collector = Collector()
    await collector.start()
    yield collector
    await collector.close()


@pytest.fixture
async def traced(start, collector, monkeypatch):
    """Return a function that starts a worker which sends its traces to the collector."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # not for the collector
    tracers = []

    async def begin(**settings):
        settings = {"TRACES": collector.url, "TRACES_HEADERS": "X-Scope=secret-scope", **settings}
        proxy = await start(BIG_MODEL="m-big", **settings)
        config = proxy.worker.config
        tracer = RequestTracer(config, config.services.traces, log=proxy.worker.logs.events)
        proxy.worker.activity.on_finish.append(tracer.note)
        tracers.append(tracer)
        return proxy, tracer

    yield begin
    for tracer in tracers:
        await tracer.close()


def attributes(span):
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


async def test_a_request_is_a_span_with_a_child_for_each_attempt(traced, collector, provider):
    keys = f"{KEY},sk-second-key-0123456"
    proxy, tracer = await traced(PROVIDER_API_KEY=keys, PROVIDER="xai")
    provider.script(failure(429, "slow down, customer 42"), completion("Paris", usage=USAGE))
    headers = {"traceparent": PARENT}
    body = prompt("Capital of France?", model="claude-opus-4-5", stream=True)
    answer = await proxy.ask(body, headers=headers)
    assert answer.status == 200
    await eventually(lambda: not proxy.worker.requests.tasks)
    await tracer.close()

    request = next(span for span in collector.spans if span.kind == SERVER)
    attempts = [span for span in collector.spans if span.kind == CLIENT]
    assert request.name == "chat m-big"
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, SPAN)
    facts = attributes(request)
    assert facts.pop("ccproxy.request_id").startswith("req_")
    assert facts.pop("gen_ai.response.time_to_first_chunk") > 0
    assert facts.pop("gen_ai.response.finish_reasons").values[0].string_value == "end_turn"
    assert facts == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "x_ai",
        "gen_ai.request.stream": True,
        "gen_ai.request.model": "claude-opus-4-5",
        "gen_ai.response.model": "m-big",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 30,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "http.response.status_code": 200,
        "ccproxy.entry": "Test",
        "ccproxy.attempts": 2,
    }
    assert [attributes(span).get("error.type") for span in attempts] == ["rate_limit", None]
    assert [attributes(span)["http.response.status_code"] for span in attempts] == [429, 200]
    assert {attributes(span)["server.address"] for span in attempts} == {"127.0.0.1"}
    assert {span.parent_span_id for span in attempts} == {request.span_id}
    times = [request.start_time_unix_nano]
    for span in attempts:
        times += [span.start_time_unix_nano, span.end_time_unix_nano]
    assert times == sorted(times)
    assert times[-1] <= request.end_time_unix_nano

    sent = b"".join(collector.bodies)
    for secret in (KEY, KEY[-4:], "Paris", "France", "customer", "secret-scope"):
        assert secret.encode() not in sent, secret
    assert collector.headers[0]["X-Scope"] == "secret-scope"
    assert "traceparent" not in {name.lower() for name in provider.calls[-1].headers}


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_a_failed_request_has_the_type_of_its_error(traced, collector, provider, streams):
    proxy, tracer = await traced()
    provider.script(failure(500, "broken"))
    await proxy.ask(prompt(stream=streams))
    await eventually(lambda: not proxy.worker.requests.tasks)
    await tracer.close()
    request, attempt = sorted(collector.spans, key=lambda span: span.kind)
    assert attributes(request)["error.type"] == "api_error"
    assert attributes(attempt)["error.type"] == "server"
    assert (request.status.code, attempt.status.code) == (2, 2)


async def test_a_client_that_does_not_sample_is_not_traced(traced, collector, provider):
    proxy, tracer = await traced()
    provider.script(completion("Hello"))
    await proxy.ask(prompt(), headers={"traceparent": f"{PARENT[:-2]}00"})
    await eventually(lambda: not proxy.worker.requests.tasks)
    await tracer.close()
    assert collector.spans == []


@pytest.mark.parametrize("header", ["", "rubbish", "00-0-0-01", "x" * 5000])
async def test_a_header_without_a_span_starts_a_new_trace(traced, collector, provider, header):
    proxy, tracer = await traced()
    provider.script(completion("Hello"))
    await proxy.ask(prompt(), headers={"traceparent": header})
    await eventually(lambda: not proxy.worker.requests.tasks)
    await tracer.close()
    assert {span.parent_span_id for span in collector.spans if span.kind == SERVER} == {b""}


async def test_a_failing_collector_does_not_affect_requests(traced, collector, provider):
    proxy, tracer = await traced()
    collector.status = 400
    provider.script(completion("Hello"))
    for _ in range(3):
        assert (await proxy.ask(prompt())).status == 200
    await eventually(lambda: not proxy.worker.requests.tasks)
    await tracer.close()
    lost = await proxy.logged("traces.lost")
    assert lost["collector"] == f"{collector.url}/v1/traces"
    assert collector.requests == 1
    assert len(proxy.lines("traces.lost")) == 1


async def test_an_unreachable_collector_does_not_delay_the_exit(traced, collector, provider):
    proxy, tracer = await traced(TRACES="http://127.0.0.1:1")
    provider.script(completion("Hello"))
    assert (await proxy.ask(prompt())).status == 200
    await eventually(lambda: not proxy.worker.requests.tasks)
    await tracer.close()


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("https://o.example/", "https://o.example/v1/traces"),
        ("https://o.example/otlp/v1/traces", "https://o.example/otlp/v1/traces"),
    ],
)
def test_an_address_is_read(value, url):
    assert parse_traces_url(value).url == url


@pytest.mark.parametrize(
    "value", ["", "collector:4318", "ftp://c", "http://user:pass@c", "http://c/?key=pass"]
)
def test_another_address_is_a_mistake(value):
    with pytest.raises(ValueError, match="must") as raised:
        parse_traces_url(value)
    assert "pass@" not in str(raised.value)


def test_headers_are_read():
    assert parse_traces_headers("Authorization=Bearer a=b, X=1") == {
        "Authorization": "Bearer a=b",
        "X": "1",
    }
    for value in ("secret", "X=", "=secret", "Bad name=secret", "X=secret\x07"):
        with pytest.raises(ValueError, match="must be like") as raised:
            parse_traces_headers(value)
        assert "secret" not in str(raised.value)


def test_without_traces_nothing_is_imported():
    code = "import sys, ccproxy.worker.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"opentelemetry", "requests", "hiredis"} & set(done.stdout.split())
