"""Where a proxy serves its metrics and sends its traces: METRICS, TRACES and TRACES_HEADERS."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ccproxy.config.parsers import split_url, without_credentials
from ccproxy.files import expand_home
from ccproxy.protocol.headers import is_header_name, is_header_value

_TRACES_PATH = "/v1/traces"
"""The path for traces in OTLP over HTTP, used if the address has none."""
_METRICS_ADDRESS = re.compile(r"(?:(?P<host>[^:\s/]+|\[[0-9a-fA-F:.]+\]):)?(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsAddress:
    """A port, or a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""


def parse_metrics_address(value: str) -> MetricsAddress:
    """Parse `PORT` (on 127.0.0.1), `HOST:PORT` or `unix:PATH`."""
    if value.startswith("unix:") and len(value) > len("unix:"):
        return MetricsAddress(path=str(expand_home(value.removeprefix("unix:"))))
    match = _METRICS_ADDRESS.fullmatch(value)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ValueError(
            f'must be PORT, HOST:PORT or unix:PATH, got "{without_credentials(value)}"'
        )
    host = (match["host"] or "127.0.0.1").strip("[]")
    return MetricsAddress(host=host, port=int(match["port"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class TracesAddress:
    """The address to which spans are sent."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def parse_traces_url(value: str) -> TracesAddress:
    """
    Parse the address of an OTLP/HTTP collector.

    Raises:
        ValueError: If it is invalid; the message quotes neither a password nor a query.

    """
    split = split_url(value)
    if "@" in split.netloc or split.query or split.fragment:
        raise ValueError("must not contain a password or query: they belong in TRACES_HEADERS")
    url = split.geturl()
    return TracesAddress(url=url if split.path.strip("/") else url.rstrip("/") + _TRACES_PATH)


def parse_traces_headers(value: str) -> Mapping[str, str]:
    """
    Parse `Name=value,Name=value`.

    Raises:
        ValueError: If it is invalid; the message omits the values, which are secrets.

    """
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    headers = {name.strip(): text.strip() for name, _, text in pairs}
    if not all(
        is_header_name(name) and text and is_header_value(text) for name, text in headers.items()
    ):
        raise ValueError("must be like Authorization=Bearer …,X-Scope=…")
    return headers
