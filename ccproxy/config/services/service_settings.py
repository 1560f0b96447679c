"""Settings for the services that a proxy uses: Redis, metrics and traces."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ccproxy.config import settings as s
from ccproxy.config.consistency import checked_bundle
from ccproxy.config.reader import EnvReader
from ccproxy.config.services.monitoring_addresses import MetricsAddress, TracesAddress
from ccproxy.config.services.redis_address import RedisAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """The state that a proxy shares with replicas on other hosts, and its monitoring."""

    redis: RedisAddress | None
    """The server that holds the state of the keys; None to keep it on this machine."""
    redis_timeout: float
    """Maximum seconds to connect to Redis, and for each of its replies."""
    redis_replicas: int
    """The number of replicas that this one assumes until it has reached Redis."""
    metrics: MetricsAddress | None
    """The address that serves GET /metrics, or None."""
    traces: TracesAddress | None
    """The address to which spans are sent, or None."""
    signing_key: bytes = field(repr=False)
    """The key that signs thinking blocks; if empty, one generated on this machine is used."""


def read_services(env: EnvReader) -> ServiceSettings:
    """Read the settings of *env*; mistakes are noted in it."""
    env.check_extra(s.REDIS_URL, "hiredis", "redis")
    env.check_extra(s.TRACES, "opentelemetry", "otel")
    traces, headers = env.read(s.TRACES), env.read(s.TRACES_HEADERS)
    redis = env.read(s.REDIS_URL)
    if redis is not None and redis.ca_bundle is not None:
        path = checked_bundle(env, s.REDIS_URL, redis.ca_bundle)
        redis = replace(redis, ca_bundle=str(path))
    return ServiceSettings(
        redis=redis,
        redis_timeout=env.read(s.REDIS_TIMEOUT),
        redis_replicas=env.read(s.REDIS_REPLICAS),
        metrics=env.read(s.METRICS),
        traces=None if traces is None else replace(traces, headers=headers),
        signing_key=env.read(s.SIGNING_KEY),
    )
