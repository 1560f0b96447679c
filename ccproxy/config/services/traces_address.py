"""The collector of traces, read from TRACES and TRACES_HEADERS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PATH = "/v1/traces"
"""Where OTLP over HTTP takes traces, if the address has no path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracesAddress:
    """Where spans are sent."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def parse_traces_url(value: str) -> TracesAddress:
    """
    Parse the address of a collector of OTLP over HTTP.

    Raises:
        ValueError: Without the value, which may contain a password.

    """
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("must be an http:// or https:// address, such as http://collector:4318")
    if url.username is not None or url.password is not None or url.query:
        raise ValueError("must not contain a password or query: they belong in TRACES_HEADERS")
    return TracesAddress(url=value if url.path.strip("/") else f"{value.rstrip('/')}{PATH}")


def parse_traces_headers(value: str) -> Mapping[str, str]:
    """
    Parse `Name=value,Name=value`.

    Raises:
        ValueError: Without the values, which are secrets.

    """
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(name.strip() and text.strip() for name, _, text in pairs):
        raise ValueError("must be like Authorization=Bearer …,X-Scope=…")
    return {name.strip(): text.strip() for name, _, text in pairs}
