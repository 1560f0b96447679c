"""
The HTTP forward proxy for requests to a provider.

Environment variables are read as by curl and Go: lowercase takes precedence over uppercase,
and NO_PROXY is a list, separated by commas or spaces, of

    *                              every host
    example.com, .example.com      the name and its subdomains; also *.example.com
    10.1.2.3, [fd00::1], fd00::1   an address
    10.0.0.0/8, fd00::/8           a network
    10.0.*                         names and addresses with a wildcard

each of which may end in a port, and then applies only to that port.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from ccproxy.config.parsers import is_loopback, split_url

_PORTS = {"http": 80, "https": 443}
_WITH_PORT = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*):(?P<port>[0-9]{1,5})")


def proxy_for(
    url: str, configured: str | None, environ: Mapping[str, str] | None = None
) -> str | None:
    """
    Return the forward proxy for *url*: the configured one, otherwise the environment's.

    Loopback addresses never use one. NO_PROXY applies only to the environment's proxies.
    """
    if is_loopback(urlsplit(url).hostname or ""):
        return None
    if configured:
        return configured
    _, proxy = _from_environment(url, os.environ if environ is None else environ)
    return proxy if proxy and not _problem(proxy) else None


def unsupported_proxy(
    url: str, configured: str | None, environ: Mapping[str, str] | None = None
) -> str | None:
    """
    Return why the environment's proxy for *url* is not used, or None if it is used or not set.

    The address is not quoted: it may contain a password.
    """
    if configured or is_loopback(urlsplit(url).hostname or ""):
        return None
    name, proxy = _from_environment(url, os.environ if environ is None else environ)
    if not proxy or not (problem := _problem(proxy)):
        return None
    return (
        f"{name} is ignored: {problem}; requests to the provider are sent directly. Set "
        "UPSTREAM_PROXY to an http:// proxy"
    )


def _problem(proxy: str) -> str:
    """Return why *proxy* cannot be used, or an empty string."""
    scheme = proxy.partition("://")[0]
    if scheme not in _PORTS:
        return f"{scheme} proxies are not supported"
    try:
        split_url(proxy)
    except ValueError:
        return "it is not a valid address"
    return ""


def _from_environment(url: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the name and value of the variable that applies to *url*, both empty if none does."""
    parts = urlsplit(url)
    try:
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        port = 0
    if _is_excluded(parts.hostname or "", port, _variable("no_proxy", environ)[1]):
        return "", ""
    for variable in (f"{parts.scheme}_proxy", "all_proxy"):
        name, proxy = _variable(variable, environ)
        if proxy:
            scheme, separator, _ = proxy.partition("://")
            address = proxy if separator else f"http://{proxy}"
            return name, address.replace(scheme, scheme.lower(), 1) if separator else address
    return "", ""


def _variable(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    for spelling in (name, name.upper()):
        if value := environ.get(spelling, "").strip():
            return spelling, value
    return "", ""


def _is_excluded(host: str, port: int, no_proxy: str) -> bool:
    return any(_matches(host.lower().rstrip("."), port, entry) for entry in _entries(no_proxy))


def _entries(no_proxy: str) -> Iterator[str]:
    return (entry.lower() for entry in re.split(r"[,\s]+", no_proxy) if entry)


def _matches(host: str, port: int, entry: str) -> bool:
    if (with_port := _WITH_PORT.fullmatch(entry)) is not None:
        if int(with_port["port"]) != port:
            return False
        entry = with_port["host"]
    entry = entry.strip("[]")
    if entry == "*":
        return True
    if _is_in_network(host, entry):
        return True
    name = entry.rstrip(".").removeprefix("*.").removeprefix("*").removeprefix(".")
    if "*" in name:
        return fnmatchcase(host, entry)
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _is_in_network(host: str, network: str) -> bool:
    """Return True if *host* is the address *network*, or an address in that network."""
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False
