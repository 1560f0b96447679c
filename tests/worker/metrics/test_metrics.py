"""GET /metrics: names and labels, without keys and client text, on a separate address."""

from __future__ import annotations

import asyncio
import re
import socket
import stat

import aiohttp
import pytest

from ccproxy.config.services.monitoring_addresses import MetricsAddress, parse_metrics_address
from ccproxy.worker.metrics import declarations
from ccproxy.worker.metrics.exposition import Exposition, Histogram, Metric
from ccproxy.worker.metrics.metrics_server import MAX_SCRAPERS, MetricsServer
from ccproxy.worker.metrics.worker_metrics import WorkerMetrics
from tests.fleet import eventually
from tests.messages import prompt
from tests.ports import free_port
from tests.provider import completion, failure
from tests.worker.family import Family
from tests.worker.proxy import KEY

LINE = re.compile(r'[a-z_]+\{([a-z_]+="(?:[^"\\]|\\.)*",?)*\} [0-9.e+-]+')
USAGE = {"prompt_tokens": 100, "completion_tokens": 20}


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("9464", MetricsAddress(host="127.0.0.1", port=9464)),
        ("0.0.0.0:80", MetricsAddress(host="0.0.0.0", port=80)),
        ("[::1]:80", MetricsAddress(host="::1", port=80)),
        ("unix:/run/metrics.sock", MetricsAddress(path="/run/metrics.sock")),
    ],
)
def test_an_address_is_read(value, address):
    assert parse_metrics_address(value) == address


@pytest.mark.parametrize("value", ["", "unix:", "0", "65536", "host:", "http://h:1/metrics"])
def test_another_address_is_a_mistake(value):
    with pytest.raises(ValueError, match="must be PORT, HOST:PORT or unix:PATH"):
        parse_metrics_address(value)


def test_a_histogram_has_cumulative_buckets():
    histogram = Histogram((0.5, 1))
    for value in (0.1, 0.5, 0.7, 3.0):
        histogram.observe(value, ("m",))
    page = Exposition('an "entry"')
    page.add_histogram(Metric("h_seconds", "histogram", "Help.", ("model",)), histogram)
    assert page.text().splitlines() == [
        "# HELP h_seconds Help.",
        "# TYPE h_seconds histogram",
        'h_seconds_bucket{entry="an \\"entry\\"",model="m",le="0.5"} 2',
        'h_seconds_bucket{entry="an \\"entry\\"",model="m",le="1"} 3',
        'h_seconds_bucket{entry="an \\"entry\\"",model="m",le="+Inf"} 4',
        'h_seconds_sum{entry="an \\"entry\\"",model="m"} 4.3',
        'h_seconds_count{entry="an \\"entry\\"",model="m"} 4',
    ]


async def scrape(url, **options):
    async with aiohttp.ClientSession(**options) as session, session.get(url) as answer:
        assert answer.status == 200
        text = await answer.text()
    assert all(line.startswith("# ") or LINE.fullmatch(line) for line in text.splitlines()), text
    return text


@pytest.mark.parametrize(
    ("host", "headers", "status"),
    [
        ("127.0.0.1", {"Host": "rebound.example"}, 421),
        ("127.0.0.1", {"Origin": "http://page.example"}, 403),
        ("127.0.0.1", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("127.0.0.1", {"Host": "localhost:9464"}, 200),
        ("0.0.0.0", {"Host": "node-7.cluster"}, 200),
    ],
)
async def test_pages_read_no_metrics(start, host, headers, status):
    proxy = await start()
    port = free_port()
    server = MetricsServer(proxy.worker, MetricsAddress(host=host, port=port))
    await server.start()
    url = f"http://127.0.0.1:{port}/metrics"
    async with proxy.session.get(url, headers=headers) as answer:
        assert answer.status == status
    await server.close()


async def test_silent_connections_leave_room_for_the_scraper(start):
    """Otherwise strangers could use up the file descriptors of the worker."""
    proxy = await start()
    port = free_port()
    server = MetricsServer(proxy.worker, MetricsAddress(host="127.0.0.1", port=port))
    await server.start()
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3 * MAX_SCRAPERS)]
    assert await scrape(f"http://127.0.0.1:{port}/metrics")
    closed = [reader for reader, _ in opened if reader.at_eof()]
    assert len(closed) > 2 * MAX_SCRAPERS
    await server.close()
    for _, writer in opened:
        writer.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("HEAD", "/metrics", 200), ("POST", "/metrics", 404), ("GET", "/v1/messages", 404)],
)
async def test_nothing_but_metrics_is_served(start, method, path, status):
    proxy = await start()
    port = free_port()
    server = MetricsServer(proxy.worker, MetricsAddress(host="127.0.0.1", port=port))
    await server.start()
    async with proxy.session.request(method, f"http://127.0.0.1:{port}{path}") as answer:
        assert (answer.status, "Server" in answer.headers) == (status, False)
    await server.close()


