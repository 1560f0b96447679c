"""A proxy that serves HTTPS itself."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl

import aiohttp
import pytest

from ccproxy.worker.gateway import server_tls
from tests.fleet import eventually
from tests.messages import ask, prompt
from tests.security.test_tls import certificate, needs_openssl
from tests.worker.family import Family

pytestmark = needs_openssl
PUBLIC = {"PUBLIC_URL": "https://localhost"}


@pytest.fixture
def files(tmp_path):
    cert, key = certificate(tmp_path, "localhost")
    return {"TLS_CERT": str(cert), "TLS_KEY": str(key)}


async def answered(url, cert):
    """Send a request over a new connection that trusts only *cert*."""
    trust = ssl.create_default_context(cafile=cert)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
        return await ask(session, url, prompt(stream=True))


async def test_https_is_served_and_http_is_not(start, files):
    proxy = await start(**files, **PUBLIC)
    url = proxy.url.replace("http://", "https://")
    assert (await answered(url, files["TLS_CERT"])).text == "ok"
    with pytest.raises(aiohttp.ClientError):
        await proxy.ask()


async def test_silent_connections_leave_room_for_clients(start, files, monkeypatch):
    """Each takes 300 KiB, and MAX_CONNECTIONS counts no connection before its handshake."""
    monkeypatch.setattr(server_tls, "MOST_HANDSHAKES", 4)
    monkeypatch.setattr(server_tls, "LEAST_SECONDS", 0.05)
    proxy = await start(**files, **PUBLIC)
    silent = [await asyncio.open_connection("127.0.0.1", proxy.port) for _ in range(12)]
    url = proxy.url.replace("http://", "https://")
    assert (await answered(url, files["TLS_CERT"])).text == "ok"
    await eventually(lambda: sum(reader.at_eof() for reader, _ in silent) >= 8)
    assert len(proxy.lifecycle._server._handshakes) <= 4
    for _, writer in silent:
        writer.close()


async def test_a_connection_accepted_as_the_listener_closes_is_served(files):
    """The event loop can accept it in the same turn in which a drain begins."""
    loop, context = asyncio.get_running_loop(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files["TLS_CERT"], files["TLS_KEY"])
    with socket.create_server(("127.0.0.1", 0)) as shared:
        listener = server_tls.TlsListener(shared.dup(), context, asyncio.Protocol, backlog=9)
        await asyncio.sleep(0)  # it waits for connections
        draining, drain = socket.socketpair()
        loop.add_reader(draining, lambda: (loop.remove_reader(draining), listener.close()))
        client = socket.create_connection(shared.getsockname())
        drain.send(b"x")
        client.setblocking(False)
        trust = ssl.create_default_context(cafile=files["TLS_CERT"])
        _, writer = await asyncio.wait_for(
            asyncio.open_connection(sock=client, ssl=trust, server_hostname="localhost"), 30
        )
        writer.close()
        assert listener._listener.fileno() == -1
        draining.close()
        drain.close()


async def test_a_renewed_certificate_is_used_for_the_next_connection(start, tmp_path, files):
    proxy = await start(**files, **PUBLIC)
    url = proxy.url.replace("http://", "https://")
    (tmp_path / "new").mkdir()
    cert, key = certificate(tmp_path / "new", "localhost")
    old = tmp_path / "old.pem"
    old.write_bytes((tmp_path / "localhost.pem").read_bytes())
    cert.replace(tmp_path / "localhost.pem")
    assert (await answered(url, old)).text == "ok", "its key is still missing"
    key.replace(tmp_path / "localhost.key")
    assert (await answered(url, tmp_path / "localhost.pem")).text == "ok"
    with pytest.raises(aiohttp.ClientError):
        await answered(url, old)
    assert [line["event"] for line in proxy.log if line["event"].startswith("tls.")] == [
        "tls.unreadable",
        "tls.reloaded",
    ]


async def test_a_link_to_a_certificate_may_change_its_target(start, tmp_path):
    """Certbot and Kubernetes renew certificates in this way."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        certificate(tmp_path / name, "localhost")
    live = tmp_path / "live"
    live.symlink_to("old")
    names = {"TLS_CERT": f"{live}/localhost.pem", "TLS_KEY": f"{live}/localhost.key"}
    proxy = await start(**names, **PUBLIC)
    url = proxy.url.replace("http://", "https://")
    assert (await answered(url, tmp_path / "old/localhost.pem")).text == "ok"
    (tmp_path / "next").symlink_to("new")
    (tmp_path / "next").replace(live)
    shutil.rmtree(tmp_path / "old")
    assert (await answered(url, tmp_path / "new/localhost.pem")).text == "ok"


async def test_a_peer_trusts_the_certificate_of_its_fleet(tmp_path, files):
    async with Family(tmp_path) as family:
        await family.start(Front={}, Back={**files, **PUBLIC})
        answer = await family.proxies["Front"].ask(prompt(model="Back:big"))
        assert answer.status == 200
        other, _ = certificate(tmp_path, "127.0.0.1")
        other.replace(tmp_path / "localhost.pem")
        refused = await family.proxies["Front"].ask(prompt(model="Back:big"))
    assert refused.status == 502
