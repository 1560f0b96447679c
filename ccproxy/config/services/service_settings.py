"""Settings of the services that a proxy uses: Redis, metrics and traces."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ccproxy.config import settings as s
from ccproxy.config.reader import EnvReader
from ccproxy.config.services.monitoring_addresses import MetricsAddress, TracesAddress
from ccproxy.config.services.redis_address import RedisAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """The state that a proxy shares with replicas on other hosts, and its monitoring."""

    redis: RedisAddress | None
    """Where the state of the keys is; None: on this machine."""
    redis_timeout: float
    """Seconds that Redis may delay one request."""
    redis_replicas: int
    metrics: MetricsAddress | None
    """Where GET /metrics is served; None: nowhere."""
    traces: TracesAddress | None
    """Where spans are sent; None: nowhere."""
    signing_key: bytes = field(repr=False)
    """Signs thinking blocks; empty: a key generated on this machine."""


def read_services(env: EnvReader) -> ServiceSettings:
    """Read the settings of *env*; mistakes are noted in it."""
    env.check_extra(s.REDIS_URL, "hiredis", "redis")
    env.check_extra(s.TRACES, "opentelemetry", "otel")
    traces, headers = env.read(s.TRACES), env.read(s.TRACES_HEADERS)
    return ServiceSettings(
        redis=env.read(s.REDIS_URL),
        redis_timeout=env.read(s.REDIS_TIMEOUT),
        redis_replicas=env.read(s.REDIS_REPLICAS),
        metrics=env.read(s.METRICS),
        traces=None if traces is None else replace(traces, headers=headers),
        signing_key=env.read(s.SIGNING_KEY),
    )
