"""Checks of each provider: DNS name, connection, certificate, clock, key."""

from __future__ import annotations

import base64
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import SplitResult, unquote, urlsplit

from ccproxy.cli.connection_test import try_connection
from ccproxy.cli.doctor.finding import Finding, Scene, fail, ok, warn
from ccproxy.config.forward_proxy import proxy_for, unsupported_proxy
from ccproxy.config.parsers import is_loopback
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.text import printable

STEP_SECONDS = 3.0
"""The limit for each step. All providers are checked concurrently."""
KEY_TEST_SECONDS = 30.0
CLOCK_SKEW_SECONDS = 120.0
"""The largest accepted difference between our clock and a provider's."""
MAX_PARALLEL = 8

_UNTRUSTED = range(18, 22)
"""Errors for an unknown issuer: OpenSSL's X509_V_ERR_… (x509_vfy.h)."""


def providers(scene: Scene) -> Iterator[Finding]:
    """Check each provider's DNS, TCP and TLS over the route that the worker's requests take."""
    if not scene.connects:
        yield ok("not checked (--offline)")
        return
    configs = {
        config.base_url: config for config in scene.workers.values() if not config.serves_demo
    }
    with ThreadPoolExecutor(max_workers=MAX_PARALLEL) as pool:
        checks = [pool.submit(_provider, config, scene.environ) for config in configs.values()]
        for check in checks:
            yield from check.result()
    if not configs:
        yield ok("only the demo provider" if scene.workers else "no valid entry")


def keys(scene: Scene) -> Iterator[Finding]:
    """Send one small request through each running worker."""
    if not scene.tests_keys:
        yield ok("not tested; --online sends one small request to each provider")
        return
    running = {row.label for row in scene.rows if row.pids}
    for label, config in scene.workers.items():
        if label in running:
            yield _test_request(label, config)
        else:
            text = f"{label} is not running, so its keys cannot be tested"
            yield warn(text, fix=f"ccproxy start {label}")


def _provider(config: WorkerConfig, environ: Mapping[str, str]) -> list[Finding]:
    url = urlsplit(config.base_url)
    proxy = proxy_for(config.base_url, config.upstream_proxy, environ)
    if proxy is not None:
        return _through_proxy(config, url, urlsplit(proxy))
    if text := unsupported_proxy(config.base_url, config.upstream_proxy, environ):
        return [warn(f"{config.label}: {text}", fix="set UPSTREAM_PROXY=http://HOST:PORT")]
    host, port = _address(url)
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        text = f"{config.label}: the name {host} cannot be resolved (DNS)"
        return [fail(text, fix=f"check PROVIDER_BASE_URL; nslookup {host}")]
    try:
        socket.create_connection((host, port), STEP_SECONDS).close()
    except OSError as error:
        text = f"{config.label}: {host} port {port} cannot be reached ({_reason(error)})"
        if is_loopback(host):
            return [fail(text, fix="start the server there, or fix PROVIDER_BASE_URL")]
        return [fail(text, fix="check UPSTREAM_PROXY, VPN and firewall")]
    return _head_request(config, _connection(config, url.scheme, host, port), "/")


def _through_proxy(config: WorkerConfig, url: SplitResult, proxy: SplitResult) -> list[Finding]:
    """Check the provider through an HTTP proxy, which resolves the provider's name."""
    host, port = _address(url)
    proxy_host, proxy_port = _address(proxy)
    name = f"{proxy_host}:{proxy_port}"
    if proxy.scheme == "https":
        return [ok(f"{config.label}: through the proxy {name} (not tested: TLS to the proxy)")]
    login = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}"
    headers = {}
    if proxy.username:
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    connection = _connection(config, url.scheme, proxy_host, proxy_port)
    if url.scheme == "https":
        connection.set_tunnel(host, port, headers=headers)
        try:
            connection.connect()
        except ssl.SSLError:
            connection.close()  # the HEAD request connects again and reports the certificate
        except (OSError, UnicodeError) as error:
            text = f"{config.label}: {host} cannot be reached through {name} ({_reason(error)})"
            return [fail(text, fix="check UPSTREAM_PROXY or HTTPS_PROXY, and its login")]
        return _head_request(config, connection, "/", route=f" through {name}")
    target = f"http://{url.netloc.rpartition('@')[2]}/"
    return _head_request(config, connection, target, headers=headers, route=f" through {name}")


