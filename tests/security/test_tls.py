"""TLS: certificates are verified, redirects are not followed."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ccproxy.config.worker_config import load_worker
from ccproxy.errors import ConfigError
from tests.provider import completion, raw

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates")
WORD = b'{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},'
WORD += b'"finish_reason":"stop"}]}'


def certificate(folder: Path, name: str, *, days: int = 1) -> tuple[Path, Path]:
    """Create a self-signed certificate and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    names = "DNS:localhost,IP:127.0.0.1" if name == "localhost" else f"DNS:{name}"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"]
    words += ["-days", str(days), "-addext", f"subjectAltName={names}"]
    subprocess.run([*words, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def expired(folder: Path) -> tuple[Path, Path]:
    """Create a certificate that expired yesterday, and its key."""
    cert, key = certificate(folder, "localhost")
    again = [
        "openssl",
        "x509",
        "-in",
        *map(str, (cert, "-signkey", key, "-days", -1, "-out", cert)),
    ]
    subprocess.run(again, check=True, capture_output=True)
    return cert, key


class Impostor:
    """A TLS server that answers and records the requests."""

    def __init__(self) -> None:
        self.url = ""
        self.heard = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard += await reader.read(65536)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % len(WORD) + WORD)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def impostor(cert: Path, key: Path) -> AsyncIterator[Impostor]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = Impostor()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    server.url = f"https://localhost:{listener.sockets[0].getsockname()[1]}/v1"
    async with listener:
        yield server


@needs_openssl
async def test_an_untrusted_certificate_is_refused(start, tmp_path):
    async with impostor(*certificate(tmp_path, "localhost")) as server:
        proxy = await start(server.url)
        answer = await proxy.ask()
    assert answer.status == 502
    assert "certificate is not trusted" in answer.error["message"]
    assert server.heard == b"", "no key, no prompt, not a byte"


@needs_openssl
async def test_a_certificate_for_another_name_is_refused(start, tmp_path):
    cert, key = certificate(tmp_path, "evil.example")
    async with impostor(cert, key) as server:
        proxy = await start(server.url, CA_BUNDLE=str(cert))
        answer = await proxy.ask()
    assert answer.status == 502
    assert "certificate is for another name; check the host" in answer.error["message"]
    assert server.heard == b""


@needs_openssl
async def test_an_expired_certificate_is_refused(start, tmp_path):
    cert, key = expired(tmp_path)
    async with impostor(cert, key) as server:
        proxy = await start(server.url, CA_BUNDLE=str(cert))
        answer = await proxy.ask()
    assert answer.status == 502
    assert "certificate has expired: the server's operator" in answer.error["message"]
    assert server.heard == b""


async def test_a_server_without_tls_is_reported_as_such(start, provider):
    proxy = await start(provider.url.replace("http://", "https://"))
    answer = await proxy.ask()
    assert answer.status == 502
    assert "it does not speak TLS; check the port" in answer.error["message"]


@needs_openssl
async def test_an_authority_in_the_ca_bundle_is_trusted(start, tmp_path):
    cert, key = certificate(tmp_path, "localhost")
    async with impostor(cert, key) as server:
        proxy = await start(server.url, CA_BUNDLE=str(cert))
        answer = await proxy.ask()
    assert (answer.status, answer.text) == (200, "ok")
    assert b"Authorization" in server.heard


@needs_openssl
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_old_tls_versions_are_refused(version, start, tmp_path, recwarn):
    cert, key = certificate(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    recwarn.clear()  # Python deprecates these versions
    server = Impostor()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        proxy = await start(f"https://localhost:{port}/v1", CA_BUNDLE=str(cert))
        answer = await proxy.ask()
    assert answer.status == 502
    assert server.heard == b""


def test_verification_cannot_be_switched_off():
    for name in ("INSECURE_SKIP_VERIFY", "VERIFY", "SSL_VERIFY", "PROVIDER_SKIP_VERIFY"):
        environ = {"PROVIDER": "kimi", "PROVIDER_API_KEY": "sk-0123456789", name: "off"}
        assert load_worker(None, environ=environ).base_url.startswith("https://")


@pytest.mark.parametrize(
    "url",
    [
        "http://api.moonshot.ai/v1",
        "http://8.8.8.8/v1",
        "ftp://localhost/v1",
        "file:///etc/passwd",
        "gopher://localhost",
        "https://user:pass@api.example/v1",
        "https://api.example/v1?key=secret",
        "//api.example/v1",
        "https:///v1",
        "javascript:alert(1)",
        "https://api.example:99999/v1",
        "https://api exam.ple/v1",
    ],
)
def test_plain_http_to_a_public_address_is_refused(url):
    environ = {"PROVIDER_BASE_URL": url, "PROVIDER_API_KEY": "sk-0123456789"}
    with pytest.raises(ConfigError):
        load_worker(None, environ=environ)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status, start, provider):
    other = "http://169.254.169.254/latest/meta-data/"
    provider.script(raw(b"{}", status=status, headers={"Location": other}))
    proxy = await start()
    answer = await proxy.ask()
    assert answer.status >= 400
    assert len(provider.calls) == 1
    assert "169.254" not in str(answer.headers)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1:1/x.png",
        "http://[::ffff:169.254.169.254]/",
        "http://2130706433/",
        "file:///etc/passwd",
        "https://evil.example/x.png",
    ],
)
async def test_an_image_url_is_passed_on_and_never_fetched(url, start, provider):
    proxy = await start()
    picture = {"type": "image", "source": {"type": "url", "url": url}}
    provider.script(completion("ok"))
    body = {"model": "claude-opus-4-1", "max_tokens": 9}
    body["messages"] = [{"role": "user", "content": [picture, {"type": "text", "text": "?"}]}]
    answer = await proxy.ask(body)
    assert answer.status in (200, 400)
    assert all(call.path.endswith("/chat/completions") for call in provider.calls)
    assert provider.other == []
