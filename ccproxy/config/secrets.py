"""What of a user's settings must never be shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
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


def masked_headers(headers: Iterable[tuple[str, str]], custom: Mapping[str, str]) -> dict[str, str]:
    """Return *headers* for a log: no credential, and of the *custom* ones the names only."""
    own = {name.lower() for name in custom}
    return {
        name: "…" if name.lower() in own or _SECRET_NAME.search(name) else value
        for name, value in headers
    }


def masked_url(url: str) -> str:
    """Return *url* for a log: without user and password, of its query the names only."""
    parts = urlsplit(url)
    names = [pair.partition("=")[0] for pair in parts.query.split("&") if pair]
    query = "&".join(f"{name}=…" for name in names)
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{place}?{query}" if query else place


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
