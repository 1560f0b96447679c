"""Selects the HTTP forward proxy for requests to a provider."""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from ccproxy.config.parsers import is_loopback


def proxy_for(
    url: str, configured: str | None, environ: Mapping[str, str] | None = None
) -> str | None:
    """
    Return the forward proxy for *url*: the configured one, else the environment's.

    Loopback addresses never have one. NO_PROXY applies to the environment's proxies only.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host):
        return None
    if configured:
        return configured
    source = os.environ if environ is None else environ
    variables = {name.lower(): value for name, value in source.items()}
    if _is_excluded(host, variables.get("no_proxy", "")):
        return None
    proxy = variables.get(f"{parts.scheme}_proxy") or variables.get("all_proxy") or ""
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    return proxy if proxy.startswith(("http://", "https://")) else None


def _is_excluded(host: str, no_proxy: str) -> bool:
    """Return True if NO_PROXY has *host*: `*`, a name and its subdomains, an address, a network."""
    for entry in (part.strip().lower() for part in no_proxy.split(",")):
        name = entry.rpartition(":")[0] if entry.count(":") == 1 else entry
        name = name.removeprefix("*").removeprefix(".")
        if entry == "*" or (name and (host == name or host.endswith(f".{name}"))):
            return True
        if "/" in entry and _is_in_network(host, entry):
            return True
    return False


def _is_in_network(host: str, network: str) -> bool:
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False
