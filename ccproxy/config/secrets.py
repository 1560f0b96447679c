"""The secrets in a user's settings, which must never be shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote, urlsplit

from ccproxy.config.consistency import SECRET_NAME
from ccproxy.config.worker_config import WorkerConfig

MIN_LENGTH = 8
"""Characters. A shorter string may be part of ordinary words."""
_SUSPICIOUS_LENGTH = 16
"""Characters. A header value of at least this length may be a secret under any name."""
_SCHEME = re.compile(r"(?:Bearer|Basic|Token|ApiKey)\s+", re.IGNORECASE)


def secrets_of(config: WorkerConfig) -> tuple[str, ...]:
    """Return every secret of *config*, in every form in which a provider may return it."""
    secrets = (
        *config.api_keys,
        *config.client_keys,
        config.added_features.search_key,
        *_service_secrets(config),
        *_header_secrets(config),
        *_proxy_secrets(config),
    )
    return tuple(dict.fromkeys(secret for secret in secrets if len(secret) >= MIN_LENGTH))


def _service_secrets(config: WorkerConfig) -> Iterator[str]:
    services = config.services
    yield services.signing_key.decode("utf-8", "surrogateescape")
    if services.redis is not None:
        yield from (services.redis.password, services.redis.sentinel_password)
    if config.gateway.oidc is not None:
        yield config.gateway.oidc.client_secret
    if services.traces is not None:
        for value in services.traces.headers.values():
            yield value
            yield _SCHEME.sub("", value, count=1)


def masked_headers(headers: Iterable[tuple[str, str]], custom: Mapping[str, str]) -> dict[str, str]:
    """Return *headers* for a log, without credentials or the values of *custom* headers."""
    custom_names = {name.lower() for name in custom}
    return {
        name: "…" if name.lower() in custom_names or SECRET_NAME.search(name) else value
        for name, value in headers
    }


def masked_url(url: str) -> str:
    """Return *url* for a log, without its user, password or query values."""
    parts = urlsplit(url)
    names = [pair.partition("=")[0] for pair in parts.query.split("&") if pair]
    query = "&".join(f"{name}=…" for name in names)
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{address}?{query}" if query else address


def _header_secrets(config: WorkerConfig) -> Iterator[str]:
    for name, value in config.custom_headers.items():
        if len(value) >= _SUSPICIOUS_LENGTH or SECRET_NAME.search(name):
            yield value
            # Providers quote the credential without the scheme that precedes it.
            yield _SCHEME.sub("", value, count=1)


def _proxy_secrets(config: WorkerConfig) -> Iterator[str]:
    address = config.upstream_proxy or ""
    password = urlsplit(address).password or ""
    if password:
        yield from (address, password, unquote(password))
