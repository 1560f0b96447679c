"""The metrics of a worker: names, kinds, labels and meanings."""

from __future__ import annotations

from ccproxy.worker.metrics.exposition import Metric

REQUESTS = Metric(
    "ccproxy_requests_total",
    "counter",
    "Model requests answered by this entry. `kind`: main (a turn of a session), "
    "subagent, or other.",
    ("model", "status", "kind"),
)
IN_FLIGHT = Metric("ccproxy_requests_in_flight", "gauge", "Requests that are being answered.")
SECONDS = Metric(
    "ccproxy_request_seconds", "histogram", "Time to the end of the answer.", ("model",)
)
FIRST_BYTE = Metric(
    "ccproxy_first_byte_seconds",
    "histogram",
    "Time to the first content of the answer.",
    ("model",),
)
OVERHEAD = Metric(
    "ccproxy_overhead_seconds", "histogram", "ccproxy's own time until a request is converted."
)
TOKENS = Metric(
    "ccproxy_tokens_total",
    "counter",
    "Tokens. `type`: input, output, cache_read, cache_write.",
    ("model", "type"),
)
COST = Metric(
    "ccproxy_cost_dollars_total",
    "counter",
    "Cost of requests to models with a known price.",
    ("model",),
)
ATTEMPTS = Metric(
    "ccproxy_upstream_attempts_total",
    "counter",
    "Attempts at the provider. `cause`: ok, or the kind of error, such as rate_limit, server "
    "or timeout.",
    ("cause",),
)
FALLBACKS = Metric(
    "ccproxy_fallbacks_total",
    "counter",
    "Requests that another entry answered because this one could not. `to`: the label of the "
    "entry that answered.",
    ("to",),
)
KEYS = Metric(
    "ccproxy_keys",
    "gauge",
    "Keys of the pool. `state`: ready, cooldown, out, rejected, disabled. With REDIS_URL, each "
    "replica reports the shared pool: take the maximum over the replicas, not the sum.",
    ("state",),
)
KEY_WAIT = Metric(
    "ccproxy_key_wait_seconds",
    "histogram",
    "How long an attempt waited for a key; with REDIS_URL, this includes the script call.",
)
BREAKER = Metric(
    "ccproxy_breaker_open",
    "gauge",
    "1 while a circuit breaker, for a model or for connections, refuses requests.",
)
POOL_MODE = Metric(
    "ccproxy_pool_mode",
    "gauge",
    "1 for the current mode: shared, or local if Redis is unavailable. Alert if `local` stays 1.",
    ("mode",),
)
POOL_MEMBERS = Metric("ccproxy_pool_members", "gauge", "Replicas that share the pool.")
REDIS_SECONDS = Metric("ccproxy_redis_seconds", "histogram", "Duration of script calls to Redis.")
REDIS_ERRORS = Metric(
    "ccproxy_redis_errors_total", "counter", "Failed calls to Redis and lost connections."
)
BUILD = Metric("ccproxy_build_info", "gauge", "Always 1.", ("version", "python"))
STARTED = Metric("ccproxy_start_time_seconds", "gauge", "When the worker started, in Unix time.")
DRAINING = Metric("ccproxy_draining", "gauge", "1 while the worker accepts no new requests.")

METRICS = (
    *(REQUESTS, IN_FLIGHT, SECONDS, FIRST_BYTE, OVERHEAD, TOKENS, COST, ATTEMPTS, FALLBACKS),
    *(KEYS, KEY_WAIT, BREAKER),
    *(POOL_MODE, POOL_MEMBERS, REDIS_SECONDS, REDIS_ERRORS),
    *(BUILD, STARTED, DRAINING),
)
"""All metrics, in the order of the reference page."""
