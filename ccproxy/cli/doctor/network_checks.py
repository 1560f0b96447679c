"""Each provider: its name, a connection, its certificate, the clock, the key."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from ccproxy.cli.connection_test import try_connection
from ccproxy.cli.doctor.finding import Finding, Scene, fail, ok, warn
from ccproxy.config.parsers import is_loopback
from ccproxy.config.worker import WorkerConfig
from ccproxy.text import printable

LIMIT = 3.0
"""Seconds for each step; the providers are looked at all at once."""
KEY_LIMIT = 30.0
SKEW = 120.0
"""Seconds by which our clock may differ from a provider's."""

_UNTRUSTED = range(18, 22)
"""Certificates that nobody known has signed: OpenSSL's X509_V_ERR_… (x509_vfy.h)."""


def providers(scene: Scene) -> Iterator[Finding]:
    """DNS, TCP, TLS, in this order; the first that fails is told."""
    if not scene.asks_providers:
        yield ok("not asked (--offline)")
        return
    asked = {config.base_url: config for config in scene.workers.values() if not config.serves_demo}
    with ThreadPoolExecutor(max_workers=8) as pool:
        for found in pool.map(_provider, asked.values()):
            yield from found
    if not asked:
        yield ok("only the demo provider")


def keys(scene: Scene) -> Iterator[Finding]:
    """One tiny request through each worker that runs."""
    if not scene.asks_keys:
        yield ok("not asked; with --online each provider gets one tiny request")
        return
    running = {row.label for row in scene.status.proxies if row.pids} if scene.status else set()
    for label, config in scene.workers.items():
        if label in running:
            yield _key(label, config)
        else:
            yield warn(f"{label} does not run and cannot be asked", fix=f"ccproxy start {label}")


def _provider(config: WorkerConfig) -> list[Finding]:
    split = urlsplit(config.base_url)
    host = split.hostname or ""
    port = split.port or (443 if split.scheme == "https" else 80)
    if config.upstream_proxy:
        return [ok(f"{config.label}: through the proxy that UPSTREAM_PROXY names")]
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return [fail(f"{config.label}: the name {host} is not known (DNS)", fix=f"nslookup {host}")]
    try:
        with socket.create_connection((host, port), LIMIT):
            pass
    except OSError as error:
        text = f"{config.label}: {host} port {port} cannot be reached ({_words(error)})"
        if is_loopback(host):
            return [fail(text, fix="start the server there, or correct PROVIDER_BASE_URL")]
        return [fail(text, fix="check the way out: UPSTREAM_PROXY, VPN, firewall")]
    return _greet(config, host, port)


def _greet(config: WorkerConfig, host: str, port: int) -> list[Finding]:
    """Shake hands and read the clock, as far as a HEAD request tells it."""
    connection: HTTPConnection = HTTPConnection(host, port, timeout=LIMIT)
    if urlsplit(config.base_url).scheme == "https":
        trust = ssl.create_default_context()
        if config.ca_bundle is not None:
            trust.load_verify_locations(cafile=config.ca_bundle)
        connection = HTTPSConnection(host, port, timeout=LIMIT, context=trust)
    begun = time.monotonic()
    try:
        connection.request("HEAD", "/")
        date = connection.getresponse().headers.get("Date")
    except ssl.SSLCertVerificationError as error:
        text = f"{config.label}: the certificate of {host} is refused: {error.verify_message}"
        own = "set CA_BUNDLE in the env file if a company's proxy is in between"
        other = "check PROVIDER_BASE_URL and the clock of this machine; else its owner must mend it"
        return [fail(text, fix=own if error.verify_code in _UNTRUSTED else other)]
    except ssl.SSLError as error:
        text = f"{config.label}: {host} does not speak TLS as it should ({error.reason})"
        return [fail(text, fix="check PROVIDER_BASE_URL")]
    except (OSError, HTTPException):
        return [
            warn(f"{config.label}: {host} answers nothing within {LIMIT:.0f} s", fix="try again")
        ]
    finally:
        connection.close()
    took = (time.monotonic() - begun) * 1000
    return [ok(f"{config.label}: {host} answers in {took:.0f} ms"), *_skew(date, host)]


def _skew(date: str | None, host: str) -> list[Finding]:
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return []
    difference = time.time() - theirs
    if abs(difference) < SKEW:
        return []
    way = "ahead of" if difference > 0 else "behind"
    text = f"the clock is {abs(difference):.0f} s {way} that of {host}"
    return [warn(text, fix="timedatectl set-ntp true")]


def _key(label: str, config: WorkerConfig) -> Finding:
    try:
        said = try_connection(config, limit=KEY_LIMIT)
    except (OSError, ValueError):
        return fail(f"{label}: its worker does not answer", fix=f"ccproxy logs {label}")
    if said.get("status") == "success":
        return ok(f"{label}: {printable(str(said.get('model_used')))} answers")
    kind = printable(str(said.get("error_type") or "no answer"))
    advice = [str(text) for text in said.get("suggestions") or ()]
    return fail(f"{label}: {kind}", fix=printable(advice[0]) if advice else f"ccproxy logs {label}")


def _words(error: OSError) -> str:
    return (
        "no answer" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
    )
