"""What of a user's settings must never be shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from ccproxy.config.worker import WorkerConfig

SHORTEST = 8
"""Characters. What is shorter is part of ordinary words."""
_SUSPICIOUS = 16
"""Characters from which on the value of any header may be a secret."""
_SECRET_NAME = re.compile(r"auth|cookie|key|secret|token|password", re.IGNORECASE)
_SCHEME = re.compile(r"(?:Bearer|Basic|Token|ApiKey)\s+", re.IGNORECASE)


def secrets_of(config: WorkerConfig) -> tuple[str, ...]:
    """Return every secret of *config*, in every form in which it may come back."""
    found = (*config.api_keys, *config.client_keys, *_of_headers(config), *_of_proxy(config))
    return tuple(dict.fromkeys(secret for secret in found if len(secret) >= SHORTEST))


def _of_headers(config: WorkerConfig) -> Iterator[str]:
    for name, value in config.custom_headers.items():
        if len(value) >= _SUSPICIOUS or _SECRET_NAME.search(name):
            yield value
            # A provider quotes the credential without the word before it.
            yield _SCHEME.sub("", value, count=1)


def _of_proxy(config: WorkerConfig) -> Iterator[str]:
    address = config.upstream_proxy or ""
    password = urlsplit(address).password or ""
    if password:
        yield from (address, password, unquote(password))
