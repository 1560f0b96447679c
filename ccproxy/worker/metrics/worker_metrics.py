"""
The metrics of a worker.

No label is a client's or provider's text: models that are not configured are counted as `other`,
and keys by their state only. So the number of series is bounded.
"""

from __future__ import annotations

import platform
from collections import Counter

from ccproxy import __version__
from ccproxy.worker.metrics.exposition import Exposition, Histogram, Labels
from ccproxy.worker.server.access_record import AccessRecord
from ccproxy.worker.worker import Worker

OTHER = "other"
MAX_MODELS = 20
_STATUSES = frozenset({200, 400, 401, 403, 404, 408, 413, 429, 499, 500, 502, 503, 504, 529})
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_FIRST_BYTE = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)
_OVERHEAD = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5)
_REDIS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1)
_TOKENS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_write": "cache_creation_input_tokens",
}
_KEY_STATES = ("ready", "cooldown", "out", "rejected", "disabled")


class WorkerMetrics:
    """Counts the requests of a worker, and describes its state when it is asked."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._requests: Counter[Labels] = Counter()
        self._tokens: Counter[Labels] = Counter()
        self._attempts: Counter[Labels] = Counter()
        self._cost: dict[Labels, float] = {}
        self._seconds = Histogram(_SECONDS)
        self._first_byte = Histogram(_FIRST_BYTE)
        self._overhead = Histogram(_OVERHEAD)
        self._redis = Histogram(_REDIS)
        worker.activity.on_finish = self.note
        if worker.shared_pool is not None:
            worker.shared_pool.backend.on_call = self._redis.observe

    def note(self, record: AccessRecord) -> None:
        """Count a request that has ended."""
        model = self._model(record.model)
        self._requests[model, _status(record.status)] += 1
        self._seconds.observe(record.elapsed, (model,))
        if record.first_byte_after is not None:
            self._first_byte.observe(record.first_byte_after, (model,))
        if record.converted_after is not None:
            self._overhead.observe(record.converted_after)
        for name, field in _TOKENS.items():
            self._tokens[model, name] += record.usage.get(field) or 0
        for failure in record.failures:
            self._attempts[failure.cause or OTHER,] += 1
        if record.attempts > len(record.failures):
            self._attempts["ok",] += 1
        self._cost[model,] = self._cost.get((model,), 0.0) + (record.cost or 0.0)

    def text(self) -> str:
        """Return all metrics in Prometheus' text format."""
        page = Exposition(self._worker.config.label)
        self._describe_requests(page)
        self._describe_state(page)
        self._describe_pool(page)
        return page.text()

    def _describe_requests(self, page: Exposition) -> None:
        page.counter(
            "ccproxy_requests_total", "Requests to models.", self._requests, "model", "status"
        )
        page.histogram("ccproxy_request_seconds", "Until the end.", self._seconds, "model")
        page.histogram(
            "ccproxy_first_byte_seconds", "Until the first content.", self._first_byte, "model"
        )
        page.histogram(
            "ccproxy_overhead_seconds", "Until the request is converted.", self._overhead
        )
        page.counter("ccproxy_tokens_total", "Tokens.", self._tokens, "model", "type")
        page.counter("ccproxy_cost_dollars_total", "Known costs.", self._cost, "model")
        page.counter(
            "ccproxy_upstream_attempts_total", "Attempts by outcome.", self._attempts, "cause"
        )

    def _describe_state(self, page: Exposition) -> None:
        worker = self._worker
        running = worker.requests
        version = (__version__, platform.python_version())
        page.gauge(
            "ccproxy_requests_in_flight", "Requests being answered.", {(): len(running.tasks)}
        )
        page.gauge("ccproxy_draining", "1 during a drain.", {(): int(running.draining)})
        page.gauge("ccproxy_start_time_seconds", "When it started.", {(): worker.started})
        page.gauge("ccproxy_build_info", "Always 1.", {version: 1}, "version", "python")
        keys = Counter[str](key.state for key in worker.pool.snapshot())
        states: dict[Labels, float] = {(state,): keys[state] for state in _KEY_STATES}
        page.gauge("ccproxy_keys", "Keys of the pool by state.", states, "state")

    def _describe_pool(self, page: Exposition) -> None:
        if self._worker.shared_pool is None:
            return
        backend = self._worker.shared_pool.backend
        modes: dict[Labels, float] = {
            ("shared",): int(backend.is_shared),
            ("local",): int(not backend.is_shared),
        }
        page.gauge("ccproxy_pool_mode", "1 for the mode that holds.", modes, "mode")
        page.gauge("ccproxy_pool_members", "Replicas.", {(): len(backend.members)})
        page.histogram("ccproxy_redis_seconds", "Script calls.", self._redis)
        page.counter("ccproxy_redis_errors_total", "Failed calls.", {(): backend.errors})

    def _model(self, name: str) -> str:
        names = self._worker.chooser.tiers().values()
        return name if name in list(names)[:MAX_MODELS] else OTHER


def _status(status: int) -> str:
    return str(status) if status in _STATUSES else f"{status // 100}xx"