async def test_requests_are_counted_by_model_and_status(start, provider):
    proxy = await start(PASS_MODELS="x-*", BIG_MODEL="m-big")
    port = free_port()
    server = MetricsServer(proxy.worker, MetricsAddress(host="127.0.0.1", port=port))
    await server.start()
    provider.script(completion("Hello", usage=USAGE))
    await proxy.ask(prompt(model="claude-opus-4-5"))
    await proxy.ask(prompt(model="x-invents"))
    provider.script(failure(429, "slow down"))
    await proxy.ask(prompt(model="claude-opus-4-5"))
    text = await scrape(f"http://127.0.0.1:{port}/metrics")
    requests = 'ccproxy_requests_total{entry="Test",model='
    assert f'{requests}"m-big",status="200",kind="other"}} 1' in text
    assert f'{requests}"m-big",status="429",kind="other"}} 1' in text
    assert f'{requests}"other",status="200",kind="other"}} 1' in text
    assert 'ccproxy_key_wait_seconds_count{entry="Test"} 3' in text
    assert 'ccproxy_breaker_open{entry="Test"} 0' in text
    assert 'ccproxy_tokens_total{entry="Test",model="m-big",type="output"} 20' in text
    assert 'ccproxy_upstream_attempts_total{entry="Test",cause="ok"} 2' in text
    assert 'ccproxy_upstream_attempts_total{entry="Test",cause="rate_limit"} 1' in text
    assert 'ccproxy_keys{entry="Test",state="cooldown"} 1' in text
    assert "ccproxy_pool_mode" not in text
    assert "invents" not in text
    assert KEY[-4:] not in text
    async with proxy.get("/metrics") as answer:
        assert answer.status == 404
    await server.close()


async def test_the_entry_that_answers_counts_the_request(tmp_path):
    async with Family(tmp_path) as family:
        table = '[fallback]\nKimi = ["GLM"]\n'
        await family.start(table, Kimi={}, GLM={})
        metrics = {label: WorkerMetrics(one.worker) for label, one in family.proxies.items()}
        family.providers["Kimi"].script(failure(500, "broken"))
        family.providers["GLM"].script(completion("Hello", usage=USAGE))
        assert (await family.proxies["Kimi"].ask(prompt())).status == 200
        for proxy in family.proxies.values():
            await eventually(lambda proxy=proxy: not proxy.worker.requests.tasks)
        assert 'ccproxy_fallbacks_total{entry="Kimi",to="GLM"} 1' in metrics["Kimi"].text()
        assert "ccproxy_requests_total{" not in metrics["Kimi"].text()
        assert 'ccproxy_tokens_total{entry="GLM"' in metrics["GLM"].text()


def test_the_page_of_the_reference_has_every_metric():
    named = {name for name in vars(declarations) if name.isupper() and name != "METRICS"}
    assert {getattr(declarations, name) for name in named} == {*declarations.METRICS}


async def test_a_shared_pool_is_described_over_a_unix_socket(
    start, provider, redis_server, tmp_path
):
    proxy = await start(REDIS_URL=f"unix://{redis_server.path}", REDIS_TIMEOUT="5")
    path = tmp_path / "metrics.sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))  # left by a killed worker
    server = MetricsServer(proxy.worker, MetricsAddress(path=str(path)))
    await server.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    provider.script(completion("Hello"))
    await proxy.ask(prompt())
    text = await scrape("http://any/metrics", connector=aiohttp.UnixConnector(str(path)))
    assert 'ccproxy_pool_mode{entry="Test",mode="shared"} 1' in text
    assert 'ccproxy_pool_mode{entry="Test",mode="local"} 0' in text
    assert 'ccproxy_pool_members{entry="Test"} 1' in text
    assert "ccproxy_redis_seconds_bucket" in text
    async with proxy.get("/health") as answer:
        pool = (await answer.json())["pool"]
    assert "limits on sign-in attempts" in pool.pop("per_replica")
    assert pool == {"mode": "shared", "reason": "", "replicas": 1}
    await server.close()