def _connection(config: WorkerConfig, scheme: str, host: str, port: int) -> HTTPConnection:
    if scheme != "https":
        return HTTPConnection(host, port, timeout=STEP_SECONDS)
    trust = ssl.create_default_context()
    if config.ca_bundle is not None:
        trust.load_verify_locations(cafile=config.ca_bundle)
    return HTTPSConnection(host, port, timeout=STEP_SECONDS, context=trust)


def _head_request(
    config: WorkerConfig,
    connection: HTTPConnection,
    target: str,
    *,
    headers: Mapping[str, str] | None = None,
    route: str = "",
) -> list[Finding]:
    """Send a HEAD request; report the certificate, the response time and the clock."""
    host, _ = _address(urlsplit(config.base_url))
    begin = time.monotonic()
    try:
        connection.request("HEAD", target, headers=dict(headers or {}))
        date = connection.getresponse().headers.get("Date")
    except ssl.SSLCertVerificationError as error:
        text = f"{config.label}: the certificate of {host} is refused: {error.verify_message}"
        own = "set CA_BUNDLE in the env file if a company's proxy intercepts TLS"
        other = "check PROVIDER_BASE_URL and the clock of this machine"
        return [fail(text, fix=own if error.verify_code in _UNTRUSTED else other)]
    except ssl.SSLError as error:
        text = f"{config.label}: the TLS handshake with {host} fails ({error.reason})"
        return [fail(text, fix="check PROVIDER_BASE_URL")]
    except (OSError, HTTPException, UnicodeError) as error:
        text = f"{config.label}: no HTTP response from {host}{route} ({_reason(error)})"
        return [warn(text, fix="try again; check UPSTREAM_PROXY, VPN and firewall")]
    finally:
        connection.close()
    milliseconds = (time.monotonic() - begin) * 1000
    text = f"{config.label}: {host} responds in {milliseconds:.0f} ms{route}"
    return [ok(text), *_clock_skew(date, host)]


def _clock_skew(date: str | None, host: str) -> list[Finding]:
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return []
    difference = time.time() - theirs
    if abs(difference) < CLOCK_SKEW_SECONDS:
        return []
    direction = "ahead of" if difference > 0 else "behind"
    text = f"the clock is {abs(difference):.0f} s {direction} that of {host}"
    return [warn(text, fix="timedatectl set-ntp true")]


def _test_request(label: str, config: WorkerConfig) -> Finding:
    try:
        report = try_connection(config, limit=KEY_TEST_SECONDS)
    except (OSError, ValueError):
        return fail(f"{label}: its worker does not respond", fix=f"ccproxy logs {label}")
    if report.get("status") == "success":
        return ok(f"{label}: {printable(str(report.get('model_used')))} responds")
    kind = printable(str(report.get("error_type") or "no response"))
    suggestions = [printable(str(text)) for text in report.get("suggestions") or ()]
    return fail(f"{label}: {kind}", fix=suggestions[0] if suggestions else f"ccproxy logs {label}")


def _address(url: SplitResult) -> tuple[str, int]:
    return url.hostname or "", url.port or (443 if url.scheme == "https" else 80)


def _reason(error: Exception) -> str:
    """Return the cause of a failed connection; a UnicodeError means an invalid host name."""
    match error:
        case TimeoutError():
            return f"no reply within {STEP_SECONDS:.0f} s"
        case UnicodeError():
            return "not a valid host name"
        case OSError(strerror=str(text)):
            return text
        case _:
            return printable(str(error))[:80] or type(error).__name__
