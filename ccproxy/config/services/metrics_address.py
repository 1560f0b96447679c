"""Where a proxy serves its metrics, read from METRICS."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ADDRESS = re.compile(r"(?:(?P<host>[^:\s/]+|\[[0-9a-fA-F:.]+\]):)?(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsAddress:
    """A port, or a unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""


def parse_metrics_address(value: str) -> MetricsAddress:
    """
    Parse `PORT`, on 127.0.0.1, `HOST:PORT` or `unix:PATH`.

    Raises:
        ValueError: If it is something else.

    """
    if value.startswith("unix:") and len(value) > len("unix:"):
        return MetricsAddress(path=value.removeprefix("unix:"))
    match = _ADDRESS.fullmatch(value)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ValueError(f'must be PORT, HOST:PORT or unix:PATH, got "{value}"')
    host = (match["host"] or "127.0.0.1").strip("[]")
    return MetricsAddress(host=host, port=int(match["port"]))
