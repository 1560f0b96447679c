"""
The metrics of a worker.

No label contains text from a client or provider: models that are not configured count as `other`,
and keys are counted by state only. This bounds the number of series.
"""

from __future__ import annotations

import platform
from collections import Counter

from ccproxy import __version__
from ccproxy.worker.metrics import declarations as d
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
_KEY_WAIT = (0.001, 0.01, 0.1, 1, 5, 30)
_TOKENS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_write": "cache_creation_input_tokens",
}
_KEY_STATES = ("ready", "cooldown", "out", "rejected", "disabled")


class WorkerMetrics:
    """Counts a worker's requests, and reports the worker's state on each scrape."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._requests: Counter[Labels] = Counter()
        self._tokens: Counter[Labels] = Counter()
        self._attempts: Counter[Labels] = Counter()
        self._fallbacks: Counter[Labels] = Counter()
        self._cost: dict[Labels, float] = {}
        self._seconds = Histogram(_SECONDS)
        self._first_byte = Histogram(_FIRST_BYTE)
        self._overhead = Histogram(_OVERHEAD)
        self._key_wait = Histogram(_KEY_WAIT)
        self._redis = Histogram(_REDIS)
        worker.activity.on_finish.append(self.note)
        worker.upstream.on_key_wait = self._key_wait.observe
        if worker.shared_pool is not None:
            worker.shared_pool.backend.on_call = self._redis.observe

    def note(self, record: AccessRecord) -> None:
        """Count a finished request."""
        if record.answered_by:  # the entry that answered counts it
            if record.is_fallback:
                self._fallbacks[record.answered_by,] += 1
            return
        model = self._model(record.model)
        self._requests[model, _status(record.status), _kind(record)] += 1
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
        """Return all metrics in the Prometheus text format."""
        page = Exposition(self._worker.config.label)
        self._describe_requests(page)
        self._describe_state(page)
        self._describe_pool(page)
        return page.text()

    def _describe_requests(self, page: Exposition) -> None:
        page.add(d.REQUESTS, self._requests)
        page.add_histogram(d.SECONDS, self._seconds)
        page.add_histogram(d.FIRST_BYTE, self._first_byte)
        page.add_histogram(d.OVERHEAD, self._overhead)
        page.add_histogram(d.KEY_WAIT, self._key_wait)
        page.add(d.TOKENS, self._tokens)
        page.add(d.COST, self._cost)
        page.add(d.ATTEMPTS, self._attempts)
        page.add(d.FALLBACKS, self._fallbacks)

    def _describe_state(self, page: Exposition) -> None:
        worker = self._worker
        running = worker.requests
        page.add(d.IN_FLIGHT, {(): len(running.tasks)})
        page.add(d.DRAINING, {(): int(running.draining)})
        page.add(d.STARTED, {(): worker.started})
        page.add(d.BUILD, {(__version__, platform.python_version()): 1})
        page.add(d.BREAKER, {(): int(bool(worker.upstream.breakers.open()))})
        keys = Counter[str](key.state for key in worker.pool.snapshot())
        page.add(d.KEYS, {(state,): keys[state] for state in _KEY_STATES})

    def _describe_pool(self, page: Exposition) -> None:
        if self._worker.shared_pool is None:
            return
        backend = self._worker.shared_pool.backend
        is_shared = backend.is_shared
        page.add(d.POOL_MODE, {("shared",): int(is_shared), ("local",): int(not is_shared)})
        page.add(d.POOL_MEMBERS, {(): len(backend.members)})
        page.add_histogram(d.REDIS_SECONDS, self._redis)
        page.add(d.REDIS_ERRORS, {(): backend.errors})

    def _model(self, name: str) -> str:
        names = self._worker.chooser.tiers().values()
        return name if name in list(names)[:MAX_MODELS] else OTHER


def _status(status: int) -> str:
    return str(status) if status in _STATUSES else f"{status // 100}xx"


def _kind(record: AccessRecord) -> str:
    if record.agent:
        return "subagent"
    return "main" if record.is_turn else OTHER
